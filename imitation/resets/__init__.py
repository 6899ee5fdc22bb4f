"""Where does an episode start? One file per kind of reset distribution."""

from .base import InitialResets, InitialStart, MixedResets, Resets, Start
from .mixture import MixtureConfig, MixtureResets
from .recorded import (
    ExpertResets,
    OfflineResets,
    RecordedConfig,
    RecordedStart,
    replay_problem,
    states_problem,
)
from .roll_in import RollInConfig, RollInResets, RollInStart

__all__ = [
    "ExpertResets",
    "InitialResets",
    "InitialStart",
    "MixedResets",
    "MixtureConfig",
    "MixtureResets",
    "OfflineResets",
    "RecordedConfig",
    "RecordedStart",
    "Resets",
    "RollInConfig",
    "RollInResets",
    "RollInStart",
    "Start",
    "replay_problem",
    "states_problem",
]
