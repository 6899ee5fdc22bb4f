"""The matrix of a comparison: which trainings it is made of, and how each of them stands.

<directory>/
    compare.json                    the plan and the state of every cell, written whole or not at all
    cells/<task>/<learner>/seeds-0-9/       a run directory, as `understudy train` makes it
    cells/<task>/<learner>/seeds-0-9.log    what its process said
    cells/<task>/<learner>/seeds-0-9.lock   held while it is trained
    report/                         report.html, report.md and the tables

What a cell is at is read from its run directory; `compare.json` only adds what a directory cannot know.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...robots import InputError
from ..adastop import AdaStopConfig, replay
from ..files import read_json, write_json
from .locks import is_held

FORMAT, VERSION = "understudy-comparison", 1
CellState = Literal["waiting", "running", "stopped", "failed", "finished"]


@dataclasses.dataclass(frozen=True)
class Learner:
    """A learner by its ``label`` (what was asked for, `mm+mixture=hybrid`, or a name of its own) and its options."""

    label: str
    options: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The label as the name of a folder."""
        return re.sub(r"[^\w.=+-]", "_", self.label)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is compared. ``options`` are those of `train` for each (task, learner), all but runs and seed.

    ``runs`` is how many of each, or none where :class:`~..adastop.AdaStop` decides by ``test``. Without it, ``test``
    has one stage of all runs.
    """

    tasks: tuple[str, ...]
    learners: tuple[Learner, ...]
    options: Mapping[tuple[str, str], tuple[str, ...]]
    steps: Mapping[tuple[str, str], int]
    runs: int | None
    seed: int
    test: AdaStopConfig

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "tasks": list(self.tasks),
            "learners": [dataclasses.asdict(learner) for learner in self.learners],
            "options": [[*pair, list(options)] for pair, options in self.options.items()],
            "steps": [[*pair, steps] for pair, steps in self.steps.items()],
            "runs": self.runs,
            "seed": self.seed,
            "test": dataclasses.asdict(self.test),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plan:
        """From :meth:`to_json`. Errors: :class:`KeyError`, :class:`TypeError` where something is missing."""
        return cls(
            tuple(values["tasks"]),
            tuple(Learner(entry["label"], tuple(entry["options"])) for entry in values["learners"]),
            {(task, label): tuple(options) for task, label, options in values["options"]},
            {(task, label): int(steps) for task, label, steps in values["steps"]},
            values["runs"],
            int(values["seed"]),
            AdaStopConfig(**values["test"]),
        )

    def folder(self, label: str) -> str:
        """The name of a learner's folder."""
        return next(learner.folder for learner in self.learners if learner.label == label)


@dataclasses.dataclass(frozen=True)
class Cell:
    """Runs of one learner on one task, with seeds ``seed`` to ``seed + runs - 1``, trained together."""

    task: str
    learner: str
    seed: int
    runs: int
    name: str

    @classmethod
    def of(cls, plan: Plan, task: str, learner: str, seed: int, runs: int) -> Cell:
        """With the name of its folder."""
        return cls(task, learner, seed, runs, f"{task}/{plan.folder(learner)}/seeds-{seed}-{seed + runs - 1}")


@dataclasses.dataclass(frozen=True)
class Standing:
    """How a cell stands: its state, the step it is at, and the scores of its newest evaluation, if any."""

    state: CellState
    step: int
    score: float | None
    error: str | None


class Matrix:
    """The comparison in a directory."""

    def __init__(self, directory: Path, plan: Plan, about: Mapping[str, Any] | None = None) -> None:
        self.directory, self.plan = directory, plan
        self.about = dict(about or {})
        self.cells: dict[str, Cell] = {}
        self.notes: dict[str, dict[str, Any]] = {}  # by cell: attempts, error, where it was imported from, its job

    @classmethod
    def read(cls, directory: Path) -> Matrix:
        """Errors: :class:`InputError` when there is none, or its file is damaged."""
        path = directory / "compare.json"
        if not path.is_file():
            raise InputError(f"{directory} is not a comparison: it has no compare.json; give the directory of one")
        values = read_json(path)
        if values.get("format") != FORMAT or values.get("version") != VERSION:
            raise InputError(f"{path} is not of comparison format version {VERSION}")
        try:
            matrix = cls(directory, Plan.from_json(values["plan"]), values["about"])
            for entry in values["cells"]:
                cell = Cell(*(entry[name] for name in ("task", "learner", "seed", "runs", "name")))
                matrix.cells[cell.name], matrix.notes[cell.name] = cell, dict(entry["notes"])
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise InputError(f"{path} is damaged ({type(error).__name__} {error}): restore it from a copy") from error
        return matrix

    def write(self) -> None:
        """Write `compare.json`, whole or not at all."""
        cells = [{**dataclasses.asdict(cell), "notes": self.notes[name]} for name, cell in self.cells.items()]
        values = {"format": FORMAT, "version": VERSION, "about": self.about, "plan": self.plan.to_json()}
        write_json(self.directory / "compare.json", {**values, "cells": cells})

    @property
    def commands(self) -> list[list[str]]:
        """The command that began the comparison, and those that went on with it."""
        return [self.about["command"], *self.about.get("later_commands", ())]

    def note_command(self, command: list[str]) -> None:
        """Keep one that goes on with it, unless it was given before."""
        if command not in self.commands:
            self.about["later_commands"] = [*self.commands[1:], command]

    def add(self, cell: Cell, **notes: Any) -> None:
        """A new cell."""
        self.cells[cell.name], self.notes[cell.name] = cell, {"attempts": 0, "error": None, **notes}

    def path(self, cell: Cell, suffix: str = "") -> Path:
        """The run directory of a cell, or with a suffix the file beside it."""
        return self.directory / "cells" / f"{cell.name}{suffix}"

    def arguments(self, cell: Cell) -> list[str]:
        """The options of `understudy train` that make a cell."""
        options = self.plan.options[cell.task, cell.learner]
        return [*options, f"runs={cell.runs}", f"seed={cell.seed}", f"directory={self.path(cell)}", "quiet=true"]

    def state(self, cell: Cell) -> CellState:
        """What a cell is at, by what lies on disk."""
        if (self.path(cell) / "result.json").is_file():
            return "finished"
        if is_held(self.path(cell, ".lock")):
            return "running"
        if self.notes[cell.name]["error"] is not None:
            return "failed"
        return "stopped" if self.path(cell).is_dir() else "waiting"

    def standing(self, cell: Cell) -> Standing:
        """How far a cell is, read from the ends of its files."""
        step, score = _newest(self.path(cell))
        return Standing(self.state(cell), step, score, self.notes[cell.name]["error"])

    def of(self, task: str, learner: str) -> list[Cell]:
        """The cells of a learner on a task, in the order of their seeds."""
        found = (cell for cell in self.cells.values() if (cell.task, cell.learner) == (task, learner))
        return sorted(found, key=lambda cell: cell.seed)

    def extend(self) -> list[Cell]:
        """Add the cells that the plan asks for by the results so far; returns the new ones.

        Errors: :class:`InputError` as :meth:`final_returns`.
        """
        new: list[Cell] = []
        for task in self.plan.tasks:
            asked = self._fixed(task) if self.plan.runs is not None else self._sequential(task)
            for learner, wanted in asked.items():
                have = sum(cell.runs for cell in self.of(task, learner))
                if wanted > have:
                    new.append(Cell.of(self.plan, task, learner, self.plan.seed + have, wanted - have))
        for cell in new:
            self.add(cell)
        return new

    def _fixed(self, task: str) -> dict[str, int]:
        assert self.plan.runs is not None
        return {learner.label: self.plan.runs for learner in self.plan.learners}

    def _sequential(self, task: str) -> dict[str, int]:
        """How many runs each learner needs: those of the next stage, where all of the stages before are there.

        A learner of which a cell has failed is no longer compared: the others go on without it.
        """
        sound = [
            learner.label
            for learner in self.plan.learners
            if not any(self.state(cell) == "failed" for cell in self.of(task, learner.label))
        ]
        test = replay(self.plan.test, {label: self.final_returns(task, label) for label in sound})
        group = self.plan.test.group
        return {label: (test.stages + 1) * group for label in test.wanted()}

    def final_returns(self, task: str, learner: str) -> list[float]:
        """The returns of the finished runs in the order of their seeds.

        Not their scores: a training that knows no expert has none, and another may know of another expert. Runs after
        the first that is not finished are left out. Errors: :class:`InputError` for a damaged result.
        """
        found: list[float] = []
        for cell in self.of(task, learner):
            if self.state(cell) != "finished":
                break
            result = read_json(self.path(cell) / "result.json")
            try:
                found += [float(value) for value in result["return"]["runs"]]
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"{self.path(cell) / 'result.json'} is damaged: move the cell away") from error
        return found


def _newest(run: Path) -> tuple[int, float | None]:
    """The step and the mean score (or return) of the newest rows in a run directory's tables."""
    step, score = 0, None
    metrics, evaluations = (_tail(run / name) for name in ("metrics.csv", "evaluations.csv"))
    if metrics:
        step = int(metrics[-1]["step"])
    if evaluations:
        last = [row for row in evaluations if row["step"] == evaluations[-1]["step"]]
        values = [float(row["score"] or row["return"]) for row in last]
        step, score = max(step, int(last[-1]["step"])), float(np.mean(values))
    return step, score


def _tail(path: Path, size: int = 16_384) -> list[dict[str, str]]:
    """The whole rows at the end of a CSV file; none when there is no file yet."""
    try:
        with path.open("rb") as file:
            names = file.readline().decode().rstrip("\n").split(",")
            file.seek(0, 2)
            begin = max(file.tell() - size, len(",".join(names)) + 1)
            file.seek(begin)
            lines = file.read().decode(errors="replace").split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    whole = lines[1 if begin > len(",".join(names)) + 1 else 0 : -1]  # the first and the last may be cut
    rows = [line.split(",") for line in whole]
    return [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]


def check_same(old: Plan, new: Plan) -> None:
    """Whether a directory can be gone on with: tasks, learners and runs may be added, the rest has to be as it was.

    Errors: :class:`InputError` that names what differs.
    """
    for (task, label), options in old.options.items():
        changed = sorted(set(options) ^ set(new.options[task, label]))
        if changed:
            raise InputError(
                f"{label} on {task} was planned with other settings ({', '.join(changed)}): choose another directory=, "
                "or leave them as they were"
            )
    if (old.runs is None) != (new.runs is None) or old.seed != new.seed:
        raise InputError("whether runs=auto, and seed=, stay as they were: choose another directory=")
    if old.runs is None and old.test != new.test:
        raise InputError("the sequential test (group=, stages=, level=) stays as it was: choose another directory=")


def labels(names: Sequence[str]) -> tuple[Learner, ...]:
    """Learners from what people write: a name and its own options, `mm+mixture=hybrid+mixture.expert_share=0.2`.

    `half:mm+mixture=hybrid` calls it half. Errors: :class:`InputError` for a name that is there twice.
    """
    found: list[Learner] = []
    for name in names:
        base, *options = re.split(r"\+(?=[A-Za-z_][\w.]*=)", name)
        alias, colon, known = base.rpartition(":")
        learner = Learner(alias if colon else name, (f"learner={known}", *options))
        if any(other.folder == learner.folder for other in found):
            raise InputError(f"{learner.label} is among the learners twice: leave one out, or name it (half:mm+…)")
        found.append(learner)
    return tuple(found)
