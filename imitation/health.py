"""Says in one sentence, once, when a discriminator has stopped teaching anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

PATIENCE = 10  # rows of metrics in a row, so that a bad moment is not a diagnosis
_SURE, _LOST = 0.02, 0.99 * math.log(2)  # nats: certain of every row, and no better than a coin


class DiscriminatorHealth:
    """Watches the metrics of learned rewards.

    A discriminator that is certain of every row on both sides (saturation) gives the learner no direction; one
    that cannot tell expert from learner at all (collapse) gives the same reward everywhere. The second is also
    what a perfect learner looks like, which the sentence says.
    """

    def __init__(self, runs: int) -> None:
        self._saturated, self._collapsed = [0] * runs, [0] * runs
        self._said: set[str] = set()

    def check(self, metrics: Mapping[str, Sequence[float]]) -> list[str]:
        """New warnings, from one row of metrics (each with a value per run)."""
        if "discriminator_entropy" not in metrics:
            return []
        for run, entropy in enumerate(metrics["discriminator_entropy"]):
            sure = min(metrics["accuracy_expert"][run], metrics["accuracy_learner"][run]) > 0.999
            self._saturated[run] = self._saturated[run] + 1 if entropy < _SURE and sure else 0
            self._collapsed[run] = self._collapsed[run] + 1 if entropy > _LOST else 0
        found = {
            "saturated": (
                self._saturated,
                "is certain of every row, so its reward gives no direction: try a larger reward.penalty_weight, "
                "a smaller reward.learning_rate or reward.input_noise=0.1",
            ),
            "collapsed": (
                self._collapsed,
                "cannot tell expert from learner: either the learner is as good as the expert (see the scores), "
                "or try a larger reward.learning_rate or a smaller reward.penalty_weight",
            ),
        }
        warnings: list[str] = []
        for name, (counts, sentence) in found.items():
            runs = [str(run) for run, count in enumerate(counts) if count >= PATIENCE]
            if runs and name not in self._said:
                self._said.add(name)
                warnings.append(f"the discriminator of run {', '.join(runs)} {sentence}")
        return warnings
