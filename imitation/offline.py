"""Learning from the demonstrations alone: behaviour cloning."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ..datasets import Demonstrations
from ..robots import InputError, Spaces, Task, view_mask
from .networks import DeterministicActor, GaussianActor, Normaliser
from .optimisers import Adam
from .policy import Policy
from .randomness import Generators
from .training import State, WithoutSteps


@dataclasses.dataclass(frozen=True)
class CloningConfig:
    """Behaviour cloning by ``loss``: ``squared-error`` of a deterministic actor, or ``likelihood`` of a Gaussian.

    ``steps`` counts updates on ``batch_size`` rows drawn with replacement. Expert actions at the edge of the
    range are moved inside by 1e-5 for the likelihood, which is infinite at the edge. ``view`` names the parts of the
    observation that the policy may see (:func:`understudy.robots.view_mask`; all when empty).
    """

    steps: int = 20_000
    batch_size: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    hidden: tuple[int, ...] = (256, 256)
    loss: Literal["squared-error", "likelihood"] = "squared-error"
    view: tuple[str, ...] = ()


class Regression(WithoutSteps, abc.ABC):
    """R regressions on rows of demonstrations: a clock of updates, and a stream of batches for each run."""

    optimiser: Adam

    def __init__(self, steps: int, batch_size: int, seeds: list[int], device: torch.device | str) -> None:
        self.seeds, self.device = seeds, torch.device(device)
        self.generators = Generators(seeds, self.device)
        self.steps = 0
        self._total, self._batch_size = steps, batch_size

    @property
    def total(self) -> int:
        """Updates when finished."""
        return self._total

    @property
    @abc.abstractmethod
    def row_count(self) -> int:
        """How many rows there are to learn from."""

    @abc.abstractmethod
    def step(self, rows: Tensor) -> Tensor:
        """One update on rows by number (R, B); returns the loss (R,)."""

    @property
    def _stops_at(self) -> int:
        """The update at which :meth:`advance` stops at the latest."""
        return self.total

    def advance(self) -> Mapping[str, Tensor]:
        """The next hundred updates; returns the last one's metrics, each (R,)."""
        count = min(100, self._stops_at - self.steps)
        self.steps += count
        return {"cloning_loss": self.update(count)}

    def update(self, count: int) -> Tensor:
        """Make ``count`` updates; returns the last one's loss (R,)."""
        indices = self.generators.integers(self.row_count, (count, self._batch_size))
        loss = torch.zeros(len(self.seeds))
        for rows in indices.unbind(1):
            loss = self.step(rows)
        return loss.detach()

    def _with_clock(self, tensors: dict[str, Tensor]) -> State:
        """A state of these tensors, the optimiser's, the streams and the steps."""
        tensors |= {f"optimiser.{k}": v for k, v in self.optimiser.state().items()}
        return State(tensors | {"generators": self.generators.state()}, {"steps": self.steps})

    def _set_clock(self, state: State) -> None:
        self.optimiser.set_state(state.part("optimiser"))
        self.generators.set_state(state.tensors["generators"])
        self.steps = state.values["steps"]


class BehaviourCloning(Regression):
    """R behaviour clonings of the same demonstrations, each with its own initialisation and batches.

    The released hybrid-IRL code regresses a *sampled* action, which adds the policy's variance to the error,
    and on actions of another scale (reference/algorithms.md 1.3, 3.1); here the mean is regressed, and all
    actions are in [−1, 1].
    """

    def __init__(
        self,
        config: CloningConfig,
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
        sizes = (len(seeds), spaces.observation_size, spaces.action_size, config.hidden)
        self.actor = GaussianActor(*sizes) if config.loss == "likelihood" else DeterministicActor(*sizes)
        self.actor.to(self.device)
        self.normaliser = normaliser.hiding(view_mask(task, config.view, "loop.view")).to(self.device)
        self.actor.net.initialise(self.generators)
        self.actor.net.set_precision(precision)
        self.optimiser = Adam([self.actor.net], config.learning_rate, weight_decay=config.weight_decay)
        self._observations = torch.from_numpy(demonstrations.observations).to(self.device)
        self._actions = torch.from_numpy(demonstrations.actions).to(self.device)

    def step(self, rows: Tensor) -> Tensor:
        """One update on rows by number (R, B); returns the loss (R,)."""
        observations, actions = self.pairs(rows)
        loss = self.loss(self.normaliser(observations), actions)
        self.optimiser.step(loss.sum())
        return loss

    @property
    def row_count(self) -> int:
        """How many rows there are to learn from."""
        return len(self._actions)

    def pairs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Observations (R, B, O) and the expert's actions there (R, B, A), of row numbers (R, B)."""
        return self._observations[rows], self._actions[rows]

    def loss(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The loss per run (R,) of normalised observations (R, B, O) and actions (R, B, A)."""
        if isinstance(self.actor, GaussianActor):
            return -self.actor.log_prob(observations, actions).mean(-1)
        return (self.actor(observations) - actions).square().mean((1, 2))

    @torch.no_grad()
    def act(self, observations: Tensor) -> Tensor:
        """Deterministic actions (R, E, A) in [−1, 1] for observations (R, E, O)."""
        seen = self.normaliser(observations)
        if isinstance(self.actor, GaussianActor):
            return self.actor(seen, exact=True)[0].tanh()
        return self.actor(seen, exact=True)

    @torch.no_grad()
    def sample(self, run: int, observation: Tensor, noise: Tensor) -> Tensor:
        """One run's action (A,) in [−1, 1] for an observation (O,), drawn with standard normal noise (A,).

        Errors: :class:`InputError` when the actor is not a Gaussian.
        """
        if not isinstance(self.actor, GaussianActor):
            raise InputError("only cloning by likelihood has a distribution to sample from")
        rows = self.normaliser(observation).expand(len(self.seeds), 1, -1)
        return self.actor.sample(rows, noise.expand(len(self.seeds), 1, -1))[0][run, 0]

    def policy(self, run: int, training: Mapping[str, Any]) -> Policy:
        """The deployable policy of one run."""
        head = "squashed-gaussian" if isinstance(self.actor, GaussianActor) else "deterministic"
        return Policy.of_network(self.actor.net, run, self.normaliser, head, self.task, self.spaces, training)

    def state(self) -> State:
        """Everything that decides how the training goes on."""
        return self._with_clock({f"actor.{k}": v for k, v in self.actor.state_dict().items()})

    def set_state(self, state: State) -> None:
        """Continue from :meth:`state`: on the CPU bit-equal to never having stopped."""
        self.actor.load_state_dict(state.part("actor"))
        self.actor.net.refresh()
        self._set_clock(state)
