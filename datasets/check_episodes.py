"""The doctor's look at time: where episodes end, whether what follows does follow, and what jumps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .episodes import fresh_start
from .examined import Examined
from .findings import REFUSED, Finding, found

_EQUAL = 1e-5  # of a dimension's deviation: what two recordings of one observation may differ by
# A jump is so many times that percentile of the changes, and seen in so many columns, or a share of them.
_USUAL, _JUMP, _COLUMNS, _SHARE = 99.5, 5.0, 3, 0.1
_ENOUGH = 100_000  # rows to see what is usual by
_SETTLING = 5  # rows at the start of an episode, in which a robot falls to its feet
_FASTER = 3.0  # how much faster than its speeds before and after a joint can have moved
_MANY = 0.02  # share of rows from which on it is no matter of single marks
_KEPT = "training keeps to the marks"


def changes(x: Examined) -> np.ndarray:
    """How much columns that move change to the next row (N − 1, O'), in units of what is much there."""
    observations = np.nan_to_num(x.columns["observations"])
    steps = np.abs(np.diff(observations, axis=0))
    inside = steps[~x.last[:-1]] if (~x.last[:-1]).any() else steps
    if len(inside) == 0:
        return np.zeros((0, 0))
    inside = inside[:: len(inside) // _ENOUGH + 1]
    usual = np.percentile(inside, _USUAL, axis=0)
    moving = usual > 1e-9 * (1 + np.abs(observations).max(0))
    return steps[:, moving] / usual[moving].astype(steps.dtype)


def jumps(x: Examined, ratios: np.ndarray) -> np.ndarray:
    """Where a row's state is too far from the one after it for a single step (N − 1,).

    By positions that moved faster than their speeds where both are recorded; otherwise by observations, of which many
    must change several times as much as is usual at once, since a contact changes a few of them.
    """
    too_fast = _too_fast(x)
    if too_fast is not None or ratios.size == 0:
        return np.zeros(len(x) - 1, bool) if too_fast is None else too_fast
    many = max(_COLUMNS, _SHARE * ratios.shape[1])
    return (ratios.max(1) > _JUMP) & ((ratios > 2).sum(1) >= many) & (x.times[:-1] >= _SETTLING)


def _too_fast(x: Examined) -> np.ndarray | None:
    """Where joints moved further than their speeds take them in a step (N − 1,); none where that is not known."""
    qpos, qvel, world = x.get("infos/qpos"), x.get("infos/qvel"), x.world
    if qpos is None or qvel is None or world is None or not (np.isfinite(qpos).all() and np.isfinite(qvel).all()):
        return None
    if qpos.shape[1] != qvel.shape[1]:  # a free body first: its place, then its attitude, which has four numbers
        qpos = np.delete(qpos, slice(3, 7), axis=1)
        qvel = np.delete(qvel, slice(3, 6), axis=1)
    if qpos.shape[1] != qvel.shape[1]:
        return None
    fastest = np.maximum(np.abs(qvel[:-1]), np.abs(qvel[1:])) / world.spaces.control_rate
    slack = 0.02 + np.percentile(np.abs(qvel), 99, axis=0) / world.spaces.control_rate
    return np.any(np.abs(np.diff(qpos, axis=0)) > _FASTER * fastest + slack, axis=1)


def follows(x: Examined) -> np.ndarray | None:
    """Whether a row's next observation is the observation of the row after it (N − 1,); none if none are recorded."""
    successors = x.get("next_observations")
    if successors is None:
        return None
    observations = x.columns["observations"]
    tolerance = _EQUAL * (np.nan_to_num(observations).std(0) + 1e-6)
    gaps = np.abs(successors[:-1] - observations[1:])
    return ((gaps <= tolerance) | ~np.isfinite(gaps)).all(axis=1)  # what is no number is told of elsewhere


def check_boundaries(x: Examined) -> Iterator[Finding]:
    """Ends that are lost, beside the right row, or none."""
    chained, ratios = follows(x), changes(x)
    jump = jumps(x, ratios)
    inside, ends = ~x.last[:-1], x.last[:-1]
    broken = jump if chained is None else ~chained
    lost = inside & broken
    if chained is None and not lost.any() and x.world is not None and not x.declared and "timeouts" not in x.columns:
        row = fresh_start(x.world.task, x.columns["observations"], x.starts)
        lost[[] if row is None else row - 1] = True
    shifted = _shifted(ends, broken)
    if shifted.any():
        message = "ends are marked one row beside the jump to another episode, as at {places}"
        yield found("off-by-one", "error", shifted, message, "training would learn from transitions that never were")
        return
    if lost.sum() > max(_MANY * len(x), 3) and chained is not None:
        message = "the next observation is not the observation of the row after it in {places}"
        yield found("not-following", "error", lost, message, "training would learn from transitions that never were")
    elif lost.any() and not x.declared:
        marks = "are not marked in 'timeouts'" if "timeouts" in x.columns else "are lost, for there are no 'timeouts'"
        poison = chained is None or "timeouts" not in x.columns
        treatment = REFUSED if poison else "training takes them from the next observations"
        message = f"ends of episodes {marks}, by the jumps after {{places}}"
        yield found("lost-ends", "error" if poison else "warning", lost, message, treatment)
    elif lost.any():
        check, what = ("jump", "observations jump") if chained is None else ("not-following", "what follows is another")
        message = f"{what} within an episode after {{places}}"
        yield found(check, "error", lost, message, "training would learn from transitions that never were")
    on = ends & ~x.marked("terminals")[:-1]
    on &= _within_usual(ratios, len(on)) if chained is None else chained & ~jump & _known(x)
    if chained is None and not np.isfinite(x.columns["observations"]).all():
        on[:] = False  # what is usual is not known
    if on.any():
        message = (
            "an end is marked where the episode goes on, in {places}: a change of goal, or a recording cut in pieces"
        )
        yield found("goes-on", "warning", on, message, _KEPT)
    if chained is not None:
        yield from _check_successors(x, chained, jump)


def _within_usual(ratios: np.ndarray, count: int) -> np.ndarray:
    """Where nothing changes more than is usual (N − 1,): a reset does."""
    return np.asarray(ratios.max(1) <= 1) if ratios.size else np.zeros(count, bool)


def _known(x: Examined) -> np.ndarray:
    """Where what follows and the next row are numbers (N − 1,)."""
    successors, observations = x.columns["next_observations"], x.columns["observations"]
    return np.asarray(np.isfinite(successors[:-1] + observations[1:]).all(axis=1))


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
    wrong = ends & chained & jump & _known(x)
    if wrong.any():
        message = "the next observation of an episode's last row is the first of the next episode in {places}"
        yield found(
            "from-next-episode", "error", wrong, message, "training would learn from transitions that never were"
        )
    teleport = ~ends & chained & jump
    successors = x.columns["next_observations"]
    if teleport.any():
        message = "observations jump within an episode after {places}"
        yield found("jump", "error", teleport, message, "training would learn from transitions that never were")
    repeated = x.last & (successors == x.columns["observations"]).all(axis=1)
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
    yield from _check_terminals(x, terminals)


def _check_terminals(x: Examined, terminals: np.ndarray) -> Iterator[Finding]:
    if x.world is None:
        return
    task = x.world.task
    if not task.terminates and terminals.any():
        message = f"'terminals' are set in {{places}}, but {task.name} never ends an episode early"
        treatment = "training takes what follows for worth nothing"
        yield found("unexpected-terminals", "warning", terminals, message, treatment)
    short = x.lengths[:-1] < (x.horizon or 0)
    if task.terminates and not terminals.any() and short.any() and x.get("terminals") is not None:
        message = (
            f"'terminals' are all 0, though {{places}} end before {x.horizon} steps, as only a fall does in {task.name}"
        )
        treatment = "training takes falls for interruptions"
        yield found("no-terminals", "warning", np.append(short, False), message, treatment, "episode")
