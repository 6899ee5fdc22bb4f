"""Rewards from a discriminator: the shared machinery of `gan`, `airl` and `wasserstein`.

The sign lives here alone: the network's score is high on expert rows and low on the learner's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...robots import view_mask
from ..networks import Activation, Discriminator, Initialisation, Normaliser, StackedMLP
from ..optimisers import Adam, Optimiser, OptimisticAdam
from ..parts import Setting
from ..randomness import Generators
from ..replay import Batch
from .base import LogProb, early_ends_in_words, gradient_penalty, module_state, set_module_state, slopes, steady
from .inputs import Inputs, input_size, network_inputs, sees_actions

Combine = Literal["mean", "min", "max"]
_REACH_RATE = 0.02  # what a new batch counts in how far the scores' extremes lie


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes and schedule of a learned reward.

    ``inputs`` is what the discriminator sees of a transition (``all``: state, action and next state).
    ``view`` names the parts of states that it may see (:func:`understudy.robots.view_mask`; all when empty).
    ``activation=none`` makes its score linear in them.
    ``members`` networks of their own initialisation are trained on the same rows, and their scores combined by
    ``combine``. ``update_every`` agent updates the discriminator takes one step on ``batch_size`` rows of each
    side; the learner's are drawn from its newest ``recent_rows`` steps (from all of them when left out).
    ``penalty_weight`` and ``penalty_target`` are those of the gradient penalty. ``absorbing`` treats an early end
    as a state that lasts for ever and has a learned reward of its own (see :class:`DiscriminatorReward`); without
    it an ended episode is worth 0, which rewards or punishes staying alive by the reward's sign. ``scale``
    multiplies the reward.
    """

    inputs: Inputs = "state-action"
    view: tuple[str, ...] = ()
    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    members: int = 1
    combine: Combine = "mean"
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    batch_size: int = 128
    update_every: int = 10
    recent_rows: int | None = None
    penalty_weight: float = 10.0
    penalty_target: float = 1.0
    absorbing: bool = True
    scale: float = 1.0
    input_noise: float = 0.0
    optimiser: Optimiser = "adam"
    initialisation: Initialisation = "linear"


class DiscriminatorReward(nn.Module):
    """A learned reward r(s, a) = form(score(s, a)), with early ends treated as absorbing states.

    An episode that the task ends early goes on in one state of its own, for ever (discriminator-actor-critic,
    arXiv 1809.02925), which is worth r_abs / (1 − γ). Two things make this cheap here:

    * Taking the constant r_abs / (1 − γ) off every value changes no preference. What is left is the reward
      r(s, a) − r_abs, and an early end worth 0: the critic never has to learn the absorbing state's value, and
      follows at once when its reward moves.
    * The absorbing state is a single point, so its score needs no network. It follows from the shares of time
      that expert and learner spend there (:meth:`absorbing_score`).

    The scores of living states compare only living rows: the constant log((1 − e)/(1 − l)) of the shares e and l,
    which would add to the worth of staying alive while the learner rarely does, is left out.

    A reward that is the same everywhere is 0 everywhere, and the learner is indifferent to ending.
    """

    Config: ClassVar[type[Any] | None] = DiscriminatorConfig
    learned = True
    needs_log_prob = False
    absorbing: Tensor
    updates: Tensor
    reach: Tensor

    def __init__(
        self,
        config: DiscriminatorConfig,
        runs: int,
        observation_size: int,
        action_size: int,
        normaliser: Normaliser,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config = config
        self.update_every, self.batch_size = config.update_every, config.batch_size
        self.recent_rows = config.recent_rows
        self.normaliser = normaliser
        self.precision = precision
        self.build(runs, input_size(config.inputs, observation_size, action_size))
        self.register_buffer("absorbing", torch.zeros(runs))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("reach", torch.zeros(runs, 2))

    @classmethod
    def create(cls, config: DiscriminatorConfig, setting: Setting) -> Self:
        """For a setting. A task without early ends needs no absorbing state."""
        if not setting.task.terminates:
            config = dataclasses.replace(config, absorbing=False)
        runs, _, action_size, normaliser, precision = setting.sizes
        shown = normaliser.showing(view_mask(setting.task, config.view, "reward.view"))
        return cls(config, runs, len(shown.mean), action_size, shown, precision)

    @property
    def sees_actions(self) -> bool:
        """Unless it sees states alone."""
        return self.needs_log_prob or sees_actions(self.config.inputs)

    @property
    def early_ends(self) -> str:
        """What an early end is worth, in words."""
        return early_ends_in_words(self.config.absorbing)

    def build(self, runs: int, size: int) -> None:
        """Make the networks, for ``size`` inputs X."""
        config = self.config
        self.net = Discriminator(runs, size, config.hidden, config.members, config.activation)

    def form(self, scores: Tensor) -> Tensor:
        """The reward of a score."""
        raise TypeError(f"{type(self).__name__} has no reward form")

    def objective(self, expert: Tensor, learner: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each expert score and of each learner score."""
        raise TypeError(f"{type(self).__name__} has no objective")

    def absorbing_score(self, scores: Tensor, expert: Tensor, learner: Tensor) -> Tensor:
        """The absorbing state's score (R,), from a batch's scores (R, 2B) and both shares of time there (R,)."""
        raise TypeError(f"{type(self).__name__} has no score for the absorbing state")

    def extremes(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Where the lowest and the highest of a batch's scores (R, 2B) lie by the batches so far, (R,) each."""
        rate = (1 / self.updates.clamp(min=1)).clamp(min=_REACH_RATE)
        return steady(self.reach, *scores.aminmax(dim=-1), scores, rate)

    def stacks(self) -> list[StackedMLP]:
        """The networks to train."""
        return [self.net.net]

    def initialise(self, generators: Generators) -> None:
        """Draw the parameters and make the optimiser."""
        stacks = self.stacks()
        for stack in stacks:
            stack.initialise(generators, self.config.initialisation)
            # The penalty needs second derivatives, which stay in float32; relabelling uses the fast copy.
            stack.set_precision(self.precision, train=False)
        if self.config.optimiser == "oadam":
            self.optimiser: Adam | OptimisticAdam = OptimisticAdam(stacks, self.config.learning_rate)
        else:
            self.optimiser = Adam(stacks, self.config.learning_rate, weight_decay=self.config.weight_decay)

    def start_round(self, finished: int) -> None:
        """Forget optimistic Adam's moments and use rate / max(finished, 1), as the released code does each round.

        Adam goes on as it is: so that the same rounds can be had without this artefact.
        """
        if isinstance(self.optimiser, OptimisticAdam):
            self.optimiser.restart(self.config.learning_rate / max(finished, 1))

    def inputs(self, batch: Batch) -> Tensor:
        """The networks' input (R, B, X): what ``config.inputs`` names, observations standardised."""
        return network_inputs(self.config.inputs, batch, self.normaliser)

    def scores(self, inputs: Tensor, batch: Batch, *, exact: bool = False) -> Tensor:
        """Each member's scores (R, M, B) of inputs (R, B, X) made from a batch."""
        return self.net(inputs, exact=exact)

    def judged(self, inputs: Tensor, batch: Batch) -> Tensor:
        """Each member's scores (R, M, B) for rewards: those of training, unless a subclass takes more care here."""
        return self.scores(inputs, batch)

    def combined(self, scores: Tensor) -> Tensor:
        """One score (R, B) from the members' (R, M, B)."""
        if self.config.members == 1:
            return scores.squeeze(1)
        how = {"mean": Tensor.mean, "min": Tensor.amin, "max": Tensor.amax}[self.config.combine]
        return how(scores, 1)

    @torch.no_grad()
    def relabel(self, batch: Batch) -> Tensor:
        """Rewards (R, B) under the current discriminator."""
        rewards = self.form(self.combined(self.judged(self.inputs(batch), batch)))
        if self.config.absorbing:
            rewards = rewards - self.form(self.absorbing)[:, None]
        return rewards * self.config.scale

    def update(
        self,
        expert: Batch,
        learner: Batch,
        ended: tuple[Tensor, Tensor],
        generators: Generators,
        log_prob: LogProb | None = None,
    ) -> Mapping[str, Tensor]:
        """One discriminator step; returns health metrics (R,).

        ``ended`` are the shares of time that expert and learner spend after an early end, each (R,).
        """
        self.prepare(generators)
        both = expert.joined(learner)
        inputs = self.inputs(both)
        if self.config.input_noise:
            inputs = inputs + self.config.input_noise * generators.normal(tuple(inputs.shape[1:]))
        scores = self.scores(inputs, both, exact=True)
        logits = scores - self.offsets(both, log_prob)
        size = expert.observations.shape[1]
        expert_losses, learner_losses = self.objective(logits[..., :size], logits[..., size:])
        loss = expert_losses.mean(-1) + learner_losses.mean(-1)
        penalty, slope = self._penalty(inputs[:, :size], inputs[:, size:], generators)
        self.optimiser.step((loss + self.config.penalty_weight * penalty).sum())
        combined = self.combined(scores.detach())
        self.updates += 1
        self.absorbing.copy_(self.absorbing_score(combined, *ended))
        low, high = self.form(combined).aminmax(dim=-1)
        return {
            "discriminator_loss": loss.detach().mean(1),
            "gradient_penalty": penalty.detach().mean(1),
            "discriminator_slope": slope.detach().mean(1),
            "score_expert": combined[:, :size].mean(-1),
            "score_learner": combined[:, size:].mean(-1),
            "score_absorbing": self.absorbing.clone(),
            "reward_low": low,
            "reward_high": high,
            **self.health(self.combined(logits.detach()), size),
        }

    def prepare(self, generators: Generators) -> None:
        """Draw what the scores need until the next step, for subclasses whose scores are random."""

    def offsets(self, batch: Batch, log_prob: LogProb | None) -> Tensor:
        """What is taken off the scores to make the discriminator's logits; broadcastable to (R, M, B)."""
        return batch.rewards.new_zeros(())

    def health(self, logits: Tensor, size: int) -> dict[str, Tensor]:
        """Whether the discriminator says anything (R,), from logits (R, 2B) whose first ``size`` are the expert's.

        A classifier's accuracy on both sides and its mean entropy in nats.
        """
        entropy = functional.softplus(logits) - torch.sigmoid(logits) * logits
        return {
            "accuracy_expert": (logits[:, :size] > 0).float().mean(-1),
            "accuracy_learner": (logits[:, size:] < 0).float().mean(-1),
            "discriminator_entropy": entropy.mean(-1),
        }

    def _penalty(self, expert: Tensor, learner: Tensor, generators: Generators) -> tuple[Tensor, Tensor]:
        """The gradient penalty on points between expert and learner rows, and the mean slope there, (R, M)."""
        share = generators.uniform((expert.shape[1], 1))
        between = share * expert + (1 - share) * learner
        # Members see the same points, but each is penalised for its own slope.
        between = between.unsqueeze(1).repeat(1, self.config.members, 1, 1).requires_grad_()
        slope = slopes(self.member_scores(between), between)
        return gradient_penalty(slope, self.config.penalty_target), slope.mean(-1)

    def member_scores(self, inputs: Tensor) -> Tensor:
        """Scores (R, M, B) of inputs of each member's own (R, M, B, X), no episode ending, for the penalty."""
        return self.net.net(inputs, exact=True).squeeze(-1)

    def training_state(self) -> dict[str, Tensor]:
        """Parameters and optimiser moments."""
        return module_state(self, self.optimiser)

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`training_state`; where one of before these were kept has none, they begin anew."""
        kept = {f"network.{name}": getattr(self, name) for name in ("updates", "reach")}
        set_module_state(self, self.optimiser, self.stacks(), {**kept, **state})
