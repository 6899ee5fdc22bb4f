"""Where the episodes of a table begin and end, and what is known of each."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ..robots import InputError, Task
from .blocks import blocks, rows_of, unequal_rows
from .table import Table

_log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
_MANY_UNMARKED = 0.05  # share of rows
_STARTS = 50  # of the task's own, to see where its episodes start
_NO_RANGE = 1e-3  # what counts as the same in a dimension in which they do not differ


def last_rows(starts: np.ndarray, count: int) -> np.ndarray:
    """The last row of each episode (E,), from the first rows (E,) and the number of rows."""
    return np.append(starts[1:], count) - 1


def rows_within_episodes(starts: np.ndarray, count: int) -> np.ndarray:
    """The number of each row within its episode (N,), from the first rows (E,) and the number of rows."""
    return np.arange(count) - np.repeat(starts, np.diff(np.append(starts, count)))


def rising(starts: np.ndarray, count: int) -> bool:
    """Whether these (int64) can be the first rows of episodes that make up so many rows."""
    # Extremes first: differences of numbers that are far out wrap around.
    within = len(starts) > 0 and starts[0] == 0 and bool(starts.min() >= 0) and bool(starts.max() < count)
    return within and bool((np.diff(starts) > 0).all())


def starts_of(lengths: np.ndarray, count: int) -> np.ndarray | None:
    """The first rows of episodes of these lengths (int64), if they make up so many rows."""
    sound = len(lengths) > 0 and bool(lengths.min() > 0) and bool(lengths.max() <= count)  # or their sum wraps around
    return np.cumsum(lengths) - lengths if sound and lengths.sum() == count else None


def read_episode_starts(table: Table, columns: Arrays, horizon: int, task: Task) -> np.ndarray:
    """The rows where episodes start (E,); adds ``truncated`` to the columns if the file has no timeouts.

    Errors: :class:`InputError` when the file's marks contradict each other, or what is in it.
    """
    count = len(columns["rewards"])
    marked = "truncated" in columns
    if "metadata/episode_starts" in table:
        starts = table.integers("metadata/episode_starts").astype(np.int64)
        if not rising(starts, count):
            raise InputError(
                f"{table.path}: 'metadata/episode_starts' must rise from 0 and stay below the {count} rows"
            )
    elif (starts := _starts_by_length(table, count)) is None:
        ends = columns["terminated"] | columns["truncated"] if marked else columns["terminated"]
        unmarked = _breaks(columns) & ~ends
        if marked and unmarked.any() and unmarked.mean() <= _MANY_UNMARKED:
            _log.warning(
                "%s: %d ends of episodes are not marked, and are taken from where the next observation is not the row "
                "after it (first row %d)", table.path, unmarked.sum(), int(unmarked.argmax()),
            )  # fmt: skip
            columns["truncated"] |= unmarked
            ends = ends | unmarked
        starts = np.append(0, np.flatnonzero(ends[:-1]) + 1)
        _check_ends(table, columns, starts, horizon, task, unmarked & ~ends)
    last = np.zeros(count, bool)
    last[last_rows(starts, count)] = True
    if not marked:
        columns["truncated"] = last & ~columns["terminated"]
    early = np.flatnonzero((columns["terminated"] | columns["truncated"]) & ~last)
    if len(early):
        raise InputError(
            f"{table.path}: row {early[0]} is marked as an episode's end in 'terminals' or 'timeouts', but is "
            "none by the starts or lengths in 'metadata'; correct the one or remove the other"
        )
    return starts.astype(np.int64)


def _starts_by_length(table: Table, count: int) -> np.ndarray | None:
    if "metadata/episode_lengths" not in table:
        return None
    # None when they are of the episodes before rows were taken out, and say nothing about where they start here.
    return starts_of(table.integers("metadata/episode_lengths").astype(np.int64), count)


def _check_ends(
    table: Table, columns: Arrays, starts: np.ndarray, horizon: int, task: Task, broken: np.ndarray
) -> None:
    """Refuse or report episodes whose ends, by all that can be seen, were not marked; ``broken`` (N,) is where what
    follows a row within an episode is not the row after it."""
    observations, marked = columns["observations"], "truncated" in columns
    lengths = np.diff(np.append(starts, len(observations)))
    long = np.flatnonzero(lengths > horizon)
    if len(long):
        row = starts[long[0]]
        problem = f"row {row} begins an episode of {lengths[long[0]]} rows, but the horizon is {horizon}"
    elif not marked and broken.any():  # a fall, for all that is known, so it is not taken for a time limit
        problem = f"the next observation of row {int(broken.argmax())} is not the observation of the row after it"
    elif not marked and "next_observations" not in table and _hangs(columns, lengths, horizon):
        problem = f"row {starts[-1]} begins an episode of {lengths[-1]} rows that neither ends nor lasts {horizon}"
    elif not marked and "next_observations" not in table and (row := fresh_start(task, observations, starts)):
        problem = f"row {row} looks like the start of an episode, and the row before it is not marked as an end"
    else:
        return
    # With recorded next observations no transition is wrong, and people take longer than a task's horizon.
    if marked and len(starts) > 1 and "next_observations" in table:
        _log.warning("%s: %s", table.path, problem)
        return
    where = "'terminals' and 'timeouts' do" if marked else "there are no 'timeouts', and 'terminals' do"
    raise InputError(
        f"{table.path}: {where} not mark where all episodes end ({problem}); "
        "add 'timeouts', or 'metadata/episode_lengths' with the rows of each episode"
    )


def _hangs(columns: Arrays, lengths: np.ndarray, horizon: int) -> bool:
    """Whether the last episode stops before its time: then earlier ones may have been cut as well, unseen."""
    return bool(lengths[-1] < horizon and not columns["terminated"][-1])


def starts_of_task(task: Task) -> np.ndarray:
    """What is observed at the start of some of the task's own episodes (E, O)."""
    environment = task.make()
    try:
        return np.stack([np.asarray(environment.reset(seed=seed)[0], np.float32) for seed in range(_STARTS)])
    finally:
        environment.close()


def like_a_start(fresh: np.ndarray, observations: np.ndarray) -> np.ndarray:
    """Whether rows (N,) lie in the range of the task's own starts (E, O), widened threefold."""
    low, high = fresh.min(0), fresh.max(0)
    wide = (high - low) + _NO_RANGE
    inside = np.ones(len(observations), bool)
    for block in blocks(len(observations)):
        rows = observations[block]
        inside[rows_of((rows < low - wide) | (rows > high + wide)) + block.start] = False
    return inside


def fresh_start(task: Task, observations: np.ndarray, starts: np.ndarray) -> int | None:
    """The first row within an episode that jumps to where the task's own episodes start, if any.

    A jump: from outside the range of the starts, widened threefold, into it, by more than its width in some dimension.
    """
    fresh = starts_of_task(task)
    if fresh.shape[1] != observations.shape[1]:  # which the doctor tells of
        return None
    wide = (fresh.max(0) - fresh.min(0)) + _NO_RANGE
    inside = like_a_start(fresh, observations)
    rows = np.setdiff1d(np.flatnonzero(inside[1:] & ~inside[:-1]), starts[1:] - 1)
    rows = rows[(np.abs(observations[rows + 1] - observations[rows]) > 3 * wide).any(axis=1)]
    return int(rows[0]) + 1 if len(rows) else None


def _breaks(columns: Arrays) -> np.ndarray:
    """Where the recorded next observation is not the row after it (N,); nowhere if none are recorded.

    So D4RL's replays show the ends that their marks lack (D4RL #162).
    """
    observations, successors = columns["observations"], columns.get("next_observations")
    broken = np.zeros(len(observations), bool)
    if successors is not None and len(observations) > 1:
        rows = unequal_rows(successors[:-1], observations[1:])  # few, so the closer look is at these alone
        broken[rows] = ~np.isclose(successors[rows], observations[rows + 1], rtol=1e-5, atol=1e-6).all(axis=1)
    return broken


def read_times(table: Table, starts: np.ndarray, count: int) -> np.ndarray:
    """The step of each row within its episode as recorded (N,): as the file says, or its place in the episode."""
    if "infos/times" in table:
        return table.integers("infos/times", count)
    return rows_within_episodes(starts, count)


def read_per_episode(table: Table, columns: Arrays, starts: np.ndarray) -> Arrays:
    """What is known of each episode as recorded (E,): from the file, or worked out from all its rows."""
    episodes, rewards = len(starts), columns["rewards"]
    found: Arrays = {
        "episode_returns": np.add.reduceat(rewards.astype(np.float64), starts),
        "episode_lengths": np.diff(np.append(starts, len(rewards))),
        "episode_terminated": np.logical_or.reduceat(columns["terminated"], starts),
    }
    if "metadata/episode_returns" in table:
        found["episode_returns"] = table.numbers("metadata/episode_returns", episodes)
    if "metadata/episode_lengths" in table:
        found["episode_lengths"] = table.integers("metadata/episode_lengths", episodes)
    if "metadata/episode_terminated" in table:
        found["episode_terminated"] = table.flags("metadata/episode_terminated", episodes)
    if "metadata/episode_seeds" in table:
        found["episode_seeds"] = table.integers("metadata/episode_seeds", episodes)
    return found


def leave_out(path: Path, columns: Arrays, starts: np.ndarray, per_episode: Arrays, followed: np.ndarray) -> Arrays:
    """The columns, rows that nothing is known to follow left out, with the starts as they are then.

    ``columns`` is used up: each goes when its rows are taken. Without ``next_observations`` these are made of the rows
    that follow.

    Errors: :class:`InputError` when no row is left.
    """
    if followed.all():
        return {**columns, **per_episode, "starts": starts}
    lengths = np.add.reduceat(followed, starts)
    kept = lengths > 0
    if not kept.any():
        raise InputError(
            f"{path}: 'next_observations' is missing, and no episode has two rows to make them from; "
            "record it with next observations"
        )
    _log.warning(
        "%s: has no next_observations, so the last row of each of its %d episodes (%d terminal) is left out",
        path,
        len(starts),
        np.count_nonzero(columns["terminated"] & ~followed),
    )
    if "next_observations" not in columns:
        columns["next_observations"] = columns["observations"][1:][followed[:-1]]
    for name in columns.keys() - {"next_observations"}:
        columns[name] = columns[name][followed]
    return {
        **columns,
        **{name: column[kept] for name, column in per_episode.items()},
        "starts": (np.cumsum(lengths) - lengths)[kept],
    }
