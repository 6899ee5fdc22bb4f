"""The worlds: tasks, simulator state, environments stepped as one. Imports nothing else of the suite."""

from .disturbances import Disturbances
from .errors import InputError, nearest
from .features import Feature, features_of
from .health import Health
from .inner import Inner
from .navigation import Controller
from .simulation import (
    PURPOSES,
    Purpose,
    SimulatorState,
    Snapshot,
    TaskBatch,
    Transitions,
    capture,
    physics_state,
    place,
    restore,
    set_physics_state,
)
from .tasks import TASKS, Goal, Spaces, Task, find_task, task_of_environment
from .views import observation_parts, view_mask

__all__ = [
    "PURPOSES",
    "TASKS",
    "Controller",
    "Disturbances",
    "Feature",
    "Goal",
    "Health",
    "Inner",
    "InputError",
    "Purpose",
    "SimulatorState",
    "Snapshot",
    "Spaces",
    "Task",
    "TaskBatch",
    "Transitions",
    "capture",
    "features_of",
    "find_task",
    "nearest",
    "observation_parts",
    "physics_state",
    "place",
    "restore",
    "set_physics_state",
    "task_of_environment",
    "view_mask",
]
