"""The deployable policy whose network says chunks of actions: the same verbs, and a memory between steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ..robots import Goal, InputError, Spaces, Task
from .chunks import (
    ChunkDiffusion,
    ChunkModel,
    ChunkRegression,
    ChunkShape,
    Memory,
    Plan,
    Predicted,
    Receding,
    Solver,
    drawn,
    step,
)
from .diffusion import most_of_second_order
from .goals import Aim, seen
from .networks import Normaliser
from .policy import Policy, PolicyConfig


@dataclasses.dataclass(frozen=True)
class ChunkPolicyConfig(PolicyConfig):
    """What `config.json` says of a policy with chunks: ``head`` is ``chunk`` or ``chunk-diffusion``.

    ``history`` observations go in, and of the ``chunk`` actions that come out ``acts`` are taken. Diffusion has
    ``times`` noise levels and draws in ``samples`` steps of ``solver``, which may be changed here at will: fewer
    are faster, but for one that was distilled, which has learned its own; so may ``guidance``. What its network
    ``predicts`` is the noise in a chunk, or the chunk without it. It is told a goal of ``goal`` numbers (0: it is not):
    ``place``, or the observation's last ones.
    """

    history: int = 1
    chunk: int = 1
    acts: int = 1
    times: int = 1
    samples: int = 1
    solver: Solver = "ddim"  # that of policies of before it was said, as is the next
    predicts: Predicted = "noise"
    goal: int = 0
    place: tuple[float, ...] | None = None
    guidance: float = 1.0

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Self:
        """From the values of `config.json`. Errors: :class:`ValueError` with a clause that says why."""
        config = super().of_json(values)
        if config.acts > config.chunk:
            raise ValueError("'acts' must be at most 'chunk'")
        if config.samples > config.times:
            raise ValueError("'samples' must be at most 'times'")
        if config.place is not None and len(config.place) != config.goal:
            raise ValueError("'place' must have as many numbers as 'goal' says")
        return config

    @property
    def shape(self) -> ChunkShape:
        """What goes in and out."""
        return ChunkShape(self.observation_size, self.action_size, self.history, self.chunk, self.acts, self.goal)


class ChunkPolicy(Policy):
    """A controller that plans some steps ahead. :meth:`controller` acts in episodes, :meth:`predict` keeps its memory
    in the state that it returns; :meth:`act` alone takes every observation for the first of an episode."""

    config_class = ChunkPolicyConfig
    heads = ("chunk", "chunk-diffusion")

    def __init__(self, config: PolicyConfig) -> None:
        assert isinstance(config, ChunkPolicyConfig)
        self._sizes = config
        self._aim = Aim(Goal(config.goal, config.place)) if config.goal else None
        super().__init__(config)

    def make_network(self) -> nn.Module:
        """The model of chunks of one run."""
        config = self._sizes
        if config.head == "chunk":
            return ChunkRegression(1, config.shape, config.hidden, config.activation)
        signal = torch.zeros(config.times)  # the file has them
        given = config.samples, config.activation, config.guidance, config.solver, config.predicts
        return ChunkDiffusion(1, config.shape, config.hidden, signal, *given)

    def problem(self) -> str | None:
        """What of its settings does not go with its noise schedule, as a clause."""
        model = self.model
        if not isinstance(model, ChunkDiffusion) or model.solver != "dpm":
            return None
        most = most_of_second_order(model.predictor.signal)
        if model.samples <= most:
            return None
        return f"'samples' must be at most {most}, which is how many of its times 'dpm' goes through"

    @property
    def model(self) -> ChunkModel:
        """The network."""
        assert isinstance(self.net, ChunkModel)
        return self.net

    @classmethod
    def of_model(
        cls,
        model: ChunkModel,
        run: int,
        normaliser: Normaliser,
        task: Task,
        spaces: Spaces,
        training: Mapping[str, Any],
        aim: Aim | None = None,
    ) -> Self:
        """The policy of one run of a stacked model, which goes where ``aim`` says."""
        shape = model.shape
        diffusion = isinstance(model, ChunkDiffusion)
        solver: Solver = model.solver if isinstance(model, ChunkDiffusion) else "ddim"
        predicts: Predicted = model.predicts if isinstance(model, ChunkDiffusion) else "noise"
        config = ChunkPolicyConfig(
            **cls.described(task, spaces, normaliser, training),
            head="chunk-diffusion" if diffusion else "chunk",
            hidden=model.stacks()[-1].sizes[1:-1],
            activation=model.stacks()[-1].activation,
            history=shape.history,
            chunk=shape.chunk,
            acts=shape.acts,
            times=len(model.predictor.signal) if diffusion else 1,
            samples=model.samples if diffusion else 1,
            solver=solver,
            predicts=predicts,
            goal=shape.goal,
            place=aim.goal.place if aim else None,
            guidance=model.guidance if diffusion else 1.0,
        )
        policy = cls(config)
        with torch.no_grad():
            for mine, theirs in zip(policy.model.stacks(), model.stacks(), strict=True):
                for own, other in zip(mine.master(), theirs.master(), strict=True):
                    own.copy_(other[run : run + 1])
        if isinstance(model, ChunkDiffusion) and isinstance(policy.net, ChunkDiffusion):
            policy.net.predictor.signal.copy_(model.predictor.signal)
        policy.normaliser.load_state_dict(normaliser.state_dict())
        return policy

    @property
    def goal(self) -> Goal | None:
        """Where it is told to go; none when it is told nothing."""
        return None if self._aim is None else self._aim.goal

    def go_to(self, goal: Sequence[float] | None) -> None:
        """Go to a place (G,) from the next plan on, instead of where the task has it go; back to that without one.

        Errors: :class:`InputError` for a policy that is told no goal, or one of another size.
        """
        config = self._sizes
        if not config.goal:
            raise InputError("this policy is told no goal: train one with loop.goals=true")
        if goal is not None and len(goal) != config.goal:
            raise InputError(f"the goal has {len(goal)} numbers, and this policy is told {config.goal}")
        self._aim = Aim(Goal(config.goal, config.place if goal is None else tuple(map(float, goal))))

    def controller(self, seeds: Sequence[int] | None = None, *, deterministic: bool = True) -> Receding:
        """What acts in episodes that start together: observations (..., E, O) to actions (..., E, A) in [−1, 1].

        A diffusion model draws its chunks: each episode's by its seed (by its number without ``seeds``), the same every
        time, or, unless ``deterministic``, from the stream that :meth:`seed` restarts.

        Errors: :class:`InputError` for a sample of a model that has no distribution.
        """
        return Receding(self._planner(seeds, deterministic=deterministic), self._sizes.shape)

    @property
    def shape(self) -> ChunkShape:
        """What goes into a plan and comes out of it."""
        return self._sizes.shape

    @torch.no_grad()
    def plan_of(self, windows: Tensor, noise: Tensor | None) -> Tensor:
        """Chunks (B, K, A) in [−1, 1] for windows (B, H, O), drawn by standard normal noise (B, K · A) if at all."""
        inputs = seen(windows, self.normaliser, self._aim).unsqueeze(0)
        drawn_by = windows.new_zeros(1, windows.shape[0], self.shape.said) if noise is None else noise.unsqueeze(0)
        return self.model.chunk(inputs, drawn_by).view(windows.shape[0], self.shape.chunk, self.shape.action_size)

    def _planner(self, seeds: Sequence[int] | None, *, deterministic: bool) -> Plan:
        if not deterministic and self.config.head == "chunk":
            raise InputError("this policy is deterministic: it has no distribution to sample from")
        shape = self.shape

        def plan(window: Tensor, planned: Tensor) -> Tensor:
            rows = window.reshape(-1, *window.shape[-2:])
            if deterministic:
                noise = drawn(seeds, planned, shape.said).expand(len(rows) // len(planned), -1, -1)
            else:
                noise = torch.randn((len(rows), shape.said), generator=self._generator)
            said = self.plan_of(rows, noise.reshape(-1, shape.said).to(rows.device))
            return said.view(*window.shape[:-2], shape.chunk, shape.action_size)

        return plan

    def act(self, observations: Tensor, *, deterministic: bool = True) -> Tensor:
        """First actions of episodes (..., A) in [−1, 1] for observations (..., O); float32."""
        rows = observations.reshape(-1, self.config.observation_size)
        actions = self.controller(deterministic=deterministic)(rows)
        return actions.view(*observations.shape[:-1], self.config.action_size)

    def predict(
        self,
        observation: np.ndarray,
        state: Memory | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Memory]:
        """Actions in the environment's units: (O,) -> (A,), or (N, O) -> (N, A); as stable-baselines3's recurrent ones.

        Pass the returned state to the next call; without one, and where ``episode_start`` (N,) is true, an episode
        begins. Errors: :class:`InputError` for an observation of another size or one that is not finite, and for a
        state of another number of them.
        """
        seen = self._observations(observation)
        rows = seen.reshape(-1, seen.shape[-1])
        if state is not None and len(state.taken) != len(rows):
            raise InputError(f"the state is of {len(state.taken)} episodes, the observation of {len(rows)}: begin anew")
        starts = None
        if episode_start is not None:
            starts = torch.as_tensor(np.asarray(episode_start, bool).reshape(-1), device=rows.device)
        plan = self._planner(None, deterministic=deterministic)
        actions, memory = step(state, rows, self._sizes.shape, plan, starts)
        return self._scaled(actions.view(*seen.shape[:-1], -1)), memory
