"""Reset distributions: where an episode starts."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self

import numpy as np

from ..robots import TaskBatch
from .parts import Setting


class Resets(Protocol):
    """Starts episodes of a task batch."""

    def reset(self, tasks: TaskBatch, where: np.ndarray | None = None) -> np.ndarray:
        """Start new episodes everywhere, or where the mask (R,) is true; returns observations (R, O)."""
        ...


class InitialResets:
    """The task's own initial states."""

    Config: ClassVar[type[Any] | None] = None

    @classmethod
    def create(cls, config: Any, setting: Setting) -> Self:
        """For a setting: nothing of it is needed."""
        return cls()

    def reset(self, tasks: TaskBatch, where: np.ndarray | None = None) -> np.ndarray:
        """As the task does it."""
        return tasks.reset(where)
