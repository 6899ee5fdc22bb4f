"""The one scale on which all trainings of a task are scored.

Each training scores itself by the references that it knows: those in the file of its demonstrations, or the task's own
where it has none. So `sac` beside learners of demonstrations has another 1 than they have, and scores side by side are
of the same thing only after all of them are by the same two returns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...robots import InputError


@dataclasses.dataclass(frozen=True)
class Scale:
    """The returns that a training scores by, which is called ``name``, and whether it has demonstrations."""

    name: str
    demonstrated: bool
    random: float | None
    expert: float | None

    @classmethod
    def of(cls, name: str, values: Mapping[str, Any], about: Mapping[str, Any]) -> Scale:
        """Of a training by its configuration and its `run.json`."""
        data, found = values.get("data") or {}, about.get("references") or {}
        demonstrated = data.get("name") is not None or bool(data.get("in_memory"))
        return cls(name, demonstrated, found.get("random"), found.get("expert"))

    @property
    def whole(self) -> bool:
        """Whether scores can be made of it."""
        return self.random is not None and self.expert is not None

    def score(self, returns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of returns, by a scale that is whole."""
        assert self.random is not None and self.expert is not None
        return (returns - self.random) / (self.expert - self.random)

    def same(self, other: Scale) -> bool:
        """Whether another has the same returns."""
        return all(
            one == two or (one is not None and two is not None and math.isclose(one, two, rel_tol=1e-9))
            for one, two in ((self.random, other.random), (self.expert, other.expert))
        )


def common_scale(task: str, scales: Sequence[Scale]) -> Scale | None:
    """The scale of a task: that of its demonstrations, or of the trainings without where there are none.

    None where no training knows both returns. Errors: :class:`InputError` when two that would do differ.
    """
    known = [scale for scale in scales if scale.whole]
    known = [scale for scale in known if scale.demonstrated] or known
    for scale in known[1:]:
        if not scale.same(known[0]):
            both = " and ".join(f"{s.name} from {s.random:g} to {s.expert:g}" for s in (known[0], scale))
            same = (
                "give their demonstrations the same random_return and expert_return, or " if scale.demonstrated else ""
            )
            raise InputError(
                f"on {task} scores would be on different scales, by the returns of a random policy and the expert "
                f"({both}): {same}compare them apart"
            )
    return known[0] if known else None
