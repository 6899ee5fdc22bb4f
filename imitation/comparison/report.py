"""The report of a comparison: a page, the same as Markdown, and its tables for a paper."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..adastop import AdaStopConfig, can_decide
from ..files import write_bytes, write_text
from ..statistics import Estimate, Tables
from . import charts, texts
from .analysis import MARK, Analysis, Overall, Summary, TaskAnalysis, analyse
from .appendix import appendix
from .document import Block, Figure, Heading, Items, Paragraph, Table, Video, without_folders
from .html import render
from .matrix import Matrix
from .media import films
from .results import THRESHOLD, LearnerResult, read_results
from .verdict import interval, listed, of_task, overall, verdict

TITLE, NOTHING = "Comparison of learners", "Nothing is finished yet."


@dataclasses.dataclass(frozen=True)
class Report:
    """Where the page is, and what it says first."""

    page: Path
    verdict: list[str]


def write_report(matrix: Matrix, *, videos: bool = False) -> Report:
    """Write `report/` of the cells that are finished: report.html, report.md with its figures, tables as CSV and LaTeX.

    Errors: :class:`~understudy.robots.InputError` for a damaged run directory, or when the disk refuses.
    """
    results = read_results(matrix)
    analysis = analyse(matrix, results)
    said = verdict(analysis) or [NOTHING]
    blocks = [*_blocks(matrix, analysis, results, videos=videos)]
    folder = matrix.directory / "report"
    for block in blocks:
        if isinstance(block, Figure):
            write_text(folder / "figures" / f"{block.name}.svg", block.svg + "\n")
        elif isinstance(block, Video):
            write_bytes(folder / "videos" / f"{block.name}.mp4", block.content)
        elif isinstance(block, Table) and block.name is not None:
            write_text(folder / "tables" / f"{block.name}.csv", texts.comma_separated(block))
            write_text(folder / "tables" / f"{block.name}.tex", texts.latex(block))
    write_text(folder / "report.md", texts.markdown(blocks))
    page = folder / "report.html"
    write_text(page, render(f"{TITLE}: {', '.join(matrix.plan.tasks)}", blocks))
    return Report(page, said)


def _blocks(matrix: Matrix, analysis: Analysis, results: Sequence[LearnerResult], *, videos: bool) -> Iterator[Block]:
    learners, tasks = [learner.label for learner in matrix.plan.learners], ", ".join(matrix.plan.tasks)
    yield Heading(f"{TITLE} on {tasks}", 1)
    yield from _verdict(analysis)
    if len(analysis.tasks) > 1:
        yield _at_a_glance(analysis, learners)
    yield Paragraph(_how_it_was_tested(matrix, analysis))
    yield from _unfinished(matrix)
    colours = charts.numbered(learners)
    for group in analysis.overall:
        yield from _overall(group, colours, all_tasks=len(group.tasks) == len(analysis.tasks))
    for task in analysis.tasks:
        yield from _task(task, colours)
        if videos:
            yield from films(task.results)
    yield from appendix(matrix, results)


def _verdict(analysis: Analysis) -> Iterator[Block]:
    """What was found, in words: over all tasks and then task after task, which are told apart by headings."""
    general, tasks = overall(analysis), [(task.task, of_task(task)) for task in analysis.tasks]
    if not tasks:
        yield Paragraph(NOTHING, lead=True)
    elif not general and len(tasks) == 1:
        general = [tasks[0][1][0]]
        tasks[0] = (tasks[0][0], tasks[0][1][1:])
    for sentence in general:
        yield Paragraph(sentence, lead=True)
    for name, sentences in tasks:
        if len(tasks) > 1:
            yield Heading(name, 3)
        if sentences:
            yield Items(
                [
                    _capital(sentence.removeprefix(f"On {name} ")) if len(tasks) > 1 else sentence
                    for sentence in sentences
                ]
            )


def _at_a_glance(analysis: Analysis, learners: Sequence[str]) -> Table:
    """Every learner on every task."""
    cells = {
        (task.task, summary.learner): f"{interval(summary.iqm, 2 if task.scored else 0)}"
        f"{MARK if summary.learner in task.stopped else ''}"
        for task in analysis.tasks
        for summary in task.summaries
    }
    names = [task.task for task in analysis.tasks]
    unscored = [task.task for task in analysis.tasks if not task.scored]
    returns = f" (of {listed(unscored)}: returns)" if unscored else ""
    rows = [(learner, *(cells.get((name, learner), "") for name in names)) for learner in learners]
    return Table(
        f"IQM of the final scores{returns}, with its interval.",
        ("learner", *names),
        [row for row in rows if any(row[1:])],
        "at-a-glance",
    )


def _capital(sentence: str) -> str:
    """A sentence that follows a heading. Names of learners stay as they are written."""
    begins = ("no ", "most ", "trainings ")
    return sentence[0].upper() + sentence[1:] if sentence.startswith(begins) else sentence


def _how_it_was_tested(matrix: Matrix, analysis: Analysis) -> str:
    test = matrix.plan.test
    looks = (
        "once, with all runs"
        if matrix.plan.runs is not None
        else f"after every {test.group} runs, {test.stages} times at most, and pairs that are told apart got no more"
    )
    most = max((len(task.results) for task in analysis.tasks), default=0)
    runs = min((s.runs for task in analysis.tasks for s in task.summaries), default=0)
    config = test if matrix.plan.runs is None else AdaStopConfig(runs, 1, test.level)
    hopeless = (
        ""
        if not runs or can_decide(config, most)
        else f" With {runs} runs of each of {most} learners no pair can be told apart, however far: it takes more runs."
    )
    return (
        "Scores are (return - random) / (expert - random), final ones the mean of the last three evaluations, never "
        "the best. IQM is the mean of the middle half of the runs. Intervals are 95 % bootstrap intervals over runs, "
        "stratified by task and widened for few runs; those of steps are plain percentiles. “Better” and “no "
        f"difference shown” are AdaStop's word: all pairs of a task were tested by permutations, {looks}; the "
        f"probability that even one pair of a task is wrongly said to differ is at most {100 * test.level:g} %."
        f"{hopeless}"
    )


def _unfinished(matrix: Matrix) -> Iterator[Block]:
    states = {cell.name: matrix.state(cell) for cell in matrix.cells.values()}
    missing = {name: state for name, state in states.items() if state != "finished"}
    if missing:
        yield Heading("Not in this report", 3)
        yield Items(
            [
                f"{name}: {state}. {without_folders(matrix.notes[name]['error'] or '')}".strip()
                for name, state in missing.items()
            ]
        )


def _overall(group: Overall, colours: dict[str, int], *, all_tasks: bool) -> Iterator[Block]:
    name = "" if all_tasks else f"-{'-'.join(group.titles)}"
    yield Heading("Over all tasks" if all_tasks else f"Over {' and '.join(group.titles)}")
    yield _scores(group, f"over-all-tasks{name}", "Aggregates over the runs of these tasks.", digits=3)
    tables: dict[str, Tables] = {
        group.name(summary.learner): [r.final for t in group.tasks for r in t.results if r.learner == summary.learner]
        for summary in group.summaries
    }
    marked = {group.name(learner): number for learner, number in colours.items()}
    caption = "Performance profiles: the share of all runs on these tasks whose final score is above τ."
    yield Figure(caption, charts.profiles(tables, marked, f"profiles{name}"), f"profiles{name}")
    yield _improvements(group, f"improvement{name}")


def _improvements(group: Overall, name: str) -> Table:
    found = {(first, second): f"{float(value.value):.2f}" for first, second, value in group.improvements}
    names = [summary.learner for summary in group.summaries]
    return Table(
        "Probability that a run of the row's learner beats a run of the column's on the same task.",
        ("", *map(group.name, names[1:])),
        [(group.name(first), *(found.get((first, second), "") for second in names[1:])) for first in names[:-1]],
        name,
    )


def _scores(group: Overall, name: str, caption: str, *, digits: int) -> Table:
    rows = [
        (
            group.name(s.learner),
            str(s.runs),
            interval(s.iqm, digits),
            interval(s.median, digits),
            interval(s.gap, digits),
        )
        for s in group.summaries
    ]
    return Table(caption, ("learner", "runs", "IQM", "median of task means", "optimality gap"), rows, name)


def _task(task: TaskAnalysis, colours: dict[str, int]) -> Iterator[Block]:
    yield Heading(task.task)
    digits = 3 if task.scored else 1
    columns = ["learner", "runs", "IQM", "mean"]
    columns += ["optimality gap", f"steps to {THRESHOLD:g}", "runs that got there"] if task.scored else []
    rows = [_learner_row(summary, task, digits) for summary in task.summaries]
    yield Table(
        "Final scores. Steps are all environment steps of a run but those of evaluation, until its first evaluation at "
        f"{THRESHOLD:g} or more; their median counts runs that never got there as censored (∞: most did not)."
        if task.scored
        else "Final returns; there is no score, as a reference return is not known.",
        columns, rows, f"scores-{task.task}",
    )  # fmt: skip
    if any(result.acts for result in task.results):
        yield Figure(
            f"{task.task}: IQM over all environment steps, with its interval. A line across: one that takes none.",
            charts.curves(task, colours), f"curves-{task.task}",
        )  # fmt: skip
    yield Figure(
        f"{task.task}: every run's final {'score' if task.scored else 'return'}, IQM and interval.",
        charts.dots(task, colours), f"dots-{task.task}",
    )  # fmt: skip
    if task.scored:
        tables: dict[str, Tables] = {task.name(result.learner): [result.final] for result in task.results}
        caption = f"{task.task}: the share of runs whose final score is above τ."
        marked = {task.name(learner): number for learner, number in colours.items()}
        yield Figure(caption, charts.profiles(tables, marked, f"profiles-{task.task}"), f"profiles-{task.task}")
    if task.pairs:
        yield _pairs(task, digits)


def _learner_row(summary: Summary, task: TaskAnalysis, digits: int) -> list[str]:
    row = [
        task.name(summary.learner),
        str(summary.runs),
        interval(summary.iqm, digits),
        interval(summary.median, digits),
    ]
    if not task.scored:
        return row
    row.append(interval(summary.gap, digits))
    if summary.needed is None or summary.reached is None:
        return [*row, "takes none", ""]
    needed = "not reached" if math.isinf(summary.needed.low) else interval(summary.needed, 0)
    return [*row, needed, f"{int(summary.reached.yes.sum())} of {summary.runs}"]


def _pairs(task: TaskAnalysis, digits: int) -> Table:
    words = {"larger": "better", "smaller": "worse", "undecided": "no difference shown"}
    rows = [
        (
            task.name(pair.first), task.name(pair.second), words[pair.decision], interval(pair.improvement, 2),
            "" if pair.difference is None else interval(pair.difference, digits),
            "" if pair.p_value is None else f"{pair.p_value:.3g}", _ratio(pair.ratio),
        )
        for pair in task.pairs
    ]  # fmt: skip
    return Table(
        "Pairs. The test's word on the first (all pairs of the task at once); the probability that a run of it beats "
        "one of the second; the mean difference by seed, with the p-value of this pair alone by permutation of pairs; "
        f"how many times as many steps the second needs to {THRESHOLD:g}.",
        ("first", "second", "the first is", "P(first beats second)", "difference by seed", "p", "steps, 2nd / 1st"),
        rows, f"pairs-{task.task}",
    )  # fmt: skip


def _ratio(found: Estimate | None) -> str:
    """What a comparison of steps says, where there is one and both were seen to get there."""
    if found is None:
        return ""
    if math.isinf(found.low):
        return "2nd not reached"
    return "1st not reached" if found.high == 0 else interval(found, 1)
