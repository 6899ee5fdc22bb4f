"""Any weighted mixture of starts (GUITAR's broad reset distribution)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

from ...robots import InputError
from ..parts import Setting
from .base import InitialStart, MixedResets, Start
from .recorded import recorded_start
from .roll_in import roll_in_start


@dataclasses.dataclass(frozen=True)
class MixtureConfig:
    """The weights of the ways to start, in any unit: the task's ``initial`` states, ``expert`` and ``offline``
    states, and a ``roll_in`` of a policy cloned from ``source`` rows by ``updates`` updates, which sees the
    parts of the observation that ``view`` names (all when empty). ``check`` names those that a recorded state must give
    back when it is set, as in :class:`RecordedConfig`.
    """

    initial: float = 0.5
    expert: float = 0.25
    offline: float = 0.25
    roll_in: float = 0.0
    source: Literal["expert", "offline", "both"] = "both"
    updates: int = 5_000
    view: tuple[str, ...] = ()
    check: tuple[str, ...] = ()


class MixtureResets(MixedResets):
    """A weighted mixture of initial, expert and offline states and roll-ins."""

    Config: ClassVar[type[Any] | None] = MixtureConfig

    @classmethod
    def create(cls, config: MixtureConfig, setting: Setting) -> Self:
        """For a setting. Only ways with a weight are made, and need their data.

        Errors: :class:`InputError` when no way has a weight, or the data of one are missing.
        """
        makers: Mapping[str, Callable[[], Start]] = {
            "initial": InitialStart,
            "expert": lambda: recorded_start(setting, "expert", config.check),
            "offline": lambda: recorded_start(setting, "offline", config.check),
            "roll_in": lambda: roll_in_start(setting, config.source, config.updates, config.view),
        }
        weights = {name: float(getattr(config, name)) for name in makers if getattr(config, name) > 0}
        if not weights:
            raise InputError("resets=mixture: every weight is 0; give at least one of " + ", ".join(makers))
        return cls({name: makers[name]() for name in weights}, list(weights.values()), setting.seeds)
