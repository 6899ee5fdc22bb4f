"""Moment matching: the difference of means over gradient-bounded functions (MM, HyPE, FILTER, GUITAR)."""

from __future__ import annotations

from torch import Tensor

from .base import between_extremes, told_apart
from .discriminator import DiscriminatorReward


class WassersteinReward(DiscriminatorReward):
    """max over f of E_learner[f] − E_expert[f] with a gradient penalty, r = −f (arXiv 2103.03236, 2402.08848).

    The score here is −f: high on expert rows, so the reward is the score itself.
    """

    def form(self, scores: Tensor) -> Tensor:
        """r = score."""
        return scores

    def objective(self, expert: Tensor, learner: Tensor) -> tuple[Tensor, Tensor]:
        """Raise the expert's mean, lower the learner's."""
        return -expert, learner

    def health(self, logits: Tensor, size: int) -> dict[str, Tensor]:
        """Accuracies about the middle of both sides' scores, which have no zero of their own; (R,)."""
        return told_apart(logits[:, :size], logits[:, size:])

    def absorbing_score(self, scores: Tensor, expert: Tensor, learner: Tensor) -> Tensor:
        """Between the extremes of the scores seen (:func:`~.base.between_extremes`).

        A maximiser over a class of bounded functions would put its bound there; the range of the batch's scores
        is the bound at hand.
        """
        return between_extremes(*self.extremes(scores), expert, learner)
