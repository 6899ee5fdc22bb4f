"""The doctor's look at how observations move, against how the task's own do: units, frozen columns, joints' ranges.

Needs the task, but neither states nor next observations. What each column of an observation is is found out by trying:
for some steps of random actions in the simulator, which column equals which of its positions and velocities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import mujoco as _untyped_mujoco
import numpy as np

from ..robots import TaskBatch
from .blocks import sampled
from .check_columns import unchanging
from .examined import Examined
from .findings import Finding, found, places
from .recorded import World

# MuJoCo's compiled module comes without types.
mujoco: Any = _untyped_mujoco
_HINGE, _SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)
_SIZES = {  # of a joint's position and velocity
    _HINGE: (1, 1),
    _SLIDE: (1, 1),
    int(mujoco.mjtJoint.mjJNT_BALL): (4, 3),
    int(mujoco.mjtJoint.mjJNT_FREE): (7, 6),
}
_BY_JOINT = int(mujoco.mjtTrn.mjTRN_JOINT)
_EPISODES, _STEPS = 4, 40  # of random actions
_CUT = 10.0  # where some tasks cut velocities
_ROUND = 1e-3  # what the squares of a cosine and a sine may be beside 1
_SAME = 1e-5  # what float32 makes of a number
_STILL = 50  # rows for which what moves in the task at every step stands still: a sensor has stopped
_MOVED = 0.05  # rad or m that something moves meanwhile
_COLUMNS, _OTHERS = 6, 0.5  # how many others there must be, and the share of them that moves meanwhile
_FEW, _OFF = 30, 3.0  # rows to tell a unit by, and by which factor it is another
_UNORDERED = 0.7  # the share of how far a position is from any row that a step is, at least, if rows are shuffled
_NOISY = 10.0  # times a sensor's noise that a position must go for that
_AGREE = 0.5  # correlation of moves with speeds, below which nothing is said of a factor
_BEYOND = 1.0  # rad or m beyond its range that no joint gives way
_SOME = 0.01  # share of rows that must be
_FOLLOWS = "training takes what follows for what comes of an action"
_TREATMENT = "training takes them as they are; in the task they would be others"


@dataclasses.dataclass(frozen=True)
class Motion:
    """How a task's observations move by themselves.

    ``turns`` has, for hinges whose angle is observed as cosine and sine, these two columns by that of the cosine.
    ``moving`` (O,) are positions and velocities of the robot that change at every step. ``speed`` has, for columns that
    are a position of its, that which is its velocity. ``ranges`` has the limits of joints by column, and ``names`` what
    joints are called. ``noise`` (O,) is by how much the task's own sensors may be off.
    """

    moving: np.ndarray
    speed: dict[int, int]
    ranges: dict[int, tuple[float, float]]
    names: dict[int, str]
    turns: dict[int, int]
    noise: np.ndarray

    @classmethod
    def of(cls, world: World) -> Motion:
        """Try random actions."""
        tasks = TaskBatch(world.task, list(range(_EPISODES)))
        random = np.random.default_rng(0)
        seen, positions, velocities = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
        try:
            observed = tasks.reset()
            for _ in range(_STEPS):
                seen.append(observed)
                positions.append(np.stack([environment.data.qpos.copy() for environment in tasks.environments]))
                velocities.append(np.stack([environment.data.qvel.copy() for environment in tasks.environments]))
                actions = random.uniform(-1, 1, (_EPISODES, tasks.spaces.action_size)).astype(np.float32)
                observed = tasks.step(actions, "policy").next_observations
            model: Any = tasks.environments[0].model
            noise = np.zeros(observed.shape[1]) + getattr(tasks.environments[0], "noise", 0.0)
        finally:
            tasks.close()
        rows = np.stack(seen)  # (T, E, O)
        flat = rows.reshape(-1, rows.shape[2])
        angles = np.stack(positions).reshape(len(flat), -1)
        of_position = _equal(flat, angles, noise)
        of_velocity = _equal(flat, np.stack(velocities).reshape(len(flat), -1), noise)
        of_cosine, of_sine = _equal(flat, np.cos(angles), noise), _equal(flat, np.sin(angles), noise)
        own = np.zeros(rows.shape[2], bool)
        turns = dict[int, int]()
        speed, ranges, names = dict[int, int](), dict[int, tuple[float, float]](), dict[int, str]()
        for joint in sorted(_joints_of_robot(model)):
            (places, speeds), kind = _SIZES[int(model.jnt_type[joint])], int(model.jnt_type[joint])
            first_place, first_speed = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
            own[[of_position[i] for i in range(first_place, first_place + places) if i in of_position]] = True
            own[[of_velocity[i] for i in range(first_speed, first_speed + speeds) if i in of_velocity]] = True
            column = of_position.get(first_place)
            if column is None and kind == _HINGE and first_place in of_cosine and first_place in of_sine:
                column = of_cosine[first_place]
                turns[column] = of_sine[first_place]
                own[[column, turns[column]]] = True
            if column is None or kind not in (_HINGE, _SLIDE):
                continue
            names[column] = str(model.joint(joint).name)
            if first_speed in of_velocity:
                speed[column] = of_velocity[first_speed]
            if model.jnt_limited[joint] and column not in turns:
                ranges[column] = (float(model.jnt_range[joint][0]), float(model.jnt_range[joint][1]))
        # What noise alone moves in the task, others' recordings may have without it.
        moving = own & (noise == 0) & (np.diff(rows, axis=0) != 0).all((0, 1))
        return cls(moving, speed, ranges, names, turns, noise)

    def goes_on(self, column: int, observations: np.ndarray, x: Examined) -> bool:
        """Whether, where a column stands still (N, O), what it measures goes on: by its velocity or position if the
        observation has it, otherwise by whether most others of the robot move."""
        assert x.world is not None
        rate, positions = x.world.spaces.control_rate, {speed: position for position, speed in self.speed.items()}
        if column in self.speed and column not in self.turns:
            return float(np.abs(observations[:, self.speed[column]]).sum()) / rate > _MOVED
        if column in positions:
            moved = np.ptp(observations[:, positions[column]])
            return bool(moved > _MOVED) if observations[0, column] == 0 else True  # nothing keeps a speed to the bit
        others = self.moving.copy()
        others[column] = False
        return others.sum() >= _COLUMNS and bool((np.diff(observations[:, others], axis=0) != 0).mean() > _OTHERS)


def _joints_of_robot(model: Any) -> set[int]:
    """The joints with a motor, and those that carry them: what else there is, doors and targets, may never move."""
    driven = {int(model.actuator_trnid[i, 0]) for i in range(model.nu) if model.actuator_trntype[i] == _BY_JOINT}
    bodies: set[int] = set()
    for joint in driven:
        body = int(model.jnt_bodyid[joint])
        while body:
            body = int(model.body_parentid[body])
            bodies.add(body)
    return driven | {joint for joint in range(model.njnt) if int(model.jnt_bodyid[joint]) in bodies}


def check_motion(x: Examined) -> Iterator[Finding]:
    """Columns that never change or stop changing, and positions in another unit than the task's."""
    observations = x.columns["observations"]
    if x.world is None or observations.shape[1] != x.world.spaces.observation_size or len(x) < 2:
        return
    motion = Motion.of(x.world)
    same = unchanging(observations) & motion.moving
    if same.any():
        which = f"{places(np.flatnonzero(same), len(same), 'column')} of 'observations'"
        message = f"{which} never change, which in {x.world.task.name} they do: they were not recorded"
        yield Finding("constant-observations", "warning", message, _TREATMENT, int(same.sum()))
    yield from _check_still(x, motion)
    yield from _check_units(x, motion)


def _check_still(x: Examined, motion: Motion) -> Iterator[Finding]:
    """Columns that stop while the robot goes on: a sensor that has frozen, or rows that were filled up."""
    observations, columns = (
        x.columns["observations"],
        np.flatnonzero(motion.moving & ~unchanging(x.columns["observations"])),
    )
    if x.lengths.max() <= _STILL:
        return
    still, frozen = np.zeros(len(x), bool), set[int]()
    # Rows some way apart tell for most that they moved, and the rows between are looked at only where they do not.
    step = _STILL // 2
    marks = np.arange(0, len(x), step)
    equal = observations[marks[1:]][:, columns] == observations[marks[:-1]][:, columns]
    for index in np.flatnonzero(equal.any(axis=0)):
        column = int(columns[index])
        for mark in marks[:-1][equal[:, index]]:
            begin, end = max(0, mark - step), min(len(x), mark + 2 * step + 1)
            first, last = _longest(observations[begin:end, column])
            rows = slice(begin + first, begin + last)
            if last - first >= _STILL and motion.goes_on(column, observations[rows], x):
                still[rows] = True
                frozen.add(column)
    if frozen:
        which = f"{places(sorted(frozen), observations.shape[1], 'column')} of 'observations'"
        message = f"{which} stand still while the robot moves, for {_STILL} rows and more, as in {{places}}"
        yield found("frozen", "warning", still, message, _TREATMENT)


def _longest(numbers: np.ndarray) -> tuple[int, int]:
    """The first row of the longest stretch of equal numbers (N,), and the row after it."""
    ends = np.append(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1, len(numbers))
    lengths = np.diff(np.append(0, ends))
    longest = int(lengths.argmax())
    return int(ends[longest] - lengths[longest]), int(ends[longest])


def _check_units(x: Examined, motion: Motion) -> Iterator[Finding]:
    """Positions against their velocities, and against the ranges of their joints."""
    observations, successors = x.columns["observations"], x.get("next_observations")
    rows = sampled(len(x) - 1)
    rows = rows[~x.last[rows]]
    if len(rows) < _FEW:
        return
    before = observations[rows].astype(np.float64)
    after = (observations[rows + 1] if successors is None else successors[rows]).astype(np.float64)
    bad = _no_angles(motion, before)
    if bad:
        message = (
            f"columns {bad[0]} and {motion.turns[bad[0]]} of 'observations' are no cosine and sine of an angle "
            f"({motion.names[bad[0]]}), for their squares do not add up to 1: another unit, or another order of columns"
        )
        yield Finding("units", "warning", message, _TREATMENT, 2 * len(bad))
        return
    if _unordered(x, motion, rows, before, after):
        message = (
            "positions are as far from what follows them as from any other row of their episode: rows are shuffled"
        )
        yield Finding("order", "warning", message, _FOLLOWS)
        return
    agreements, factors = _moves(x, motion, before, after)
    if agreements and float(np.median(agreements)) < _AGREE:
        message = (
            "positions do not move as their velocities say from a row to what follows it (a correlation of "
            f"{float(np.median(agreements)):.2f}): rows are shuffled, backwards or left out, columns in another "
            "order, or very noisy"
        )
        yield Finding("order", "warning", message, _FOLLOWS)
        return
    off = {column: factor for column, factor in factors.items() if not 1 / _OFF < factor < _OFF}
    if off:
        column, factor = next(iter(off.items()))
        why = " (degrees for radians?)" if 40 < factor < 80 or 1 / 80 < factor < 1 / 40 else ""
        which = ", ".join(f"{column} ({motion.names[column]})" for column in list(off)[:3])
        message = (
            f"column{'s' if len(off) > 1 else ''} {which} of 'observations' move {factor:.3g} times as far as their "
            f"velocities say{why}: another unit, another order of columns, or rows left out"
        )
        yield Finding("units", "warning", message, _TREATMENT, len(off))
    beyond = np.zeros(len(rows), bool)
    which = list[str]()
    for column, (low, high) in motion.ranges.items():
        outside = (before[:, column] < low - _BEYOND) | (before[:, column] > high + _BEYOND)
        if column not in off and outside.mean() > _SOME:
            beyond |= outside
            which.append(f"{column} ({motion.names[column]})")
    if which:
        where = np.zeros(len(x), bool)
        where[rows[beyond]] = True
        share = f"{int(beyond.sum())} of {len(rows)} rows looked at"
        message = (
            f"columns {', '.join(which[:3])} of 'observations' are beyond the joints' ranges in {share}, as in "
            "{places}: degrees for radians, or another order of columns?"
        )
        yield found("beyond-range", "warning", where, message, _TREATMENT)


def _moves(x: Examined, motion: Motion, before: np.ndarray, after: np.ndarray) -> tuple[list[float], dict[int, float]]:
    """The correlations of how far positions move with their velocities, and by column how many times as far."""
    assert x.world is not None
    agreements, factors = list[float](), dict[int, float]()
    for column, speed in motion.speed.items():
        moved = _moved(motion, column, before, after)
        mean = (before[:, speed] + after[:, speed]) / (2 * x.world.spaces.control_rate)
        fast = np.abs(before[:, speed])
        known = np.isfinite(moved) & np.isfinite(mean) & ((fast < _CUT) | ~(fast == _CUT).any())
        moved, mean = moved[known], mean[known]
        if moved.any() and mean.any():
            agreements.append(float(moved @ mean / (np.linalg.norm(moved) * np.linalg.norm(mean))))
            if agreements[-1] > _AGREE:
                factors[column] = float(moved @ mean / (mean @ mean))
    return agreements, factors


def _unordered(x: Examined, motion: Motion, rows: np.ndarray, before: np.ndarray, after: np.ndarray) -> bool:
    """Whether positions without velocities (K, O) go no less far in a step than in any other time."""
    columns = [column for column in motion.names if column not in motion.speed]
    if not columns:
        return False
    episodes = np.searchsorted(x.starts, rows, "right") - 1
    others = x.starts[episodes] + np.random.default_rng(0).integers(0, x.lengths[episodes])
    steps = np.abs(after - before)[:, columns].mean(0)
    far = np.abs(x.columns["observations"][others].astype(np.float64) - before)[:, columns].mean(0)
    wide = far > _NOISY * motion.noise[columns] + _SAME
    return bool(wide.any()) and float(np.median(steps[wide] / far[wide])) > _UNORDERED


def _moved(motion: Motion, column: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far a position (N,) moved; one seen as cosine and sine, by the shorter way round."""
    if column not in motion.turns:
        return after[:, column] - before[:, column]
    sine = motion.turns[column]
    turned = np.arctan2(after[:, sine], after[:, column]) - np.arctan2(before[:, sine], before[:, column])
    return (turned + np.pi) % (2 * np.pi) - np.pi


def _no_angles(motion: Motion, rows: np.ndarray) -> list[int]:
    """The columns of cosines that are none, with what should be their sines, in more than some rows (N, O)."""
    squares = {cosine: rows[:, cosine] ** 2 + rows[:, sine] ** 2 for cosine, sine in motion.turns.items()}
    return [cosine for cosine, sums in squares.items() if (np.abs(sums - 1) > _ROUND).mean() > _SOME]


def _equal(columns: np.ndarray, numbers: np.ndarray, noise: np.ndarray) -> dict[int, int]:
    """For each number of the simulator (N, S) the column (N, O) that shows it, give or take its noise (O,): the number,
    and its column."""
    found: dict[int, int] = {}
    for index in range(numbers.shape[1]):
        number = numbers[:, index : index + 1]
        if number.std() < _SAME:
            continue
        cut = (np.abs(columns) == _CUT) & (np.abs(number) >= _CUT)
        same = (cut | (np.abs(columns - number) <= _SAME * (1 + np.abs(number)) + noise)).mean(0)
        if same.max() == 1:
            found[index] = int(same.argmax())
    return found
