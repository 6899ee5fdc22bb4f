"""Rewards from a discriminator: the shared machinery of `gan` and `wasserstein`.

The sign lives here alone: the network's score is high on expert rows and low on the learner's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..networks import Discriminator, Initialisation, Normaliser
from ..optimisers import Adam, Optimiser, OptimisticAdam
from ..randomness import Generators
from ..replay import Batch
from .base import gradient_penalty


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes and schedule of a learned reward.

    ``update_every`` agent updates the discriminator takes one step on ``batch_size`` rows of each side.
    ``penalty_weight`` and ``penalty_target`` are those of the gradient penalty. ``absorbing`` treats an early
    end as a state that lasts for ever and has a learned reward of its own (see :class:`DiscriminatorReward`);
    without it an ended episode is worth 0, which rewards or punishes staying alive by the reward's sign.
    """

    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    batch_size: int = 256
    update_every: int = 10
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

    learned = True
    absorbing: Tensor

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
        self.normaliser = normaliser
        self.net = Discriminator(runs, observation_size, action_size, config.hidden)
        self.precision = precision
        self.register_buffer("absorbing", torch.zeros(runs))

    def form(self, scores: Tensor) -> Tensor:
        """The reward of a score."""
        raise TypeError(f"{type(self).__name__} has no reward form")

    def objective(self, expert: Tensor, learner: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each expert score and of each learner score."""
        raise TypeError(f"{type(self).__name__} has no objective")

    def absorbing_score(self, scores: Tensor, expert: Tensor, learner: Tensor) -> Tensor:
        """The absorbing state's score (R,), from a batch's scores (R, 2B) and both shares of time there (R,)."""
        raise TypeError(f"{type(self).__name__} has no score for the absorbing state")

    def initialise(self, generators: Generators) -> None:
        """Draw the parameters and make the optimiser."""
        self.net.net.initialise(generators, self.config.initialisation)
        # The penalty needs second derivatives, which stay in float32; relabelling uses the fast copy.
        self.net.net.set_precision(self.precision, train=False)
        if self.config.optimiser == "oadam":
            self.optimiser: Adam | OptimisticAdam = OptimisticAdam([self.net.net], self.config.learning_rate)
        else:
            self.optimiser = Adam([self.net.net], self.config.learning_rate, weight_decay=self.config.weight_decay)

    def start_round(self, finished: int) -> None:
        """Forget the optimiser's moments and use rate / max(finished, 1), as the released code does each round."""
        if isinstance(self.optimiser, OptimisticAdam):
            self.optimiser.restart(self.config.learning_rate / max(finished, 1))

    def inputs(self, batch: Batch) -> Tensor:
        """The network's input (R, B, X) of the batch's state-action pairs."""
        return torch.cat((self.normaliser(batch.observations), batch.actions), -1)

    @torch.no_grad()
    def relabel(self, batch: Batch) -> Tensor:
        """Rewards (R, B) under the current discriminator."""
        rewards = self.form(self.net(self.inputs(batch)))
        if self.config.absorbing:
            rewards = rewards - self.form(self.absorbing)[:, None]
        return rewards * self.config.scale

    def update(
        self, expert: Batch, learner: Batch, ended: tuple[Tensor, Tensor], generators: Generators
    ) -> Mapping[str, Tensor]:
        """One discriminator step; returns health metrics (R,).

        ``ended`` are the shares of time that expert and learner spend after an early end, each (R,).
        """
        expert_inputs, learner_inputs = self.inputs(expert), self.inputs(learner)
        if self.config.input_noise:
            shape = tuple(expert_inputs.shape[1:])
            expert_inputs = expert_inputs + self.config.input_noise * generators.normal(shape)
            learner_inputs = learner_inputs + self.config.input_noise * generators.normal(shape)
        scores = self.net(torch.cat((expert_inputs, learner_inputs), 1), exact=True)
        expert_scores, learner_scores = scores.chunk(2, 1)
        expert_losses, learner_losses = self.objective(expert_scores, learner_scores)
        loss = expert_losses.mean(-1) + learner_losses.mean(-1)
        penalty = self._penalty(expert_inputs, learner_inputs, generators)
        self.optimiser.step((loss + self.config.penalty_weight * penalty).sum())
        with torch.no_grad():
            self.absorbing.copy_(self.absorbing_score(scores, *ended))
            return {
                "discriminator_loss": loss.detach(),
                "gradient_penalty": penalty.detach(),
                "score_expert": expert_scores.mean(-1),
                "score_learner": learner_scores.mean(-1),
                "score_absorbing": self.absorbing.clone(),
                "accuracy_expert": (expert_scores > 0).float().mean(-1),
                "accuracy_learner": (learner_scores < 0).float().mean(-1),
            }

    def _penalty(self, expert: Tensor, learner: Tensor, generators: Generators) -> Tensor:
        """The gradient penalty on points between expert and learner rows, (R,)."""
        share = generators.uniform((expert.shape[1], 1))
        between = (share * expert + (1 - share) * learner).requires_grad_()
        return gradient_penalty(self.net(between, exact=True), between, self.config.penalty_target)

    def training_state(self) -> dict[str, Tensor]:
        """Parameters and optimiser moments."""
        state = {f"network.{name}": value for name, value in self.state_dict().items()}
        return state | {f"optimiser.{name}": value for name, value in self.optimiser.state().items()}

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`training_state`."""
        self.load_state_dict({k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")})
        self.optimiser.set_state(
            {k.removeprefix("optimiser."): v for k, v in state.items() if k.startswith("optimiser.")}
        )
        self.net.net.refresh()
