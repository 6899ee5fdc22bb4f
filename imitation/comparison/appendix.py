"""What stands behind the results in a report: steps, learned rewards, data, checks, the literature, and provenance."""

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
from ..files import read_json, sha256
from .anchors import of_tasks
from .document import Block, Code, Heading, Items, Paragraph, Table, without_folders
from .matrix import Matrix
from .results import CellResult, LearnerResult, data_of


def appendix(matrix: Matrix, results: Sequence[LearnerResult]) -> Iterator[Block]:
    """All of it."""
    yield from _scored_anew(results)
    yield from _steps(results)
    yield from _health(results)
    yield from _data(matrix)
    yield from _diagnoses(matrix.directory)
    yield from _anchors(matrix, results)
    yield from _repeat(matrix, results)


def _scored_anew(results: Sequence[LearnerResult]) -> Iterator[Block]:
    """Which trainings have other scores here than in their own files, so that nobody takes it for a mistake."""
    said: list[str] = []
    for result in results:
        for cell in result.cells:
            own = (cell.scale.random, cell.scale.expert)
            if cell.references != own:
                before = "had none" if None in own else f"scored itself from {own[0]:.6g} to {own[1]:.6g}"
                random, expert = cell.references
                said.append(f"{cell.name}: scored from {random:.6g} to {expert:.6g}; the training {before}.")
    if said:
        yield Heading("Scored anew")
        yield Paragraph(
            "All trainings of a task are scored by the same returns of a random policy and the expert, those of its "
            "demonstrations where it has some. These knew others, and their scores were made again of their returns:"
        )
        yield Items(said)


def _steps(results: Sequence[LearnerResult]) -> Iterator[Block]:
    yield Heading("Steps and time")
    rows: list[list[str]] = []
    total = 0.0
    for result in results:
        purposes = result.purposes()
        seconds = sum(cell.seconds for cell in result.cells)
        total += seconds
        processors = {f"{c.about['hardware']['processor']}, {c.about['threads']} threads" for c in result.cells}
        rows.append(
            [
                result.task, result.learner, *(f"{purposes[purpose]:,.0f}" for purpose in PURPOSES),
                f"{sum(purposes[p] for p in PURPOSES if p != 'evaluation'):,.0f}",
                f"{seconds / 3600:.2f}", "; ".join(sorted(processors)),
            ]
        )  # fmt: skip
    yield Table(
        f"Environment steps of a run by purpose, and hours on the clock for all runs of a cell together (cells may "
        f"have shared a machine): {total / 3600:.1f} hours in all.",
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
        yield Code(_command(found["command"]))


def _anchors(matrix: Matrix, results: Sequence[LearnerResult]) -> Iterator[Block]:
    """The literature's returns task after task, under those of this comparison."""
    anchors = of_tasks(matrix.plan.tasks)
    if not anchors:
        return
    rows: list[list[str]] = []
    for task in matrix.plan.tasks:
        others = [anchor for anchor in anchors if anchor.task == task]
        own = [result for result in results if result.task == task]
        if others and own:
            rows.append(_ours(task, own))
        rows += [[getattr(anchor, field.name) for field in dataclasses.fields(anchor)] for anchor in others]
    yield Heading("What others report")
    yield Table(
        "Returns from the literature on these tasks, each task's under the mean returns found here. Versions of tasks, "
        "experts, data and the counting of steps differ from those here: they are no part of any number above.",
        ("task", "source", "conditions", "policy steps", "expert", "returns", "read"), rows,
    )  # fmt: skip


def _ours(task: str, results: Sequence[LearnerResult]) -> list[str]:
    cells = [cell for result in results for cell in result.cells]
    policy = sorted({round(cell.purposes["policy"]) for cell in cells} - {0})
    expert = next((cell.references[1] for cell in cells if cell.references[1] is not None), None)
    data = next((found for cell in cells if (found := data_of(cell.values))), "")
    taken = " to ".join(f"{steps:,}" for steps in dict.fromkeys((*policy[:1], *policy[-1:])))
    order = sorted(results, key=lambda result: -float(result.returns.mean()))
    return [
        task, "this comparison", data, taken, "" if expert is None else f"{expert:.0f}",
        ", ".join(f"{result.learner} {result.returns.mean():.0f}" for result in order), "measured",
    ]  # fmt: skip


def _repeat(matrix: Matrix, results: Sequence[LearnerResult]) -> Iterator[Block]:
    yield Heading("To repeat it")
    yield Code("\n".join(map(_command, matrix.commands)))
    cells = [cell for result in results for cell in result.cells]
    yield Paragraph(
        "The trainings by themselves, each with its commit and the hash of its result. Of files and folders only "
        "names are given:"
    )
    yield Table(
        "", ("cell", "commit", "made", "result.json, SHA-256", "versions"), [_origin(matrix, cell) for cell in cells],
        "cells",
    )  # fmt: skip
    commands = sorted(line for cell in cells for line in _commands(cell))
    yield Code("\n".join(commands))
    versions = {json.dumps(cell.about["versions"], sort_keys=True) for cell in cells}
    for text in sorted(versions):
        yield Paragraph("Versions: " + ", ".join(f"{name} {value}" for name, value in json.loads(text).items()) + ".")


def _commands(cell: CellResult) -> list[str]:
    """The command that began a training, and those that went on with it."""
    resumed = [(f" from step {each['step']:,}", each["command"]) for each in cell.about.get("resumed", ())]
    return [f"{cell.name}{since}:  {_command(words)}" for since, words in [("", cell.about["command"]), *resumed]]


def _command(arguments: Sequence[object]) -> str:
    """A command to copy, with names of files where it had their folders, too."""
    return shlex.join(without_folders(str(argument)) for argument in arguments)


def _origin(matrix: Matrix, cell: CellResult) -> list[str]:
    imported = matrix.notes[cell.name].get("imported")
    versions = cell.about["versions"]
    commits = [cell.about.get("commit"), *(each.get("commit") for each in cell.about.get("resumed", ()))]
    shown = ", then ".join(dict.fromkeys(commit or "not recorded" for commit in commits))
    return [
        cell.name, shown, "imported" if imported else "here",
        sha256(cell.path / "result.json")[:16], f"torch {versions['torch']}, mujoco {versions['mujoco']}",
    ]  # fmt: skip
