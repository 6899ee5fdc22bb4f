"""Cloning chunks of actions, by regression or by diffusion: BC's kin with a memory."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..datasets import Demonstrations
from ..robots import InputError, Spaces, Task, view_mask
from .agents.base import Average
from .chunk_policy import ChunkPolicy
from .chunks import ChunkDiffusion, ChunkModel, ChunkRegression, ChunkShape, Predicted, Receding, Solver, Windows, drawn
from .diffusion import most_of_second_order, signal_levels
from .few_steps import errors_in_going_as_far
from .goals import Aim, seen
from .networks import Normaliser
from .offline import Regression
from .optimisers import Adam
from .policy import Policy
from .training import State


@dataclasses.dataclass(frozen=True)
class ChunkConfig:
    """From the last ``history`` observations to the next ``chunk`` actions, of which ``acts`` are taken before it is
    asked again.

    ``model`` is ``diffusion``, which has the expert's distribution, or ``regression``, its plain control, which has the
    mean. Diffusion noises chunks to one of ``times`` (ᾱ a squared cosine), learns to predict the ``noise`` in them or
    the ``chunk`` without it (``learner=diffusion_policy`` has the second), and draws them in ``samples`` steps of
    ``solver``: ``ddim``, or ``dpm``, the better one where they are few and the network was trained to the end. The last
    ``distil`` of the updates teach the network to go in each of its ``samples`` steps as far as it does in several, of
    ``distil_from`` in all (:func:`~.few_steps.errors_in_going_as_far`); each takes some 1 + ``distil_from`` / 3
    ``samples`` times as long, and a run that is given more ``steps`` afterwards goes on with it. The policy to deploy
    has an average of the parameters with power ``averaging`` (:class:`~.agents.base.Average`).
    ``steps`` counts updates on ``batch_size`` rows. ``view`` names the parts of the observation that it may see.

    With ``goals`` it is told where to go: while learning where the episode came to within the next ``goal_steps``,
    and in the task the task's goal. Diffusion is not told in a share ``goal_dropout`` of the rows, so that ``guidance``
    can lead it further towards the goal than the demonstrators went (1 is as they did).
    """

    steps: int = 30_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-6
    hidden: tuple[int, ...] = (256, 256, 256)
    model: Literal["diffusion", "regression"] = "diffusion"
    history: int = 2
    chunk: int = 16
    acts: int = 8
    times: int = 100
    samples: int = 10
    solver: Solver = "ddim"
    predicts: Predicted = "noise"
    distil: int = 0
    distil_from: int = 30
    averaging: float | None = 8.0
    view: tuple[str, ...] = ()
    goals: bool = False
    goal_steps: int = 100
    goal_dropout: float = 0.1
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if self.acts > self.chunk:
            raise InputError(
                f"loop.acts={self.acts}: a chunk has loop.chunk={self.chunk} actions: take no more of them"
            )
        if self.samples > self.times:
            raise InputError(f"loop.samples={self.samples}: there are loop.times={self.times} to go through at most")
        if self.model == "diffusion" and self.solver == "dpm":
            most = most_of_second_order(signal_levels(self.times, "squaredcos_cap_v2"))
            if self.samples > most:
                raise InputError(
                    f"loop.samples={self.samples}: of loop.times={self.times} loop.solver=dpm goes through {most} at "
                    "most: give fewer, or loop.solver=ddim"
                )
        if self.distil:
            self._check_distilling()

    def _check_distilling(self) -> None:
        given = f"loop.distil={self.distil}"
        if self.distil >= self.steps:
            raise InputError(f"{given}: they are the last of steps={self.steps}, and something must be learned before")
        if self.predicts != "chunk":
            raise InputError(
                f"{given}: the noise in what is all noise says nothing of a chunk: add loop.predicts=chunk"
            )
        if self.solver != "ddim":
            raise InputError(f"{given}: the steps that are taught are those of loop.solver=ddim: choose it")
        if self.distil_from % self.samples or not self.samples < self.distil_from <= self.times:
            raise InputError(
                f"loop.distil_from={self.distil_from}: a multiple of loop.samples={self.samples} is expected, at most "
                f"loop.times={self.times}"
            )


class ChunkCloning(Regression):
    """R clonings of chunks from the same demonstrations, each with its own initialisation and batches."""

    def __init__(
        self,
        config: ChunkConfig,
        task: Task,
        spaces: Spaces,
        demonstrations: Demonstrations,
        normaliser: Normaliser,
        seeds: list[int],
        device: torch.device | str = "cpu",
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(config.steps, config.batch_size, seeds, device)
        self.config, self.task, self.spaces = config, task, spaces
        self.aim = Aim.of(task, "loop.goals") if config.goals else None
        sizes = (spaces.observation_size, spaces.action_size, config.history, config.chunk, config.acts)
        shape = ChunkShape(*sizes, goal=self.aim.goal.size if self.aim else 0)
        self._windows = Windows(demonstrations, shape).to(self.device)
        view = view_mask(task, config.view, "loop.view")
        if self.aim is not None:
            view = self.aim.visible(view, spaces.observation_size, "loop.view")
        self.normaliser = normaliser.hiding(view).to(self.device)
        self.model = self._make(shape).to(self.device)
        for stack in self.model.stacks():
            stack.initialise(self.generators)
        self.averaged = copy.deepcopy(self.model)
        for stack in self.model.stacks():
            stack.set_precision(precision)
        self._averages = nn.ModuleList(Average(config.averaging) for _ in self.model.stacks()).to(self.device)
        self.optimiser = self._fresh_optimiser()
        self.teacher: ChunkDiffusion | None = None

    def _fresh_optimiser(self) -> Adam:
        return Adam(self.model.stacks(), self.config.learning_rate, weight_decay=self.config.weight_decay)

    def _make(self, shape: ChunkShape) -> ChunkModel:
        config, runs = self.config, len(self.seeds)
        if config.model == "regression":
            return ChunkRegression(runs, shape, config.hidden)
        signal = signal_levels(config.times, "squaredcos_cap_v2")
        return ChunkDiffusion(
            runs, shape, config.hidden, signal, config.samples, guidance=config.guidance, solver=config.solver,
            predicts=config.predicts,
        )  # fmt: skip

    @property
    def row_count(self) -> int:
        """Windows to learn from."""
        return len(self._windows)

    @property
    def _stops_at(self) -> int:
        """Where the teaching of few steps begins, and the end."""
        alone = self.total - self.config.distil
        return alone if self.config.distil and self.steps < alone else self.total

    def advance(self) -> Mapping[str, Tensor]:
        """The next hundred updates at most, of which the last ``distil`` have a teacher; returns the last metrics."""
        if self.config.distil and self.teacher is None and self.steps >= self.total - self.config.distil:
            self._learn_from(copy.deepcopy(self.averaged))
            self.model.load_state_dict(self.averaged.state_dict())
            for stack in self.model.stacks():
                stack.refresh()
            for average in self._averages:
                assert isinstance(average, Average)
                average.updates.zero_()
            self.optimiser = self._fresh_optimiser()
        return super().advance()

    def _learn_from(self, teacher: ChunkModel) -> None:
        """As the teacher; the guidance that it follows is learned from it."""
        assert isinstance(teacher, ChunkDiffusion)
        self.teacher, teacher.samples, teacher.guidance = teacher, self.config.distil_from, self.config.guidance
        for model in (self.model, self.averaged):
            assert isinstance(model, ChunkDiffusion)
            model.guidance = 1.0

    def step(self, rows: Tensor) -> Tensor:
        """One update on windows by number (R, B); returns the loss (R,)."""
        window, said, known = self._windows[rows]
        inputs, chunks = self._seen(window, rows), said.flatten(2)
        if self.teacher is None:
            errors = self.model.errors(inputs, chunks, self.generators)
        else:
            assert isinstance(self.model, ChunkDiffusion)
            errors = errors_in_going_as_far(self.model, self.teacher, inputs, chunks, self.generators)
        counted = known.expand_as(said).flatten(2)
        loss = (errors * counted).sum((1, 2)) / counted.sum((1, 2))
        self.optimiser.step(loss.sum())
        for average, mine, theirs in zip(self._averages, self.averaged.stacks(), self.model.stacks(), strict=True):
            assert isinstance(average, Average)
            average.follow(mine, theirs)
        return loss.detach()

    def _seen(self, window: Tensor, rows: Tensor) -> Tensor:
        """What the networks see (R, B, S) of windows (R, B, H, O), with goals that the episodes reached."""
        if self.aim is None:
            return seen(window, self.normaliser, None)
        reached = self._windows.reached(rows, self.generators.uniform((rows.shape[1],)), self.config.goal_steps)
        said = None
        if self.config.model == "diffusion":
            said = (self.generators.uniform((rows.shape[1], 1)) >= self.config.goal_dropout).float()
        return seen(window, self.normaliser, self.aim, reached, said)

    def controller(self, seeds: Sequence[int] | None = None) -> Receding:
        """What acts in episodes that start together, each with draws of its own, by its seed."""
        shape = self.model.shape

        def plan(window: Tensor, planned: Tensor) -> Tensor:
            noise = drawn(seeds, planned, shape.said).to(self.device)
            inputs = seen(window, self.normaliser, self.aim)
            return self.averaged.chunk(inputs, noise.expand(len(inputs), -1, -1)).unflatten(-1, (shape.chunk, -1))

        return Receding(torch.no_grad()(plan), shape)

    def act(self, observations: Tensor) -> Tensor:
        """First actions of episodes (R, E, A) in [−1, 1] for observations (R, E, O)."""
        return self.controller()(observations)

    def policy(self, run: int, training: Mapping[str, Any]) -> Policy:
        """The deployable policy of one run."""
        return ChunkPolicy.of_model(self.averaged, run, self.normaliser, self.task, self.spaces, training, self.aim)

    def state(self) -> State:
        """Everything that decides how the training goes on."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        tensors |= {f"averages.{k}": v for k, v in self._averages.state_dict().items()}
        if self.teacher is not None:
            tensors |= {f"teacher.{k}": v for k, v in self.teacher.state_dict().items()}
        return self._with_clock(tensors)

    def set_state(self, state: State) -> None:
        """Continue from :meth:`state`: on the CPU bit-equal to never having stopped."""
        for module, name in ((self.model, "model"), (self.averaged, "averaged"), (self._averages, "averages")):
            module.load_state_dict(state.part(name))
        for stack in self.model.stacks():
            stack.refresh()
        self.teacher = None
        if taught := state.part("teacher"):
            self._learn_from(copy.deepcopy(self.averaged))
            assert self.teacher is not None
            self.teacher.load_state_dict(taught)
        self._set_clock(state)
