"""What a comparison found, in sentences that stand by themselves: what differs, by how much, and what is not shown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..statistics import Estimate
from .analysis import Analysis, Pair, Summary, TaskAnalysis
from .results import THRESHOLD


def verdict(analysis: Analysis) -> list[str]:
    """Sentences, the most general first."""
    said: list[str] = []
    if analysis.overall:
        best = analysis.overall[0]
        said.append(
            f"Over {len(analysis.tasks)} tasks {best.learner} has the highest score, IQM {interval(best.iqm)} "
            f"of {best.runs} runs."
        )
    for task in analysis.tasks:
        said += _of_task(task)
    return said


def _of_task(task: TaskAnalysis) -> list[str]:
    best = task.summaries[0]
    of = "the expert's score" if task.scored else "return, as no score is known"
    digits = 3 if task.scored else 1
    runs = f"{best.runs} run{'s' if best.runs > 1 else ''}"
    place = "comes first: IQM" if len(task.summaries) > 1 else "has an IQM of"
    said = [f"On {task.task} {best.learner} {place} {interval(best.iqm, digits)} of {of} over {runs}."]
    for winners, losers in _better(task).items():
        verb = "is" if len(winners) == 1 else "are"
        said.append(f"On {task.task} {listed(winners)} {verb} better than {listed(losers)}.")
    open_ones = [(pair.first, pair.second) for pair in task.pairs if pair.decision == "undecided"]
    if open_ones:
        groups = map(listed, _cliques(open_ones))
        said.append(f"On {task.task} no difference is shown between {', nor between '.join(groups)}.")
    said += [sentence for pair in task.pairs if (sentence := _ratio(task, pair)) is not None]
    never = [summary.learner for summary in task.summaries if _never(summary)]
    if never:
        said.append(f"On {task.task} most runs of {listed(never)} never had {THRESHOLD:g} of the expert's score.")
    return said


def _better(task: TaskAnalysis) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Who is better than whom: learners that are better than the same others are named together."""
    beaten: dict[str, list[str]] = {}
    for pair in task.pairs:
        if pair.decision != "undecided":
            winner, loser = (pair.first, pair.second) if pair.decision == "larger" else (pair.second, pair.first)
            beaten.setdefault(winner, []).append(loser)
    together: dict[tuple[str, ...], tuple[str, ...]] = {}
    for winner, losers in beaten.items():
        together[tuple(losers)] = (*together.get(tuple(losers), ()), winner)
    return {winners: losers for losers, winners in together.items()}


def _cliques(pairs: list[tuple[str, str]]) -> list[list[str]]:
    """Groups in which every two are among the pairs, until each pair is in one."""
    groups: list[list[str]] = []
    for pair in pairs:
        if any(set(pair) <= set(group) for group in groups):
            continue
        group = [*pair]
        for name in dict.fromkeys(name for other in pairs for name in other):
            if name not in group and all((a, name) in pairs or (name, a) in pairs for a in group):
                group.append(name)
        groups.append(group)
    return groups


def _never(summary: Summary) -> bool:
    return summary.needed is not None and math.isinf(summary.needed.value)


def _ratio(task: TaskAnalysis, pair: Pair) -> str | None:
    """Who needs fewer steps, if the interval says that anybody does."""
    ratio = pair.ratio
    if ratio is None or not ratio.excludes(1):
        return None
    first, second = pair.first, pair.second
    if ratio.value < 1:
        first, second = second, first
        turned = [math.inf if value == 0 else 1 / value for value in (ratio.value, ratio.high, ratio.low)]
        ratio = Estimate(*turned)
    goal = f"to {THRESHOLD:g} of the expert"
    if math.isinf(ratio.value):
        if math.isinf(ratio.low):
            return None  # said of the learner that never gets there
        return f"On {task.task} {first} needs at least {ratio.low:.1f} times fewer steps than {second} {goal}."
    high = "∞" if math.isinf(ratio.high) else f"{ratio.high:.1f}"
    many = f"{ratio.value:.1f} [{ratio.low:.1f}, {high}]"
    return f"On {task.task} {first} needs {many} times fewer steps than {second} {goal}."


def interval(estimate: Estimate, digits: int = 3) -> str:
    """`0.965 [0.889, 0.968]`; what was not observed is ∞."""
    value, low, high = (
        "∞" if math.isinf(number) else f"{number:,.{digits}f}"
        for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"
