"""The report of a comparison: a page, the same as Markdown, and its tables for a paper."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...robots import PURPOSES
from ..files import read_json, sha256, write_bytes, write_text
from ..statistics import Estimate, Tables
from . import charts, texts
from .analysis import Analysis, Summary, TaskAnalysis, analyse
from .anchors import of_tasks
from .document import Block, Code, Figure, Heading, Items, Paragraph, Table, Video
from .html import render
from .matrix import Matrix
from .media import films
from .results import THRESHOLD, CellResult, LearnerResult, read_results
from .verdict import interval, verdict

TITLE = "Comparison of learners"


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
    said = verdict(analysis) or ["Nothing is finished yet."]
    blocks = [*_blocks(matrix, analysis, results, said, videos=videos)]
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


def _blocks(
    matrix: Matrix, analysis: Analysis, results: Sequence[LearnerResult], said: list[str], *, videos: bool
) -> Iterator[Block]:
    learners, tasks = [learner.label for learner in matrix.plan.learners], ", ".join(matrix.plan.tasks)
    yield Heading(f"{TITLE} on {tasks}", 1)
    yield Paragraph(said[0], lead=True)
    if said[1:]:
        yield Items(said[1:])
    yield Paragraph(_how_it_was_tested(matrix))
    yield from _unfinished(matrix)
    colours = charts.numbered(learners)
    if analysis.overall:
        yield from _overall(analysis, colours)
    for task in analysis.tasks:
        yield from _task(task, colours)
        if videos:
            yield from films(task.results)
    yield from _steps(results)
    yield from _health(results)
    yield from _data(matrix)
    yield from _diagnoses(matrix.directory)
    yield from _anchors(matrix)
    yield from _repeat(matrix, results)


def _how_it_was_tested(matrix: Matrix) -> str:
    test = matrix.plan.test
    looks = (
        "once, with all runs"
        if matrix.plan.runs is not None
        else f"after every {test.group} runs, {test.stages} times at most, and pairs that are told apart got no more"
    )
    return (
        "Scores are (return - random) / (expert - random), final ones the mean of the last three evaluations, never "
        "the best. IQM is the mean of the middle half of the runs. Intervals are 95 % bootstrap intervals over runs, "
        "stratified by task and widened for few runs; those of steps are plain percentiles. “Better” and “no "
        f"difference shown” are AdaStop's word: all pairs of a task were tested by permutations, {looks}; the "
        f"probability that even one pair of a task is wrongly said to differ is at most {100 * test.level:g} %."
    )


def _unfinished(matrix: Matrix) -> Iterator[Block]:
    states = {cell.name: matrix.state(cell) for cell in matrix.cells.values()}
    missing = {name: state for name, state in states.items() if state != "finished"}
    if missing:
        yield Heading("Not in this report", 3)
        yield Items(
            [f"{name}: {state}. {matrix.notes[name]['error'] or ''}".strip() for name, state in missing.items()]
        )


def _overall(analysis: Analysis, colours: dict[str, int]) -> Iterator[Block]:
    yield Heading("Over all tasks")
    yield _scores(analysis.overall, "over-all-tasks", "Aggregates over the runs of all tasks.", digits=3)
    tables: dict[str, Tables] = {
        summary.learner: [r.final for t in analysis.tasks for r in t.results if r.learner == summary.learner]
        for summary in analysis.overall
    }
    caption = "Performance profiles: the share of all runs on all tasks whose final score is above τ."
    yield Figure(caption, charts.profiles(tables, colours, "profiles"), "profiles")
    yield _improvements(analysis)


def _improvements(analysis: Analysis) -> Table:
    found = {(first, second): interval(value, 2) for first, second, value in analysis.improvements}
    names = [summary.learner for summary in analysis.overall]
    return Table(
        "Probability that a run of the row's learner beats a run of the column's on the same task.",
        ("", *names[1:]),
        [(first, *(found.get((first, second), "") for second in names[1:])) for first in names[:-1]],
        "improvement",
    )


def _scores(summaries: Sequence[Summary], name: str, caption: str, *, digits: int) -> Table:
    rows = [
        (s.learner, str(s.runs), interval(s.iqm, digits), interval(s.median, digits), interval(s.gap, digits))
        for s in summaries
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
        tables: dict[str, Tables] = {result.learner: [result.final] for result in task.results}
        caption = f"{task.task}: the share of runs whose final score is above τ."
        yield Figure(caption, charts.profiles(tables, colours, f"profiles-{task.task}"), f"profiles-{task.task}")
    if task.pairs:
        yield _pairs(task, digits)


def _learner_row(summary: Summary, task: TaskAnalysis, digits: int) -> list[str]:
    row = [summary.learner, str(summary.runs), interval(summary.iqm, digits), interval(summary.median, digits)]
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
            pair.first, pair.second, words[pair.decision], interval(pair.improvement, 2),
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


def _steps(results: Sequence[LearnerResult]) -> Iterator[Block]:
    yield Heading("Steps and time")
    rows: list[list[str]] = []
    for result in results:
        purposes = result.purposes()
        seconds = sum(cell.seconds for cell in result.cells)
        processors = {f"{c.about['hardware']['processor']}, {c.about['threads']} threads" for c in result.cells}
        rows.append(
            [
                result.task, result.learner, *(f"{purposes[purpose]:,.0f}" for purpose in PURPOSES),
                f"{sum(purposes[p] for p in PURPOSES if p != 'evaluation'):,.0f}",
                f"{seconds / 3600:.2f}", "; ".join(sorted(processors)),
            ]
        )  # fmt: skip
    yield Table(
        "Environment steps of a run by purpose, and hours on the clock for all runs together (cells may have shared a "
        "machine).",
        ("task", "learner", *PURPOSES, "all but evaluation", "hours", "machine"), rows, "steps",
    )  # fmt: skip


def _health(results: Sequence[LearnerResult]) -> Iterator[Block]:
    judged = [result for result in results if any(cell.health for cell in result.cells)]
    if not judged:
        return
    yield Heading("Learned rewards")
    names = {
        "accuracy_expert": "right about expert", "accuracy_learner": "right about learner",
        "discriminator_entropy": "entropy", "discriminator_slope": "slope",
    }  # fmt: skip
    rows: list[list[str]] = []
    for result in judged:
        means = [
            np.mean([cell.health[name] for cell in result.cells if name in cell.health] or [math.nan]) for name in names
        ]
        ranks = [cell.reward_rank for cell in result.cells if cell.reward_rank is not None]
        rank = np.nanmedian(np.concatenate(ranks)) if ranks and np.isfinite(np.concatenate(ranks)).any() else math.nan
        shown = ["" if math.isnan(value) else f"{value:.2f}" for value in (*means, rank)]
        rows.append([result.task, result.learner, *shown])
    yield Table(
        "Means over runs and the last tenth of the training: the share of rows that the discriminator is right about, "
        "the entropy of its answers in nats (0 is certain, 0.69 a coin), the slope of its score. Last, Spearman's rank "
        "correlation over the training between the mean learned reward and the score, median over runs: an adversarial "
        "reward falls as the learner gets better, so low values are no fault.",
        ("task", "learner", *names.values(), "rank correlation"), rows, "learned-rewards",
    )  # fmt: skip
    said = [
        f"{result.task}, {result.learner}: {warning}"
        for result in judged for cell in result.cells for warning in cell.warnings
    ]  # fmt: skip
    if said:
        yield Items(said)


def _data(matrix: Matrix) -> Iterator[Block]:
    """What the demonstrations are and will teach, as `understudy inspect --quality` says at greater length."""
    entries: dict[str, dict[str, Any]] = matrix.about.get("data", {})
    if not entries:
        return
    yield Heading("Demonstrations")
    names = ("episodes", "rows", "trajectory_quality", "coverage", "action_noise", "multimodality")

    def row(name: str, entry: dict[str, Any]) -> list[str]:
        quality = entry.get("quality") or {}
        values = [quality.get(each) for each in names]
        shown = ["" if v is None else f"{v:,d}" if isinstance(v, int) else f"{v:.3f}" for v in values]
        return [entry["task"], name, *shown, (entry["sha256"] or "named, not a file")[:16]]

    yield Table(
        "Quality is the mean return between random (0) and expert (1); coverage the share of states and actions "
        "visited, noise the share of the actions' variance that the state does not explain, two ways the share of "
        "states in which actions fall into two groups.",
        ("task", "data", "episodes", "rows", "quality", "coverage", "noise", "two ways", "SHA-256"),
        [row(name, entry) for name, entry in entries.items()], "demonstrations",
    )  # fmt: skip


def _diagnoses(directory: Path) -> Iterator[Block]:
    """The tables of `understudy diagnose … directory=<comparison>/diagnoses/<name>`."""
    paths = sorted((directory / "diagnoses").glob("*/diagnosis.json"))
    if not paths:
        return
    yield Heading("Checks on the learners themselves")
    for path in paths:
        found = read_json(path)
        yield Heading(str(found["title"]), 3)
        yield Paragraph(str(found["verdict"]))
        columns, rows = [str(c) for c in found["columns"]], [[str(c) for c in row] for row in found["rows"]]
        yield Table(str(found["caption"]), columns, rows, f"diagnosis-{path.parent.name}")


def _anchors(matrix: Matrix) -> Iterator[Block]:
    anchors = of_tasks(matrix.plan.tasks)
    if not anchors:
        return
    yield Heading("What others report")
    yield Table(
        "Returns from the literature on these tasks. Versions of tasks, experts, data and the counting of steps differ "
        "from those here: they are no part of any number above.",
        ("task", "source", "conditions", "policy steps", "expert", "returns", "read"),
        [[getattr(a, f.name) for f in dataclasses.fields(a)] for a in anchors],
    )


def _repeat(matrix: Matrix, results: Sequence[LearnerResult]) -> Iterator[Block]:
    yield Heading("To repeat it")
    about = matrix.about
    yield Code(shlex.join(map(str, about["command"])))
    cells = [cell for result in results for cell in result.cells]
    yield Paragraph("The trainings by themselves, each with its commit and the hash of its result:")
    yield Table(
        "", ("cell", "commit", "made", "result.json, SHA-256", "versions"), [_origin(matrix, cell) for cell in cells],
        "cells",
    )  # fmt: skip
    commands = sorted({f"{cell.name}:  {shlex.join(map(str, cell.about['command']))}" for cell in cells})
    yield Code("\n".join(commands))
    versions = {json.dumps(cell.about["versions"], sort_keys=True) for cell in cells}
    for text in sorted(versions):
        yield Paragraph("Versions: " + ", ".join(f"{name} {value}" for name, value in json.loads(text).items()) + ".")


def _origin(matrix: Matrix, cell: CellResult) -> list[str]:
    imported = matrix.notes[cell.name].get("imported")
    versions = cell.about["versions"]
    return [
        cell.name, cell.about.get("commit") or "not recorded", "imported" if imported else "here",
        sha256(cell.path / "result.json")[:16], f"torch {versions['torch']}, mujoco {versions['mujoco']}",
    ]  # fmt: skip
