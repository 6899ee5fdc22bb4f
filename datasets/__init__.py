"""Demonstrations: read, checked, cut down and written. Imports nothing of the suite but the robots."""

from .bundles import bundled
from .catalogue import load, sources
from .d4rl import read_d4rl, write_d4rl
from .d4rl_names import normalised_score
from .demonstrations import Demonstrations
from .names import Parts, open_data
from .npz import from_arrays
from .recorded import Recorded, check_environment, recorded_disturbances, task_named
from .streaming import stream

__all__ = [
    "Demonstrations",
    "Parts",
    "Recorded",
    "bundled",
    "check_environment",
    "from_arrays",
    "load",
    "normalised_score",
    "open_data",
    "read_d4rl",
    "recorded_disturbances",
    "sources",
    "stream",
    "task_named",
    "write_d4rl",
]
