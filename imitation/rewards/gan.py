"""The adversarial reward of GAIL (arXiv 1606.03476) and its kin: a classifier's logit, expert = 1."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from .base import log_ratio
from .discriminator import DiscriminatorConfig, DiscriminatorReward

GanForm = Literal["softplus", "logit", "log-sigmoid"]


@dataclasses.dataclass(frozen=True)
class GanConfig(DiscriminatorConfig):
    """``form`` of the reward from the logit L, where D = σ(L) is the probability of being the expert's:

    ``softplus`` −log(1 − D) ≥ 0 (GAIL, and discriminator-actor-critic's "gail"), ``logit`` L = log D − log(1 − D)
    (discriminator-actor-critic's default), ``log-sigmoid`` log D ≤ 0.
    """

    form: GanForm = "softplus"


class GanReward(DiscriminatorReward):
    """Binary cross entropy between expert (1) and learner (0) with a gradient penalty."""

    Config: ClassVar[type[Any] | None] = GanConfig
    config: GanConfig

    def form(self, scores: Tensor) -> Tensor:
        """softplus(L), L or −softplus(−L); never through σ, whose logarithm overflows when it saturates."""
        if self.config.form == "softplus":
            return functional.softplus(scores)
        return scores if self.config.form == "logit" else functional.logsigmoid(scores)

    def objective(self, expert: Tensor, learner: Tensor) -> tuple[Tensor, Tensor]:
        """−log D on expert scores and −log(1 − D) on learner scores."""
        return functional.softplus(-expert), functional.softplus(learner)

    def absorbing_score(self, scores: Tensor, expert: Tensor, learner: Tensor) -> Tensor:
        """log p_E / p_L (:func:`~.base.log_ratio`); softplus has a bound of its own below, where it is nearly 0."""
        low, high = self.extremes(scores)
        if self.config.form == "softplus":
            low = torch.full_like(low, -torch.inf)
        return log_ratio(low, high, expert, learner)
