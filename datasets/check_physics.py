"""The doctor's look at physics: recorded states and steps tried out in the task's own simulator."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import mujoco as _untyped_mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv

from ..robots import Inner, InputError, Snapshot, observation_parts, place
from .examined import Examined
from .findings import REFUSED, Finding, found
from .recorded import World, recorded_disturbances

# MuJoCo's compiled module comes without types.
mujoco: Any = _untyped_mujoco
STATE_TOLERANCE = 1e-4  # as for resets to recorded states
_STEP_TOLERANCE = 2e-3  # of a dimension's deviation (or its size), after one step: other versions of one physics pass
_LAG = 0.1  # of a dimension's deviation: what MuJoCo derives from a state is a substep older in a recording
PLACES = ("body_pos", "body_quat", "site_pos")  # what resets move, as robots.simulation has it
_SAMPLE, _ENDS = 200, 50  # rows and episodes looked at, unless all are
_SOME = 0.1  # share of sampled steps that may differ: contacts are chaotic


def check_physics(x: Examined, *, every_row: bool) -> Iterator[Finding]:
    """Recorded states against observations, and steps from them against what is recorded of them.

    Needs the task, states, and that nothing but the task's own simulator was at work.
    """
    world = x.world
    if world is None or "infos/qpos" not in x.columns or "infos/qvel" not in x.columns:
        return
    if not all(np.isfinite(column).all() for column in x.columns.values() if column.dtype.kind == "f"):
        return  # said already
    try:
        suffered = recorded_disturbances(x.table.path, x.table.attributes())
    except InputError as error:
        yield Finding("disturbed", "error", str(error), REFUSED)
        return
    if suffered != world.task.disturbances:
        yield Finding(
            "disturbed",
            "note",
            "its robot was another than the task's, so physics is not compared",
            "training takes it as it is",
        )
        return
    environment = world.task.make()
    try:
        environment.reset(seed=0)
        bench = _Bench(x, world, environment)
        if bench.incomplete:
            message = "the task's resets move things that its states do not have, so physics is not compared"
            yield Finding(
                "states-in-part", "note", message, "resets to its states are replayed from its seeds, or refused"
            )
            return
        rows = np.arange(len(x)) if every_row else _spread(len(x), _SAMPLE)
        trembles = world.task.disturbances.tremble > 0  # what is stored is the action that was meant
        with _unheard():
            findings = list(_check_states(x, bench, rows))
            if not trembles and not any(finding.severity != "note" for finding in findings):
                findings += _check_steps(x, bench, rows)
        yield from findings
    finally:
        environment.close()


@contextlib.contextmanager
def _unheard() -> Generator[None]:
    """Keep MuJoCo from writing to the terminal, and to a file where it is, that a state makes no sense: it is found."""

    def nobody(_: str) -> None: ...

    heard = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(nobody)
    try:
        with np.errstate(over="ignore"):  # in float32
            yield
    finally:
        mujoco.set_mju_user_warning(heard)


class _Bench:
    """The task's environment, put into the states of rows."""

    def __init__(self, x: Examined, world: World, environment: MujocoEnv) -> None:
        self._x, self._environment, self._world = x, environment, world
        self._episode = np.repeat(np.arange(len(x.starts)), x.lengths)
        self._places = _moved(x, environment)
        self.incomplete = not self._places and _moves(environment)

    @property
    def noise(self) -> np.ndarray | float:
        """By how much two observations (O,) of one state may differ."""
        return 2 * getattr(self._environment, "noise", 0.0)

    def see(self, row: int) -> None:
        """Have seen what was seen in a row, if what is moved next depends on it."""
        if isinstance(self._environment, Inner):
            self._environment.recall(self._x.columns["observations"][row])

    def put(self, row: int) -> np.ndarray:
        """What is observed (O,) in a row's state."""
        x, episode = self._x, int(self._episode[row])
        for field, body, values in self._places:
            getattr(self._environment.model, field)[body] = values[episode]
        columns = x.columns
        seen = columns["observations"][row]
        snapshot = Snapshot(
            int(x.times_of(np.int64(row))), seen, qpos=columns["infos/qpos"][row], qvel=columns["infos/qvel"][row]
        )
        return place(self._environment, snapshot)

    def step(self, row: int) -> tuple[np.ndarray, float, bool]:
        """What a row's action leads to: the observation (O,), the reward, and whether it is the end."""
        low, high = self._world.spaces.action_low, self._world.spaces.action_high
        action = np.clip(self._x.columns["actions"][row].astype(np.float64), low, high)
        observation, reward, terminated, _, _ = self._environment.step(action)
        return np.asarray(observation, np.float32), float(reward), bool(terminated)


def _moves(environment: MujocoEnv) -> bool:
    """Whether a reset puts things in the model elsewhere, as the Adroit hand's doors."""
    model: Any = environment.model
    before = [getattr(model, name).copy() for name in ("body_pos", "body_quat")]
    environment.reset(seed=1)
    after = [getattr(model, name) for name in ("body_pos", "body_quat")]
    return not all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def _moved(x: Examined, environment: MujocoEnv) -> list[tuple[str, int, np.ndarray]]:
    """What each episode's reset moved in the model: `metadata/episode_model/<field>:<the environment's name of it>`."""
    prefix, moved = "metadata/episode_model/", list[tuple[str, int, np.ndarray]]()
    for key in filter(lambda key: key.startswith(prefix), x.table.keys()):
        field, _, name = key.removeprefix(prefix).partition(":")
        row: Any = getattr(environment, name, None)
        if field not in PLACES or not isinstance(row, (int, np.integer)):  # other fields can end the process
            continue
        places: Any = getattr(environment.model, field)
        kind, shape = x.table.about(key)
        if kind.kind == "f" and shape == (len(x.starts), places.shape[1]) and 0 <= row < len(places):
            moved.append((field, int(row), x.table.raw(key)))
    return moved


def _spread(count: int, wanted: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(int))


def _check_states(x: Examined, bench: _Bench, rows: np.ndarray) -> Iterator[Finding]:
    assert x.world is not None
    observations = x.columns["observations"]
    try:
        gaps = np.abs(np.stack([bench.put(int(row)) for row in rows]) - observations[rows])
    except InputError as error:
        yield Finding("states", "warning", str(error), "resets to its states are refused")
        return
    parts: Any = observation_parts(x.world.task)
    settable = np.zeros(observations.shape[1], bool)
    for name in ("positions", "velocities"):
        settable[parts.get(name, slice(None))] = True
    differs: np.ndarray = np.any(gaps[:, settable] > STATE_TOLERANCE, axis=1)
    treatment = "resets to its states are refused, or replayed from its seeds"
    lag = bool((gaps <= _LAG * (observations.std(0) + 1e-3)).all())
    if differs.any() and lag:
        message = (
            f"its states give the recorded observations to within {gaps.max():.2g}, as what is seen lags a substep"
        )
        yield Finding("states-in-part", "note", message, treatment)
    elif differs.any():
        worst, where = float(gaps[:, settable].max()), np.zeros(len(x), bool)
        where[rows[differs]] = True
        share = f"{int(differs.sum())} of {len(rows)} rows tried"
        message = f"states do not give the recorded observations in {share} (by up to {worst:.2g}), as in {{places}}"
        yield found("states", "warning", where, message, treatment)
    elif (gaps > STATE_TOLERANCE).any():
        names = [name for name, part in parts.items() if (gaps[:, part] > STATE_TOLERANCE).any()]
        message = f"positions and velocities come back, but not {', '.join(names)}, which no state of these sets"
        yield Finding("states-in-part", "note", message, treatment)


def _check_steps(x: Examined, bench: _Bench, rows: np.ndarray) -> Iterator[Finding]:
    """Two steps from each row: what environments read of the last step is wrong in the first after a restore."""
    assert x.world is not None
    columns = x.columns
    if "actions" not in columns or len(x) < 3:
        return
    observations, rewards = columns["observations"].astype(np.float64), columns.get("rewards")
    scale = observations.std(0) + 0.01 * np.abs(observations).max(0) + 1e-6
    tolerance = _STEP_TOLERANCE * scale + 1e-4 + bench.noise
    tried = rows[(rows + 2 < len(x)) & ~x.last[np.minimum(rows, len(x) - 1)]]
    tried = tried[~x.last[tried + 1]]
    astray, paid, checked = np.zeros(len(x), bool), np.zeros(len(x), bool), 0
    for row in tried:
        bench.put(int(row))
        if bench.step(int(row))[2]:
            continue  # what is beyond the task's end is none of it
        bench.see(int(row) + 1)
        after, reward, _ = bench.step(int(row) + 1)
        checked += 1
        astray[row] = bool((np.abs(after - observations[row + 2]) > tolerance).any())
        if rewards is not None and not astray[row]:
            paid[row] = bool(abs(reward - float(rewards[row + 1])) > 0.01 * abs(reward) + 1e-3)
    if checked and astray.sum() > _SOME * checked:
        message = f"steps from its states lead elsewhere in {int(astray.sum())} of {checked} tried, as from {{places}}"
        treatment = "training learns from its steps; in the task they may not work as well"
        yield found("dynamics", "warning", astray, f"{message}: its physics was another", treatment)
        return
    if paid.sum() > _SOME * max(checked, 1):
        message = f"rewards differ from the task's in {int(paid.sum())} of {checked} steps tried, as after {{places}}"
        yield found("rewards", "warning", paid, message, "no imitation learner sees them; scores are of another task")
    if not x.world.task.ends_well:
        yield from _check_falls(x, bench)


def _check_falls(x: Examined, bench: _Bench) -> Iterator[Finding]:
    """The last step of episodes, tried out: does the task end there as the marks say?"""
    assert x.world is not None
    terminals = x.marked("terminals")
    missing, wrong = np.zeros(len(x), bool), np.zeros(len(x), bool)
    for episode in _spread(len(x.starts), _ENDS):
        row = int(x.bounds[episode + 1]) - 1
        if x.lengths[episode] < 2:
            continue
        bench.put(row - 1)
        bench.step(row - 1)
        ended = bench.step(row)[2]
        missing[row], wrong[row] = ended and not terminals[row], terminals[row] and not ended
    if missing.any():
        message = f"{x.world.task.name} ends after {{places}}, where 'terminals' are 0"
        yield found("no-terminals", "error", missing, message, "training takes falls for interruptions")
    if wrong.any() and x.world.task.terminates:
        message = f"'terminals' are set where {x.world.task.name} does not end, in {{places}}"
        yield found("unexpected-terminals", "warning", wrong, message, "training takes what follows for worth nothing")
