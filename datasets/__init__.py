"""Demonstrations: read, checked, cut down and written. Imports nothing of the suite but the robots."""

from .bundles import bundled
from .catalogue import load
from .d4rl import read_d4rl, write_d4rl
from .demonstrations import Demonstrations
from .recorded import Recorded, check_environment

__all__ = ["Demonstrations", "Recorded", "bundled", "check_environment", "load", "read_d4rl", "write_d4rl"]
