"""From a table of arrays to :class:`Demonstrations`: one way and one set of checks, whatever the format."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ..robots import InputError, Task
from .blocks import blocks, rows_of
from .demonstrations import Demonstrations
from .episodes import Arrays, last_rows, leave_out, read_episode_starts, read_per_episode, read_times
from .limits import in_words, parse_json
from .recorded import World, finite_number, recorded_environment, world_for
from .table import Table

HORIZON = "horizon"  # attribute: how long an episode could last, where no environment is named
_log = logging.getLogger(__name__)

FORMAT = 1  # of our own files: a newer one says so
STATES = "understudy_states"
FLATTENED = "infos/flattened_states"  # (N, 1 + nq + nv): time, positions and velocities, as robosuite flattens them
AS_RESET, PRECEDING_ACTION = "as after a reset", "preceding action"
# The float32 actions of somebody's policy leave the bounds by roundings, those in another unit by far more.
_ACTION_TOLERANCE = 1e-4


def read_table(table: Table, task: Task | None = None) -> Demonstrations:
    """Demonstrations from a table.

    Actions come back in [−1, 1] by the task's bounds. Where next observations are not recorded, they are the
    following row's of the same episode, and the last row of each episode, whose successor nobody knows, is
    left out (which is logged). Without ``timeouts``, an episode ends where ``terminals`` says so, or with the
    table, unless that makes one that is longer than the horizon.

    A table without ``actions`` is a recording of states alone (and none with others that may be meant), one without
    ``rewards`` has none, and its returns are not known. ``task`` defaults to what the attributes say, disturbances
    included. Another version of the recorded environment (Hopper-v3 for a task on Hopper-v5) passes with a warning when
    the sizes agree.

    Errors: :class:`InputError` in one sentence with path, name and way out: an array is missing, recorded on another
    environment or not of the task's sizes, holds numbers that are not finite or actions out of bounds, or does not
    tell where its episodes end.
    """
    path, attributes = table.path, table.attributes()
    if table.refused:
        raise InputError(f"{path}: {table.refused}")
    if (finite_number(path, attributes, "understudy_format") or 0) > FORMAT:
        raise InputError(f"{path}: was written by a newer understudy; update understudy to read it")
    recorded = recorded_environment(path, attributes)
    world = world_for(path, task, attributes, recorded)
    acted = "actions" in table
    remark = "" if recorded is None else f"; it was recorded on {recorded}"
    if world.task.disturbances.removed:
        remark += ", and a joint that is frozen or limp keeps its numbers"
    columns, finite = _read_columns(table, world, remark)
    limit = attributes.get(HORIZON) if recorded is None else recorded.limit
    horizon = limit if isinstance(limit, int) else world.task.horizon
    starts = read_episode_starts(table, columns, horizon, world.task)
    columns["times"] = read_times(table, starts, len(columns["rewards"]))
    followed = _read_successors(table, columns, starts, world)
    if "next_observations" not in columns and "observations" in finite:
        finite.add("next_observations")
    if STATES in attributes:
        columns["states"] = _read_states(table, columns, starts, world, attributes[STATES])
    rewarded = "rewards" in table
    per_episode = read_per_episode(table, columns, starts)
    if not rewarded and "metadata/episode_returns" not in table:
        per_episode["episode_returns"][:] = np.nan
    expert_return = finite_number(path, attributes, "expert_return")
    if expert_return is None and "understudy_format" not in attributes:
        # Kindred recorders store it as the mean return of the policy that demonstrated.
        expert_return = finite_number(path, attributes, "return_mean")
    return Demonstrations(
        **leave_out(path, columns, starts, per_episode, followed),
        finite=finite,
        task_name=world.task.name,
        environment_id=world.task.environment_id if recorded is None else recorded.environment_id,
        environment_keywords=dict(world.task.keywords if recorded is None else recorded.keywords),
        random_return=finite_number(path, attributes, "random_return"),
        expert_return=expert_return,
        source=str(path),
        metadata=attributes,
        acted=acted,
        rewarded=rewarded,
    )


def _read_columns(table: Table, world: World, remark: str) -> tuple[Arrays, set[str]]:
    """The columns that stand in the file as they are, but for the scale of the actions, and which of them are finite in
    the type that they have in memory (of float64, what float32 cannot hold may not be)."""
    whose = world.description
    sizes = world.layout.sizes
    finite = set[str]()

    def floats(name: str, size: int, whose: str, rows: int | None = None) -> np.ndarray:
        """As float32, at once: two arrays of float64 would take as much as all else."""
        array = table.floats(name, size, whose, rows)
        finite.update([name] if array.dtype == np.float32 else [])
        with np.errstate(over="ignore"):  # told of where all is there
            return array.astype(np.float32, copy=False)

    observations = floats("observations", world.spaces.observation_size, whose + remark)
    count = len(observations)
    if count == 0:
        raise InputError(f"{table.path}: 'observations' has no rows, so there is nothing to learn from")
    actions = np.zeros((count, world.spaces.action_size), np.float32)
    if "actions" in table or table.like("actions"):
        given = table.floats("actions", world.spaces.action_size, whose + remark, count)
        actions = normalised_actions(table.path, given, world)
    terminated = table.flags("terminals", count)
    columns = {
        "observations": observations,
        "actions": actions,
        "rewards": _rewards(table, count),
        "terminated": terminated,
    }
    if "timeouts" in table:
        columns["truncated"] = table.flags("timeouts", count) & ~terminated
    if "next_observations" in table:
        columns["next_observations"] = floats("next_observations", observations.shape[1], whose, count)
    for name in ("qpos", "qvel"):
        if f"infos/{name}" in table:
            columns[name] = table.floats(f"infos/{name}", sizes[name], whose, count)
    if FLATTENED in table:  # time, positions, velocities
        flattened = table.floats(FLATTENED, 1 + sizes["qpos"] + sizes["qvel"], whose, count)
        columns["qpos"], columns["qvel"] = np.split(flattened[:, 1:], [sizes["qpos"]], axis=1)
    return columns, finite | {"actions", "rewards", "qpos", "qvel"}


def _rewards(table: Table, count: int) -> np.ndarray:
    """The task's rewards (N,), which no imitation learner sees; zeros where there are none."""
    if "rewards" in table or table.like("rewards"):
        return table.numbers("rewards", count)
    _log.warning("%s: has no rewards, so its returns are not known", table.path)
    return np.zeros(count, np.float32)


def normalised_actions(path: Path, actions: np.ndarray, world: World) -> np.ndarray:
    """Actions in the environment's units in [−1, 1] (float32)."""
    same = world.in_own_units and actions.dtype == np.float32 and actions.size > 0
    if same and actions.min() >= -1 and actions.max() <= 1:
        return actions
    normalised = np.empty(actions.shape, np.float32)
    outside: list[int] = []
    for rows in blocks(len(actions)):
        exact = world.normalised(actions[rows])
        outside += (rows_of(np.abs(exact) > 1 + _ACTION_TOLERANCE) + rows.start).tolist()
        normalised[rows] = np.clip(exact, -1, 1)
    if outside:
        low, high = float(world.spaces.action_low.min()), float(world.spaces.action_high.max())
        raise InputError(
            f"{path}: 'actions' leaves the bounds [{low:g}, {high:g}] of {world.description} in "
            f"{len(outside)} of {len(actions)} rows, first in row {outside[0]}; store actions in the "
            "environment's own units, clipped as they were executed"
        )
    return normalised


def _read_successors(table: Table, columns: Arrays, starts: np.ndarray, world: World) -> np.ndarray:
    """Add ``next_observations``; returns where they are known (N,): never across an episode's end."""
    observations = columns["observations"]
    followed = np.ones(len(observations), bool)
    size, whose = observations.shape[1], world.description
    if "next_observations" in columns:
        return followed
    ends = last_rows(starts, len(observations))
    if "infos/final_observations" in table:
        successors = np.roll(observations, -1, axis=0)
        successors[ends] = table.floats("infos/final_observations", size, whose, len(starts))
        columns["next_observations"] = successors
    else:
        followed[ends] = False  # and :func:`~.episodes.leave_out` makes the others' of the rows after them
    return followed


def _read_states(table: Table, columns: Arrays, starts: np.ndarray, world: World, description: object) -> np.ndarray:
    """Reassemble simulator states (N, S) in this MuJoCo's order from the components that the file has."""
    layout, count = world.layout, len(columns["rewards"])
    try:
        told = parse_json(description)
        sizes, left_out = dict(told["sizes"]), dict(told["left_out"])
    except (TypeError, ValueError, LookupError) as error:
        raise InputError(f"{table.path}: attribute '{STATES}' is damaged; record the file again") from error
    components: Arrays = {}
    for name, size in sizes.items():
        if left_out.get(name) == AS_RESET:
            continue
        if name not in layout.sizes or layout.sizes[name] != size:
            raise InputError(
                f"{table.path}: its simulator states have {in_words(size)} numbers of '{in_words(name)}' where "
                f"{world.description} "
                f"has {layout.sizes.get(name, 0)}; use the MuJoCo version and model it was recorded with"
            )
        if left_out.get(name) == PRECEDING_ACTION and size == columns["actions"].shape[1]:
            components[name] = world.preceding_controls(columns["actions"], starts)
        else:
            key = f"infos/{name}" if name in ("qpos", "qvel") else f"infos/simulator/{name}"
            components[name] = table.floats(key, size, world.description, count)
    return layout.join(components, count)
