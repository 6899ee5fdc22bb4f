"""The doctor's look at time: where episodes end, whether what follows does follow, and what jumps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .blocks import blocks, rows_of, sampled, unequal_rows
from .episodes import fresh_start, like_a_start, starts_of_task
from .examined import Examined
from .findings import REFUSED, Finding, found
from .table import all_finite

_EQUAL = 1e-5  # of a dimension's deviation: what two recordings of one observation may differ by
# A jump is so many times that percentile of the changes, and seen in so many columns, or a share of them.
_USUAL, _JUMP, _COLUMNS, _SHARE = 99.5, 5.0, 3, 0.1
_GOES_ON = 0.25  # share of these columns that change as much as is usual, the same way, just before or after: it moves
_SETTLING = 5  # rows at the start of an episode, in which a robot falls to its feet
_FASTER = 3.0  # how much faster than its speeds before and after a joint can have moved
_ALIKE = 0.5  # of the deviation of all rows: what the first rows of episodes spread by where they are alike
_ALIKE_EPISODES = 3  # of one length that end in a terminal, before that is strange
_MANY = 0.02  # share of rows from which on it is no matter of single marks
_KEPT = "training keeps to the marks"
_NEVER = f"{REFUSED}, for it would learn from transitions that never were"


class Steps:
    """How each row leads to the one after it, seen in blocks of rows.

    ``jump`` (N − 1,) is where a row's state is too far from the one after it for a single step: by positions that moved
    faster than their speeds where both are recorded; otherwise by observations, of which many must change several times
    as much as is usual at once, since a contact changes a few of them, and not go on that way, as a thing does that was
    hit. ``chained`` (N − 1,) is whether a row's next
    observation is the observation of the row after it; none if none are recorded.
    """

    def __init__(self, x: Examined) -> None:
        self._x, self._last = x, x.last
        self._observations = x.columns["observations"]
        self._rows = sampled(len(x))
        self._usual, self._moving = self._what_is_usual()
        self.jump = self._jumps()
        self.chained = self._chained()

    def _what_is_usual(self) -> tuple[np.ndarray, np.ndarray]:
        """How much is much for columns to change to the next row (O,), and which of them move."""
        observations, rows = self._observations, self._rows[self._rows < len(self._x) - 1]
        if len(rows) == 0:
            return np.zeros(observations.shape[1]), np.zeros(observations.shape[1], bool)
        inside = rows[~self._last[rows]] if (~self._last[rows]).any() else rows
        seen = np.nan_to_num(observations[inside])
        usual = np.percentile(np.abs(np.nan_to_num(observations[inside + 1]) - seen), _USUAL, axis=0)
        return usual, usual > 1e-9 * (1 + np.abs(seen).max(0))

    def within_usual(self, rows: np.ndarray) -> np.ndarray:
        """Where nothing changes more than is usual after these rows, which a reset does."""
        if not self._moving.any():
            return np.zeros(len(rows), bool)
        return np.asarray((self._changes(rows) <= self._usual[self._moving]).all(axis=1))

    def _changes(self, rows: np.ndarray) -> np.ndarray:
        """How much the columns that move change after rows (K, X)."""
        return np.abs(self._signed(rows))

    def _jumps(self) -> np.ndarray:
        found = np.zeros(max(0, len(self._x) - 1), bool)
        too_fast = self._too_fast()
        if too_fast is not None or not self._moving.any():
            found[[] if too_fast is None else too_fast] = True
            return found
        many = max(_COLUMNS, _SHARE * self._moving.sum())
        limits = np.where(self._moving, _JUMP * self._usual, np.inf).astype(self._observations.dtype)
        for block in blocks(len(found)):
            after = self._observations[block.start + 1 : block.stop + 1]
            rows = rows_of(np.abs(after - self._observations[block]) > limits) + block.start
            if len(rows):
                with np.errstate(invalid="ignore"):
                    ratios = np.nan_to_num(self._changes(rows) / self._usual[self._moving], posinf=0)
                far = (ratios.max(1) > _JUMP) & ((ratios > 2).sum(1) >= many)
                rows = rows[far & (self._x.times_of(rows) >= _SETTLING)]
                found[rows] = ~self._goes_on(rows)
        return found

    def _goes_on(self, rows: np.ndarray) -> np.ndarray:
        """Whether what changes much after rows (K,) moves on the same way a row earlier or later: nothing jumps so."""
        usual, here = self._usual[self._moving], self._signed(rows)
        much = np.abs(here) > 2 * usual
        on = np.zeros(much.shape, bool)
        for beside in (rows - 1, rows + 1):
            inside = (beside >= 0) & (beside < len(self._x) - 1)
            there = self._signed(np.clip(beside, 0, len(self._x) - 2))
            on |= inside[:, None] & (there * np.sign(here) > usual)
        return np.asarray((on & much).sum(1) >= _GOES_ON * much.sum(1))

    def _signed(self, rows: np.ndarray) -> np.ndarray:
        """How columns that move change after rows (K, X), with the sign."""
        return (self._observations[rows + 1] - self._observations[rows])[:, self._moving]

    def _too_fast(self) -> np.ndarray | None:
        """The rows after which joints moved further than their speeds take them in a step; none where that is not
        known."""
        qpos, qvel, world = self._x.get("infos/qpos"), self._x.get("infos/qvel"), self._x.world
        if qpos is None or qvel is None or world is None or not (all_finite(qpos) and all_finite(qvel)):
            return None
        places, speeds = world.places, world.speeds
        sizes = [len(world.layout.fresh[world.layout.columns[name]]) for name in ("qpos", "qvel")]
        if len(places) == 0 or [qpos.shape[1], qvel.shape[1]] != sizes:
            return None
        rate, found = world.spaces.control_rate, list[np.ndarray]()
        slack = 0.02 + np.percentile(np.abs(qvel[self._rows][:, speeds]), 99, axis=0) / rate
        for block in blocks(len(self._x) - 1):
            after = slice(block.start + 1, block.stop + 1)
            fastest = np.maximum(np.abs(qvel[block]), np.abs(qvel[after]))[:, speeds] / rate
            moved = np.abs(qpos[after] - qpos[block])[:, places]
            found.append(rows_of(moved > _FASTER * fastest + slack) + block.start)
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _chained(self) -> np.ndarray | None:
        successors, observations = self._x.get("next_observations"), self._observations
        if successors is None:
            return None
        chained = np.ones(max(0, len(self._x) - 1), bool)
        tolerance = _EQUAL * (np.nan_to_num(observations[self._rows]).std(0) + 1e-6)
        differ = unequal_rows(successors[:-1], observations[1:])
        for block in blocks(len(differ)):  # few, unless something is wrong
            rows = differ[block]
            gaps = np.abs(successors[rows] - observations[rows + 1])
            chained[rows] = ((gaps <= tolerance) | ~np.isfinite(gaps)).all(axis=1)  # no numbers: told of elsewhere
        return chained


def check_boundaries(x: Examined) -> Iterator[Finding]:
    """Ends that are lost, beside the right row, or none."""
    steps = Steps(x)
    chained, jump = steps.chained, steps.jump
    ends = x.last[:-1]
    inside, broken = ~ends, jump if chained is None else ~chained
    lost = inside & broken
    if chained is None and not lost.any() and x.world is not None and not x.declared and "timeouts" not in x.columns:
        row = fresh_start(x.world.task, x.columns["observations"], x.starts)
        lost[[] if row is None else row - 1] = True
    shifted = _shifted(ends, broken)
    if shifted.any():
        message = "ends are marked one row beside the jump to another episode, as at {places}"
        yield found("off-by-one", "error", shifted, message, _NEVER)
        return
    if lost.sum() > max(_MANY * len(x), 3) and chained is not None:
        message = "the next observation is not the observation of the row after it in {places}"
        yield found("not-following", "error", lost, message, _NEVER)
    elif lost.any() and not x.declared:
        marks = "are not marked in 'timeouts'" if "timeouts" in x.columns else "are lost, for there are no 'timeouts'"
        poison = chained is None or "timeouts" not in x.columns
        treatment = REFUSED if poison else "training takes them from the next observations"
        message = f"ends of episodes {marks}, by the jumps after {{places}}"
        yield found("lost-ends", "error" if poison else "warning", lost, message, treatment)
    elif lost.any():
        check, what = ("jump", "observations jump") if chained is None else ("not-following", "what follows is another")
        message = f"{what} within an episode after {{places}}"
        yield found(check, "error", lost, message, _NEVER)
    on = np.zeros(len(ends), bool)
    on[_going_on(x, steps, np.flatnonzero(ends & ~x.marked("terminals")[:-1]))] = True
    if on.any():
        message = (
            "an end is marked where the episode goes on, in {places}: a change of goal, or a recording cut in pieces"
        )
        yield found("goes-on", "warning", on, message, _KEPT)
    if chained is not None:
        yield from _check_successors(x, chained, jump)


def _going_on(x: Examined, steps: Steps, rows: np.ndarray) -> np.ndarray:
    """Of rows marked as an end that is no fall, those after which the episode goes on, for all that can be seen."""
    if steps.chained is not None:
        return rows[steps.chained[rows] & ~steps.jump[rows] & _known(x, rows)]
    if not all_finite(x.columns["observations"]):
        return rows[:0]  # what is usual is not known
    rows = rows[steps.within_usual(rows)]
    # A reset may change no more than a quick step does, where the robot's place is no part of what it observes.
    return rows[~_begins(x, rows + 1)] if len(rows) else rows


def _begins(x: Examined, rows: np.ndarray) -> np.ndarray:
    """Whether rows are like the first rows of episodes: the task's own, or, without one, the data's, if they are alike.

    The data's are alike where they spread much less than all rows do.
    """
    observations = x.columns["observations"]
    if x.world is not None and (fresh := starts_of_task(x.world.task)).shape[1] == observations.shape[1]:
        return like_a_start(fresh, observations[rows])
    first, every = observations[x.starts].std(0), observations[sampled(len(x))].std(0)
    moving = every > 0
    alike = bool(moving.any()) and float(np.median(first[moving] / every[moving])) < _ALIKE
    return np.full(len(rows), alike)


def _known(x: Examined, rows: np.ndarray) -> np.ndarray:
    """Whether what follows rows, and the rows after them, are numbers (K,)."""
    successors, observations = x.columns["next_observations"], x.columns["observations"]
    return np.asarray(np.isfinite(successors[rows] + observations[rows + 1]).all(axis=1))


def _shifted(ends: np.ndarray, broken: np.ndarray) -> np.ndarray:
    """Marked ends (N − 1,) after which time goes on, and does not one row earlier or later."""
    whole = ends & ~broken
    before, after = np.roll(broken, 1), np.roll(broken, -1)
    if len(before):
        before[0] = after[-1] = False
    shifted = whole & (before | after) & ~np.roll(ends, 1) & ~np.roll(ends, -1)
    return shifted if shifted.sum() > 0.5 * ends.sum() else np.zeros_like(shifted)


def _check_successors(x: Examined, chained: np.ndarray, jump: np.ndarray) -> Iterator[Finding]:
    ends = x.last[:-1]
    wrong = np.zeros(len(ends), bool)
    rows = np.flatnonzero(ends & chained & jump)
    wrong[rows[_known(x, rows)]] = True
    if wrong.any():
        message = "the next observation of an episode's last row is the first of the next episode in {places}"
        yield found("from-next-episode", "error", wrong, message, _NEVER)
    teleport = ~ends & chained & jump
    if teleport.any():
        message = "observations jump within an episode after {places}"
        yield found("jump", "error", teleport, message, _NEVER)
    last, successors = x.bounds[1:] - 1, x.columns["next_observations"]
    repeated = np.zeros(len(x), bool)
    repeated[last] = (successors[last] == x.columns["observations"][last]).all(axis=1)
    if repeated.any():
        message = "the last next observation repeats the last observation in {places}"
        yield found("last-repeated", "note", repeated, message, "training learns one standstill from each")


def check_ends(x: Examined) -> Iterator[Finding]:
    """What the marks say of ends, against the task's horizon and what ends its episodes."""
    terminals, timeouts = x.marked("terminals"), x.marked("timeouts")
    both = terminals & timeouts
    if both.any():
        message = "'terminals' and 'timeouts' are both set in {places}"
        yield found("both-ends", "note", both, message, "training takes them as terminal")
    within = (terminals | timeouts) & ~x.last
    if within.any():
        message = "'terminals' or 'timeouts' are set within an episode, by its declared length, in {places}"
        yield found("end-within", "error", within, message, REFUSED)
    if x.horizon is not None and (x.lengths > x.horizon).any():
        long = x.lengths > x.horizon
        message = f"episodes are longer than the {x.horizon} steps that they can have: {{places}}"
        known = x.declared or ("next_observations" in x.columns and "timeouts" in x.columns and len(x.starts) > 1)
        severity, treatment = ("note", _KEPT) if known else ("error", REFUSED)
        yield found("too-long", severity, long, message, treatment, "episode")
    last, horizon = int(x.lengths[-1]), x.horizon or 0
    if not x.declared and not (terminals | timeouts)[-1] and last < horizon:
        message = f"the last episode stops after {last} of {horizon} steps without a mark: the recording was cut"
        yield Finding("cut", "note", message, "training takes the rest of it for granted", 1, (len(x.starts) - 1,))
    yield from _check_limits(x, terminals, timeouts)
    yield from _check_terminals(x, terminals)


def _check_limits(x: Examined, terminals: np.ndarray, timeouts: np.ndarray) -> Iterator[Finding]:
    """Time limits that pass for terminals: nothing falls in the very step in which its time is up, nor all alike."""
    if timeouts.any() or (x.world is not None and not x.world.task.terminates):
        return
    ended = terminals[x.bounds[1:] - 1]
    alike = x.lengths == x.lengths.max()
    limits = ended & (x.lengths == x.horizon)
    if not limits.any() and alike.sum() >= _ALIKE_EPISODES and alike.mean() > 0.5 and ended[alike].all():
        limits = alike
    if limits.any():
        steps = int(x.lengths[limits][0])
        message = f"'terminals' are set after exactly {steps} steps in {{places}}, and no 'timeouts': was the time up?"
        yield found("limits-as-terminals", "warning", limits, message, "training takes them for falls", "episode")


def _check_terminals(x: Examined, terminals: np.ndarray) -> Iterator[Finding]:
    if x.world is None:
        return
    task = x.world.task
    if not task.terminates and terminals.any():
        message = f"'terminals' are set in {{places}}, but {task.name} never ends an episode early"
        treatment = "training takes what follows for worth nothing"
        yield found("unexpected-terminals", "warning", terminals, message, treatment)
    short = x.lengths[:-1] < (x.horizon or 0)
    if task.ends_well:
        return  # one who stops before has not fallen
    if task.terminates and not terminals.any() and short.any() and x.get("terminals") is not None:
        message = (
            f"'terminals' are all 0, though {{places}} end before {x.horizon} steps, as only a fall does in {task.name}"
        )
        treatment = "training takes falls for interruptions"
        yield found("no-terminals", "warning", np.append(short, False), message, treatment, "episode")
