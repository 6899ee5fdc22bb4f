"""What a comparison found, in sentences that stand by themselves: what differs, by how much, and what is not shown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..statistics import Estimate
from .analysis import MARK, Analysis, Overall, Summary, TaskAnalysis
from .results import THRESHOLD


def verdict(analysis: Analysis) -> list[str]:
    """Sentences, the most general first."""
    return [*overall(analysis), *(sentence for task in analysis.tasks for sentence in of_task(task))]


def overall(analysis: Analysis) -> list[str]:
    """A sentence for each group of tasks."""
    return [_overall(group, len(analysis.tasks)) for group in analysis.overall]


def _overall(group: Overall, tasks: int) -> str:
    best = group.summaries[0]
    where = f"Over {tasks} tasks" if len(group.tasks) == tasks else f"Over {listed(group.titles)}"
    among = "" if group.complete else f" of the {len(group.summaries)} learners that were trained on all of them"
    first = f"{group.name(best.learner)} has the highest score{among}"
    return f"{where} {first}, IQM {interval(best.iqm)} of {best.runs} runs."


def of_task(task: TaskAnalysis) -> list[str]:
    """Who comes first, who is better than whom, who needs fewer steps, and what is not shown."""
    best = task.summaries[0]
    of = "the expert's score" if task.scored else "return, as no score is known"
    digits = 3 if task.scored else 1
    runs = f"{best.runs} run{'s' if best.runs > 1 else ''}"
    place = "comes first: IQM" if len(task.summaries) > 1 else "has an IQM of"
    on = f"On {task.task}"
    said = [f"{on} {task.name(best.learner)} {place} {interval(best.iqm, digits)} of {of} over {runs}."]

    def names(learners: Sequence[str]) -> str:
        return listed([task.name(learner) for learner in learners])

    tiers = _tiers(task)
    if len(tiers) > 2:
        places = "; ".join(names(tier) for tier in tiers)
        within = "" if len(tiers) == len(task.results) else ", and no difference is shown between those named together"
        said.append(f"{on} the order is {places}: each is better than all after it{within}.")
    else:
        for winners, losers in _better(task).items():
            verb = "is" if len(winners) == 1 else "are"
            said.append(f"{on} {names(winners)} {verb} better than {names(losers)}.")
        open_ones = _undecided(task)
        if open_ones:
            groups = map(names, _cliques(open_ones))
            said.append(f"{on} no difference is shown between {', nor between '.join(groups)}.")
    said += _fewer_steps(task)
    never = [summary.learner for summary in task.summaries if _never(summary)]
    if never:
        said.append(f"{on} most runs of {names(never)} never had {THRESHOLD:g} of the expert's score.")
    said += _lengths(task)
    stopped = [f"{task.name(name)} after {step:,} of {of:,} steps" for name, (step, of) in task.stopped.items()]
    if stopped:
        said.append(
            f"{on} trainings were stopped: {listed(stopped)} ({MARK}). Their scores are the last that they had, and "
            "are compared with those of the others at their end."
        )
    return said


def _lengths(task: TaskAnalysis) -> list[str]:
    """That learners which act were given different numbers of steps, where they were."""
    together: dict[int, list[str]] = {}
    for result in sorted(task.results, key=lambda result: -result.length):
        if result.acts and result.stopped is None:
            together.setdefault(result.length, []).append(result.learner)
    if len(together) < 2:
        return []
    lengths = listed([f"those of {listed(names)} of {length:,} steps" for length, names in together.items()])
    return [f"On {task.task} trainings were of different lengths: {lengths}. Each is judged at its own end."]


def _undecided(task: TaskAnalysis) -> list[tuple[str, str]]:
    return [(pair.first, pair.second) for pair in task.pairs if pair.decision == "undecided"]


def _tiers(task: TaskAnalysis) -> list[list[str]]:
    """Learners in groups, each better than all after it, no difference within; none where it is not so simple."""
    groups = _cliques(_undecided(task))
    grouped = [name for group in groups for name in group]
    if len(grouped) != len(set(grouped)):
        return []
    beaten = {winner: len(losers) for winners, losers in _better(task).items() for winner in winners}
    groups += [[result.learner] for result in task.results if result.learner not in grouped]
    return sorted(groups, key=lambda group: -beaten.get(group[0], 0))


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


def _fewer_steps(task: TaskAnalysis) -> list[str]:
    """Of the learner that gets to the threshold first: how many times fewer steps it needs than others, where an
    interval says so. The pairs of the others are in the table."""
    medians = {s.learner: float(s.needed.value) for s in task.summaries if s.needed is not None}
    first = min(medians, key=lambda name: medians[name], default=None)
    if first is None or math.isinf(medians[first]):
        return []
    parts: list[str] = []
    for pair in task.pairs:
        if pair.ratio is None or not pair.ratio.excludes(1) or first not in (pair.first, pair.second):
            continue
        other, ratio = (pair.second, pair.ratio) if pair.first == first else (pair.first, _turned(pair.ratio))
        if ratio.low <= 1 or math.isinf(ratio.low):
            continue  # of those that never get there, that is said
        if math.isinf(ratio.value):
            parts.append(f"at least {ratio.low:.1f} times fewer steps than {task.name(other)}")
        else:
            high = "∞" if math.isinf(ratio.high) else f"{ratio.high:.1f}"
            parts.append(f"{ratio.value:.1f} [{ratio.low:.1f}, {high}] times fewer steps than {task.name(other)}")
    if not parts:
        return []
    parts[1:] = [part.replace(" times fewer steps than", " than") for part in parts[1:]]
    return [f"On {task.task} {task.name(first)} needs {listed(parts)} to {THRESHOLD:g} of the expert."]


def _turned(ratio: Estimate) -> Estimate:
    """The ratio of the second to the first as that of the first to the second."""
    return Estimate(*(math.inf if value == 0 else 1 / value for value in (ratio.value, ratio.high, ratio.low)))


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
