"""Finished trainings taken into a comparison, if their settings are what they would be today."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..imitation.adastop import AdaStopConfig
from ..imitation.comparison.matrix import Cell, Learner, Matrix, Plan
from ..imitation.files import read_json
from ..imitation.run_log import commit
from ..robots import InputError
from .planning import note_data
from .settings import compose
from .train import resolved

Make = Callable[[Path, Plan, Matrix | None], Matrix]
# Options of a training that a comparison gives itself, or that change nothing of what comes out.
_GIVEN = (
    "task",
    "learner",
    "data",
    "data.name",
    "runs",
    "seed",
    "directory",
    "quiet",
    "threads",
    "device",
    "precision",
)
_FREE = ("task", "learner", "directory", "resume", "quiet", "threads", "device", "precision", "checkpoint", "log_every",
         "runs", "seed", "steps")  # fmt: skip
_BIG = ("checkpoints", "events")


@dataclasses.dataclass(frozen=True)
class _Run:
    """A finished training: where it is, its configuration, and the options that it was asked for."""

    path: Path
    values: Mapping[str, Any]
    options: tuple[str, ...]

    @property
    def learner(self) -> str:
        return str(self.values["learner"])

    @property
    def task(self) -> str:
        return str(self.values["task"])


def import_runs(
    directory: Path, paths: Sequence[Path], old: Matrix | None, test: AdaStopConfig, *, any_commit: bool, make: Make
) -> Matrix:
    """The comparison with the runs in it, copied without their checkpoints.

    Errors: :class:`InputError` for the first that is not finished, whose settings no longer hold, which is of another
    commit, or which the comparison has already; nothing is copied then.
    """
    runs = [_read(path, any_commit=any_commit) for path in paths]
    _check_alike(runs)
    labels = _labels(runs, None if old is None else old.plan)
    plan = _plan(runs, labels, None if old is None else old.plan, test)
    matrix = make(directory, plan, old)
    copies: dict[str, Path] = {}
    for run, label in zip(runs, labels, strict=True):
        cell = Cell.of(plan, run.task, label, int(run.values["seed"]), int(run.values["runs"]))
        there = matrix.cells.get(cell.name)
        if cell.name in copies or (there is not None and matrix.state(there) != "waiting"):
            raise InputError(f"{run.path}: the comparison has {cell.name} already")
        copies[cell.name] = run.path
        matrix.add(cell, imported=str(run.path.resolve()))
        # Recordings that have been moved since are reported without what they would teach.
        with contextlib.suppress(InputError):
            note_data(matrix, run.values)
    for name, path in copies.items():
        target = matrix.path(matrix.cells[name])
        shutil.copytree(path, target, ignore=shutil.ignore_patterns(*_BIG), dirs_exist_ok=True)
    matrix.write()
    return matrix


def _read(path: Path, *, any_commit: bool) -> _Run:
    if not (path / "result.json").is_file() or not (path / "config.yaml").is_file():
        raise InputError(
            f"{path} is not a finished training: it has no result.json; finish it with train resume={path}"
        )
    about = read_json(path / "run.json")
    try:
        values: dict[str, Any] = yaml.safe_load((path / "config.yaml").read_text())
        command = [str(argument) for argument in about["command"]]
        learner, in_memory = str(values["learner"]), bool(values["data"].get("in_memory"))
    except (KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"the run in {path} is damaged ({type(error).__name__}: {error})") from error
    if in_memory:
        raise InputError(f"{path} was trained on demonstrations in memory: nobody can repeat it")
    if not any_commit and (commit() is None or about.get("commit") != commit()):
        raise InputError(
            f"{path} was made at commit {about.get('commit') or 'not recorded'}, this is {commit() or 'no checkout'}: "
            "train it anew, or give any_commit=true, which the report then says"
        )
    options = tuple(a for a in command[2:] if "=" in a and a.partition("=")[0] not in _GIVEN)
    try:
        today, _ = compose([f"task={values['task']}", f"learner={learner}", *options])
    except InputError as error:
        raise InputError(f"{path}: its command cannot be made sense of any more: {error}") from error
    differ = sorted(_differences(values, resolved(today), options))
    if differ:
        raise InputError(f"{path}: its settings no longer hold ({', '.join(differ[:5])}): train it anew")
    return _Run(path, values, options)


def _check_alike(runs: Sequence[_Run]) -> None:
    """Refuse to compare learners of a task by other data or other evaluations. Errors: :class:`InputError`."""
    for group in ("data", "evaluation"):
        first: dict[str, _Run] = {}
        for run in runs:
            if group == "data" and run.values["data"]["name"] is None:
                continue  # it learns from the task's own reward
            before = first.setdefault(run.task, run)
            one, two = (dict(_flat(each.values[group])) for each in (before, run))
            differ = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
            if "name" in differ and Path(str(one["name"])).name == Path(str(two["name"])).name:
                differ.remove("name")  # the same file elsewhere
            if group == "evaluation" and "every" in differ:
                differ.remove("every")  # learners that only clone count updates
            if differ:
                raise InputError(
                    f"{before.path} and {run.path} have other {group} ({', '.join(differ)}): that is no comparison of "
                    "learners; make one of each kind"
                )


def _differences(stored: Mapping[str, Any], today: Mapping[str, Any], options: Sequence[str]) -> list[str]:
    """Settings that have another value today, by name; a file's contents and names of data are not compared."""
    given = {option.partition("=")[0] for option in options}
    old, new = (dict(_flat(values)) for values in (stored, today))
    skipped = [*_FREE, "data.name", "data.in_memory", *(["disturbances"] if "disturbances" in given else [])]
    skipped += [f"{group}.name" for group in ("offline",) if group in given]
    skipped += ["start"] if "start" in given else []
    return [
        f"{name}={old.get(name)} is {new.get(name)} now"
        for name in old.keys() | new.keys()
        if old.get(name) != new.get(name) and not any(name == s or name.startswith(f"{s}.") for s in skipped)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return found


def _labels(runs: Sequence[_Run], old: Plan | None) -> list[str]:
    """A label for each: that of the plan for the same options, or the learner's name and, where it is there with other
    settings as well, what sets it apart."""
    known = {} if old is None else {(task, frozenset(given)): label for (task, label), given in old.options.items()}
    taken = set() if old is None else {label for _, label in old.options}
    found: list[str] = []
    for run in runs:
        same = [set(other.options) for other in runs if other.learner == run.learner]
        own = sorted(set(run.options) - set.intersection(*same))
        if not own and run.learner in taken:
            own = sorted(run.options)
        found.append(known.get((run.task, frozenset(_cell_options(run))), "+".join([run.learner, *own])))
    return found


def _cell_options(run: _Run) -> tuple[str, ...]:
    name = run.values["data"]["name"]
    data = [] if name is None else [f"data={name}"]
    return (f"task={run.task}", f"learner={run.learner}", *run.options, *data, f"threads={run.values['threads']}")


def _plan(runs: Sequence[_Run], labels: Sequence[str], old: Plan | None, test: AdaStopConfig) -> Plan:
    """The old plan, or none, with what the runs add to it."""
    tasks, learners = (list(old.tasks), list(old.learners)) if old is not None else ([], [])
    options, steps = (dict(old.options), dict(old.steps)) if old is not None else ({}, {})
    for run, label in zip(runs, labels, strict=True):
        if run.task not in tasks:
            tasks.append(run.task)
        if all(learner.label != label for learner in learners):
            learners.append(Learner(label, (f"learner={run.learner}", *run.options)))
        options.setdefault((run.task, label), _cell_options(run))
        steps[run.task, label] = int(run.values["steps"])
    if old is not None:
        return dataclasses.replace(old, tasks=tuple(tasks), learners=tuple(learners), options=options, steps=steps)
    first = min(int(run.values["seed"]) for run in runs)
    fewest = min(int(run.values["runs"]) for run in runs)
    fixed = dataclasses.replace(test, group=fewest, stages=1)
    return Plan(tuple(tasks), tuple(learners), options, steps, fewest, first, fixed)
