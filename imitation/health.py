"""Says in one sentence, once a run, when a learned reward has stopped teaching anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

PATIENCE = 10  # rows of metrics in a row, so that a bad moment is not a diagnosis
_SURE, _LOST = 0.02, 0.99 * math.log(2)  # nats: certain of every row, and no better than a coin
_COIN = 0.56  # of 128 rows a side, two standard deviations above an accuracy of a half
_FLAT = 0.05  # the slope of a score that says nothing of the way, where the penalty asks for about 1

_SATURATED = (
    "is certain of every row, so its reward gives no direction: try a larger reward.penalty_weight, a smaller "
    "reward.learning_rate or reward.input_noise=0.1"
)
_ALIKE = "cannot tell expert from learner: either the learner is as good as the expert (see the scores), or try "
_COLLAPSED = _ALIKE + "a larger reward.learning_rate or a smaller reward.penalty_weight"
_FAINT = _ALIKE + "wider reward.hidden, a larger reward.learning_rate or a smaller reward.update_every"


class DiscriminatorHealth:
    """Watches the metrics of learned rewards.

    A discriminator that is certain of every row on both sides (saturation) gives the learner no direction; one
    that cannot tell expert from learner at all (collapse) gives the same reward everywhere. The second is also
    what a perfect learner looks like, which the sentence says.

    A classifier shows both by its entropy. A score without probabilities is saturated where it is right about every row
    and has no slope, and collapsed where it is right about no more rows than a coin. Score matching has no slope, nor a
    penalty on it.
    """

    def __init__(self, runs: int) -> None:
        self._in_a_row: dict[str, list[int]] = {sentence: [0] * runs for sentence in (_SATURATED, _COLLAPSED, _FAINT)}
        self._said: set[tuple[str, int]] = set()

    def check(self, metrics: Mapping[str, Sequence[float]]) -> list[str]:
        """New warnings, from one row of metrics (each with a value per run)."""
        if "accuracy_expert" not in metrics:
            return []
        warnings: list[str] = []
        for sentence, counts in self._in_a_row.items():
            for run, count in enumerate(counts):
                is_so = sentence == _diagnosis({name: values[run] for name, values in metrics.items()})
                counts[run] = count + 1 if is_so else 0
            new = [run for run, count in enumerate(counts) if count >= PATIENCE and (sentence, run) not in self._said]
            if new:
                self._said.update((sentence, run) for run in new)
                which = f"run {new[0]}" if len(new) == 1 else f"runs {', '.join(map(str, new[:-1]))} and {new[-1]}"
                warnings.append(f"the learned reward of {which} {sentence}")
        return warnings


def _diagnosis(metrics: Mapping[str, float]) -> str | None:
    """What is wrong with one run's reward at the moment."""
    accuracies = metrics["accuracy_expert"], metrics["accuracy_learner"]
    entropy, slope = metrics.get("discriminator_entropy"), metrics.get("discriminator_slope")
    if entropy is None:
        if min(accuracies) > 0.999 and slope is not None and slope < _FLAT:
            return _SATURATED
        collapsed = _FAINT if slope is None else _COLLAPSED
        return collapsed if sum(accuracies) / 2 < _COIN else None
    if entropy < _SURE and min(accuracies) > 0.999:
        return _SATURATED
    return _COLLAPSED if entropy > _LOST else None
