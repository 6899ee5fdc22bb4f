"""Resets to recorded states: the expert's (FILTER) or those of offline data."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, Self

import numpy as np

from ...datasets import Demonstrations
from ...robots import InputError, Snapshot, Task, TaskBatch, place, view_mask
from ..parts import Setting
from .base import InitialStart, MixedResets, Start, only

# Recorded observations are float32, and MuJoCo's versions agree to about 1e-6 after a step.
TOLERANCE = 1e-4
_IN_PART = ", or name the parts of the observation that its do give back, like resets.check=[positions,velocities]"
_WEDGED = 0.02  # m; a landing foot gives way by less


class RecordedStart(Start):
    """In a state of recorded episodes: an episode is drawn uniformly, then one of its rows.

    The simulator's state is set where the file has it and it gives back the recorded observation, or of it the parts
    that ``check`` names (checked for every row when this is made); otherwise the episode's recorded actions are
    replayed from its seed up to the row, which takes steps, if that leads back to every recorded observation (checked
    as well, and those steps are counted too). ``method`` says which of the two it is.
    """

    def __init__(self, task: Task, recorded: Demonstrations, check: tuple[str, ...] = ()) -> None:
        self._task, self._recorded = task, recorded
        problem = states_problem(task, recorded, check)
        self.method = "states" if problem is None else "replay"
        self.about = "states set" if problem is None else f"replayed from its seeds: {problem}"
        if problem is None and check:
            self.about += f" (checked: {', '.join(check)})"
        longer = any("length" in change for change in task.disturbances.bodies.values())
        if problem is None and task.disturbances.frozen:
            self.about += ", but for frozen joints, which are held where this robot has them"
        if problem is None and longer and (share := wedged_share(task, recorded)):
            self.about += (
                f", in {share:.0%} of which this robot's other body is more than {_WEDGED * 100:.0f} cm in something"
            )
        if problem is not None:
            unable, self.steps = replay_problem(task, recorded)
            if unable is not None:
                raise InputError(
                    f"{recorded.source}: no resets to its states: {problem}; and {unable}; choose resets=initial, or "
                    "give a file with the states that this version of MuJoCo needs ('infos/qpos', 'infos/qvel')"
                    + (_IN_PART if recorded.snapshot(0) is not None else "")
                )

    def start(self, tasks: TaskBatch, index: int, random: np.random.Generator) -> np.ndarray:
        """Start where the recording was at a random row."""
        bounds = np.append(self._recorded.starts, len(self._recorded))
        episode = int(random.integers(len(self._recorded.starts)))
        row = int(random.integers(bounds[episode], bounds[episode + 1]))
        if self.method == "states":
            snapshot = self._recorded.snapshot(row)
            assert snapshot is not None
            return tasks.place(index, snapshot)
        return self._replay(tasks, index, episode, row)

    def _replay(self, tasks: TaskBatch, index: int, episode: int, row: int) -> np.ndarray:
        recorded, mask = self._recorded, only(index, len(tasks))
        assert recorded.episode_seeds is not None
        observation = tasks.reset_to_seed(index, int(recorded.episode_seeds[episode]))
        actions = np.zeros((len(tasks), tasks.spaces.action_size), np.float32)
        for past in range(int(recorded.starts[episode]), row):
            actions[index] = recorded.actions[past]
            observation = tasks.step(actions, "reset", mask).next_observations[index]
        return observation


class ImaginedStart(Start):
    """In a state of recorded episodes, drawn as :class:`RecordedStart` draws, in a world that can begin in any
    observation: nothing is asked of the recording but to have been there."""

    def __init__(self, recorded: Demonstrations) -> None:
        self._recorded = recorded

    def imagined(self, run: int, count: int, random: np.random.Generator) -> np.ndarray:
        """Observations (count, O)."""
        bounds = np.append(self._recorded.starts, len(self._recorded))
        episodes = random.integers(len(self._recorded.starts), size=count)
        return self._recorded.observations[random.integers(bounds[episodes], bounds[episodes + 1])]


def states_problem(task: Task, recorded: Demonstrations, check: tuple[str, ...] = ()) -> str | None:
    """Why the recorded states cannot be set, as a clause; none when each gives back the recorded observation.

    ``check`` names the parts of the observation that it must give back (all when empty).
    """
    asked = view_mask(task, check, "resets.check")
    if recorded.snapshot(0) is None:
        return "it has no simulator states"
    environment = task.make()
    try:
        environment.reset(seed=0)
        observed = [place(environment, _snapshot(recorded, row)) for row in range(len(recorded))]
    finally:
        environment.close()
    gaps = np.abs(np.stack(observed) - recorded.observations)
    if asked is not None:
        gaps *= asked
    row, column = np.unravel_index(int(gaps.argmax()), gaps.shape)
    if gaps[row, column] <= TOLERANCE:
        return None
    return (
        f"the observation of its restored state differs from the recorded one by up to {gaps[row, column]:.2g} "
        f"(row {row}, number {column} of {gaps.shape[1]})"
    )


def wedged_share(task: Task, recorded: Demonstrations) -> float:
    """The share of recorded states in which the task's robot, of another body than the recorded, is deep in something.

    It may not get out of there; the recorded robot fitted.
    """
    environment = task.make()
    try:
        environment.reset(seed=0)
        wedged = 0
        for row in range(len(recorded)):
            place(environment, _snapshot(recorded, row))
            wedged += min((contact.dist for contact in environment.data.contact), default=0.0) < -_WEDGED
    finally:
        environment.close()
    return wedged / len(recorded)


def replay_problem(task: Task, recorded: Demonstrations) -> tuple[str | None, int]:
    """Why the recorded episodes cannot be replayed, as a clause, and the steps that it took to find out.

    No clause when each episode leads back to what was recorded.
    """
    if recorded.episode_seeds is None:
        return "its episodes have no seeds to be replayed from", 0
    if not recorded.acted:
        return "it has no actions to be replayed", 0
    ends = np.append(recorded.starts[1:], len(recorded))
    whole = all(
        np.array_equal(recorded.times[begin:end], np.arange(end - begin))
        for begin, end in zip(recorded.starts, ends, strict=True)
    )
    if not whole:
        return "only some rows of its episodes are there, so they cannot be replayed", 0
    tasks = TaskBatch(task, [0])
    try:
        return _drift(tasks, recorded, recorded.episode_seeds), int(tasks.counts["reset"][0])
    finally:
        tasks.close()


def _drift(tasks: TaskBatch, recorded: Demonstrations, seeds: np.ndarray) -> str | None:
    """Where replaying actions from their episode's seed leads away from the recorded observations, as a clause."""
    ends = np.append(recorded.starts[1:], len(recorded))
    for episode, (begin, end) in enumerate(zip(recorded.starts, ends, strict=True)):
        observation = tasks.reset_to_seed(0, int(seeds[episode]))
        for row in range(begin, end):
            gap = float(np.abs(observation - recorded.observations[row]).max())
            if gap > TOLERANCE:
                return f"replaying episode {episode} from its seed drifts by {gap:.2g} after {row - begin} steps"
            observation = tasks.step(recorded.actions[None, row], "reset").next_observations[0]
    return None


@dataclasses.dataclass(frozen=True)
class RecordedConfig:
    """``share`` of the episodes start in a recorded state, the others in the task's initial states.

    ``check`` names the parts of the observation that a recorded state must give back when it is set (all when empty):
    a Humanoid's contact forces are those of the last substep, so none that was not stepped there has them, while what
    follows depends on positions and velocities alone.
    """

    share: float = 0.5
    check: tuple[str, ...] = ()


class RecordedResets(MixedResets):
    """A share of the episodes starts in states of ``source``, the others in the task's initial states."""

    Config: ClassVar[type[Any] | None] = RecordedConfig
    source: ClassVar[Literal["expert", "offline"]]

    @classmethod
    def create(cls, config: RecordedConfig, setting: Setting) -> Self:
        """For a setting. Errors: :class:`InputError` when the recordings are missing, or none can be started from."""
        starts = {"initial": InitialStart(), cls.source: recorded_start(setting, cls.source, config.check)}
        return cls(starts, [1 - config.share, config.share], setting.seeds)


class ExpertResets(RecordedResets):
    """A share of the episodes starts in the expert's states (FILTER)."""

    source = "expert"


class OfflineResets(RecordedResets):
    """A share of the episodes starts in the states of the offline data."""

    source = "offline"


def recorded_start(setting: Setting, which: str, check: tuple[str, ...]) -> Start:
    """Starts in the states of the expert or of the offline data, which give back the parts that ``check`` names.

    Errors: :class:`InputError` when these data are missing, or have no states that can be started from.
    """
    recorded, option = (setting.demonstrations, "data") if which == "expert" else (setting.offline, "offline")
    if recorded is None:
        raise InputError(f"resets to {which} states need recordings: give {option}=<bundled name or file>")
    return ImaginedStart(recorded) if setting.imagined else RecordedStart(setting.task, recorded, check)


def _snapshot(recorded: Demonstrations, row: int) -> Snapshot:
    snapshot = recorded.snapshot(row)
    assert snapshot is not None
    return snapshot
