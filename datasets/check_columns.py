"""The doctor's look at single columns: numbers that are none, actions, rewards, episodes told twice, returns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np

from .blocks import blocks, rows_of
from .examined import Examined
from .findings import REFUSED, Finding, found, places

_AT_BOUND = 1e-4  # of the half-range
_SATURATED, _OFTEN = 0.95, 0.5  # shares of all actions' numbers
_FEW = 0.1  # share of episodes that may be failures
_OUTSIDE = 1e-4  # of the half-range, that roundings leave the bounds by
# Between which shares of the way from random to expert the returns of data so called lie: wide enough for kin.
_EXPECTED = {
    "medium-expert": (0.2, 2.0),
    "medium-replay": (-0.1, 0.9),
    "expert": (0.5, 3.0),
    "medium": (0.08, 0.9),
    "random": (-0.3, 0.2),
    "simple": (0.08, 0.9),
}


def check_numbers(x: Examined) -> Iterator[Finding]:
    """NaN and infinities."""
    for key, column in x.columns.items():
        if column.dtype.kind == "b":
            continue
        if column.dtype.kind != "f":
            other = np.asarray(np.isin(column, (0, 1), invert=True))
            if other.any():
                message = f"'{x.table.called(key)}' holds other values than 0 and 1 in {{places}}"
                yield found("not-boolean", "error", other, message, REFUSED)
        elif not x.table.finite(key, column):
            bad: np.ndarray = np.any(~np.isfinite(column.reshape(len(x), -1)), axis=1)
            message = f"'{x.table.called(key)}' holds NaN or infinity in {{places}}"
            yield found("not-finite", "error", bad, message, REFUSED)


def check_actions(x: Examined) -> Iterator[Finding]:
    """Actions out of bounds, at them, or always the same."""
    actions = x.get("actions")
    if actions is None:
        return
    same = np.flatnonzero(unchanging(actions)) if len(actions) > 1 else np.empty(0)
    if len(same):
        which = "all actions" if len(same) == actions.shape[1] else f"{places(same, actions.shape[1], 'action')}"
        message = f"{which} never change: nobody acted, or they were not recorded"
        yield Finding("constant-actions", "warning", message, "training takes them as they are", len(same))
    if x.world is None:
        return
    outside, at_bound = np.zeros(len(x), bool), 0
    for rows in blocks(len(x)):
        normalised = np.abs(x.world.normalised(actions[rows]))  # what is no number is neither
        outside[rows_of(normalised > 1 + _OUTSIDE) + rows.start] = True
        at_bound += int((normalised >= 1 - _AT_BOUND).sum())
    if outside.any():
        low, high = float(x.world.spaces.action_low.min()), float(x.world.spaces.action_high.max())
        message = f"actions leave the bounds [{low:g}, {high:g}] of {x.world.description} in {{places}}"
        yield found("out-of-bounds", "error", outside, message, REFUSED)
    share = at_bound / actions.size
    if share > _OFTEN and not outside.any():
        severity = "warning" if share > _SATURATED else "note"
        why = "a bang-bang controller, or actions in another unit"
        message = f"{share:.0%} of the actions' numbers are at their bounds: {why}"
        yield Finding("saturated", severity, message, "training takes them as they are")


def unchanging(column: np.ndarray) -> np.ndarray:
    """Which dimensions of a column (N, X) are the same in every row (X,)."""
    same = np.ones(column.shape[1], bool)
    for rows in blocks(len(column)):
        same &= (column[rows] == column[0]).all(axis=0)
        if not same.any():
            break
    return same


def check_rewards(x: Examined) -> Iterator[Finding]:
    """Rewards that say nothing."""
    rewards = x.get("rewards")
    if rewards is None or len(rewards) < 2 or (rewards != rewards[0]).any():
        return
    if x.world is not None and x.world.task.succeeds:
        return  # nobody got to the goal
    message = f"all rewards are {rewards[0]:g}: they were not recorded, or overwritten"
    yield Finding("constant-rewards", "warning", message, "no imitation learner sees them; scores are of no use")


def check_duplicates(x: Examined) -> Iterator[Finding]:
    """Episodes that are there more than once."""
    seen: dict[tuple[int, bytes, bytes], list[int]] = {}
    twice, observations = np.zeros(len(x.starts), bool), x.columns["observations"]
    for index, (begin, end) in enumerate(zip(x.bounds[:-1], x.bounds[1:], strict=True)):
        # Only those of one length that begin and end alike are compared whole.
        alike = seen.setdefault((int(end - begin), observations[begin].tobytes(), observations[end - 1].tobytes()), [])
        whole = observations[begin:end]
        twice[index] = any(np.array_equal(whole, observations[x.starts[i] : x.bounds[i + 1]]) for i in alike)
        if not twice[index]:
            alike.append(index)
    if twice.any() and len(x.starts) > 1:
        message = "{places} are copies of earlier ones"
        yield found("duplicated", "warning", twice, message, "training counts them twice", "episode")


def check_name(x: Examined, name: str) -> Iterator[Finding]:
    """Returns that are far from what the name of the data says."""
    returns, task = x.returns, None if x.world is None else x.world.task
    words = re.split(r"[^a-z]+", PurePath(name).name.lower())  # a folder's name says little of the files in it
    kind = next((kind for kind in _EXPECTED if all(word in words for word in kind.split("-"))), None)
    if returns is None or task is None or kind is None or task.random_return is None or task.expert_return is None:
        return
    if not np.isfinite(returns).all() or not returns.any():
        return
    scores = (returns - task.random_return) / (task.expert_return - task.random_return)
    typical, (low, high) = float(np.median(scores)), _EXPECTED[kind]
    if not low <= typical <= high:
        message = (
            f"the name says {kind}, but the median return of {np.median(returns):.0f} is {typical:.2f} of the way from "
            f"random ({task.random_return:.0f}) to expert ({task.expert_return:.0f}): are files swapped?"
        )
        yield Finding("swapped", "warning", message, "training goes by the data, not by their name")
    elif kind in ("expert", "medium-expert") and (scores < low).mean() > _FEW:
        message = f"the name says {kind}, but {{places}} return less than {low:g} of an expert's: is it a mixture?"
        yield found("mixed", "warning", scores < low, message, "training goes by all of them", "episode")
