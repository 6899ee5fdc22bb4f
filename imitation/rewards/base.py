"""What every reward is to the loop, and the task's own reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from ..networks import StackedMLP, load_networks
from ..optimisers import Adam, OptimisticAdam
from ..parts import Setting
from ..randomness import Generators
from ..replay import Batch

LogProb = Callable[[Batch], Tensor]


class Reward(Protocol):
    """A reward model for R runs.

    The loop relabels every batch with the current model (an old reward is wrong as soon as the model moves),
    and updates a model whose ``learned`` is true every ``update_every`` agent updates.
    """

    learned: bool
    needs_log_prob: bool
    update_every: int
    batch_size: int
    recent_rows: int | None

    @property
    def sees_actions(self) -> bool:
        """Whether it takes more than states of the expert's rows."""
        ...

    @property
    def early_ends(self) -> str:
        """What an episode's early end is worth, in words, for the log."""
        ...

    def initialise(self, generators: Generators) -> None:
        """Draw the parameters and make the optimiser."""
        ...

    def relabel(self, batch: Batch) -> Tensor:
        """The rewards (R, B) of a batch, without gradient."""
        ...

    def update(
        self,
        expert: Batch,
        learner: Batch,
        ended: tuple[Tensor, Tensor],
        generators: Generators,
        log_prob: LogProb | None = None,
    ) -> Mapping[str, Tensor]:
        """One step on expert and learner rows (R, B); returns health metrics (R,).

        ``ended`` are the shares of time that expert and learner spend after an early end, each (R,);
        ``log_prob`` gives log π(a|s) (R, B) of a batch under the current policy, for the rewards that need it.
        """
        ...

    def training_state(self) -> dict[str, Tensor]:
        """Parameters and optimiser moments."""
        ...

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`training_state`."""
        ...


class FixedReward:
    """A reward that learns nothing: subclasses say what a batch is worth."""

    Config: ClassVar[type[Any] | None] = None
    learned = False
    needs_log_prob = False
    sees_actions = True  # unless a subclass knows better
    update_every = 0
    batch_size = 0
    recent_rows: int | None = None
    early_ends = "worth 0"

    @classmethod
    def create(cls, config: Any, setting: Setting) -> Self:
        """For a setting: nothing of it is needed."""
        return cls()

    def initialise(self, generators: Generators) -> None:
        """Nothing to draw."""

    def relabel(self, batch: Batch) -> Tensor:
        """The rewards (R, B)."""
        raise TypeError(f"{type(self).__name__} does not say what a batch is worth")

    def update(
        self,
        expert: Batch,
        learner: Batch,
        ended: tuple[Tensor, Tensor],
        generators: Generators,
        log_prob: LogProb | None = None,
    ) -> Mapping[str, Tensor]:
        """Nothing to learn."""
        return {}

    def training_state(self) -> dict[str, Tensor]:
        """Empty."""
        return {}

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to restore."""


class TaskReward(FixedReward):
    """The task's true reward, for training experts (``learner=sac``)."""

    sees_actions = False
    early_ends = "worth 0, as the task means it"

    def relabel(self, batch: Batch) -> Tensor:
        """The stored rewards (R, B)."""
        return batch.rewards


class ImplicitReward(FixedReward):
    """None: the agent's critic implies the reward (IQ-Learn)."""

    sees_actions = False
    early_ends = "what the agent makes of them"

    def relabel(self, batch: Batch) -> Tensor:
        """Zeros (R, B)."""
        return torch.zeros_like(batch.rewards)


class ConstantReward(FixedReward):
    """SQIL (arXiv 1905.11108): 1 on the expert's rows and 0 on the learner's.

    Where the task ends an episode early, the value of what follows is 0, which is also what staying away from
    the expert for ever is worth: the end is neither a reward nor a punishment.
    """

    sees_actions = False

    def relabel(self, batch: Batch) -> Tensor:
        """The expert flags (R, B)."""
        return batch.expert


def slopes(scores: Tensor, inputs: Tensor) -> Tensor:
    """‖∇ₓ score‖₂ (..., B), differentiable; ``inputs`` (..., B, X) made ``scores`` (..., B)."""
    (gradient,) = torch.autograd.grad(scores.sum(), inputs, create_graph=True)
    return (gradient.square().sum(-1) + 1e-12).sqrt()


def gradient_penalty(slope: Tensor, target: float) -> Tensor:
    """E[(slope − target)²] of slopes (..., B). WGAN-GP (arXiv 1704.00028) has target 1, the hybrid-IRL code 0.4."""
    return (slope - target).square().mean(-1)


def early_ends_in_words(absorbing: bool) -> str:
    """What a learned reward makes of an early end, for the log."""
    if absorbing:
        return "absorbing states (the reward is relative to the absorbing state's)"
    return "ignored, an ended episode is worth 0 whatever the reward's sign"


def steady(reach: Tensor, low: Tensor, high: Tensor, scores: Tensor, rate: float | Tensor) -> tuple[Tensor, Tensor]:
    """The extremes ``low`` and ``high`` (R,) of scores (R, B), less noisy: how many deviations off the mean they lie is
    averaged into ``reach`` (R, 2) by ``rate``.

    Every reward is relative to an absorbing state that lies there, so noise in it would shake all values at once, while
    the scores themselves may grow and drift as they like.
    """
    mean, spread = scores.mean(-1), scores.std(-1).clamp(min=1e-6)
    reach.lerp_(torch.stack(((low - mean) / spread, (high - mean) / spread), -1), rate)
    return mean + reach[:, 0] * spread, mean + reach[:, 1] * spread


def between_extremes(low: Tensor, high: Tensor, expert: Tensor, learner: Tensor) -> Tensor:
    """The absorbing state's score (R,) where scores have no bound of their own: the lowest seen where only the learner
    ends early, the highest where only the expert does, and between them in proportion to the difference of their
    shares of time there, ``expert`` and ``learner``. All (R,).
    """
    balance = (expert - learner) / (expert + learner)
    return (low + high) / 2 + balance * (high - low) / 2


def told_apart(expert: Tensor, learner: Tensor) -> dict[str, Tensor]:
    """How well scores without a zero of their own tell expert rows (R, B) from the learner's: the shares of both (R,)
    on their side of the middle between the two means."""
    middle = (expert.mean(-1, keepdim=True) + learner.mean(-1, keepdim=True)) / 2
    return {
        "accuracy_expert": (expert > middle).float().mean(-1),
        "accuracy_learner": (learner < middle).float().mean(-1),
    }


def log_ratio(low: Tensor, high: Tensor, expert: Tensor, learner: Tensor) -> Tensor:
    """The absorbing state's logit (R,): log p_E / p_L of the shares of time there, within the logits seen. All (R,).

    That ratio is the optimal logit of a single point. Where one side never ends early it has no bound, though, while
    those of living states are held together by the gradient penalty: in a reward that is the logit itself nothing but
    staying alive would count.
    """
    return (expert.log() - learner.log()).clamp(low, high)


def module_state(module: nn.Module, optimiser: Adam | OptimisticAdam) -> dict[str, Tensor]:
    """Parameters and buffers of a learned reward, and its optimiser's moments."""
    state = {f"network.{name}": value for name, value in module.state_dict().items()}
    return state | {f"optimiser.{name}": value for name, value in optimiser.state().items()}


def set_module_state(
    module: nn.Module, optimiser: Adam | OptimisticAdam, stacks: Sequence[StackedMLP], state: Mapping[str, Tensor]
) -> None:
    """Continue from :func:`module_state`; the computing copies of ``stacks`` follow.

    Errors: see :func:`~..networks.load_networks`.
    """
    kept = {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
    load_networks(module, kept, "reward")
    optimiser.set_state({k.removeprefix("optimiser."): v for k, v in state.items() if k.startswith("optimiser.")})
    for stack in stacks:
        stack.refresh()
