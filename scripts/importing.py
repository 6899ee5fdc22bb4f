"""Trainings taken into a comparison, if their settings are what they would be today."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..imitation.adastop import AdaStopConfig
from ..imitation.comparison.matrix import Cell, Learner, Matrix, Plan
from ..imitation.comparison.scale import Scale, common_scale
from ..imitation.files import read_json, write_text
from ..imitation.run_log import commit
from ..robots import InputError
from .copying import copy_run, published
from .labelling import Trained, labelled
from .planning import note_data
from .settings import compose
from .train import completed, resolved

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


@dataclasses.dataclass(frozen=True)
class ImportRules:
    """What is taken in: also runs of ``any_commit``, and ``unfinished`` ones as far as they went.

    ``publish`` takes of each what a report needs, and only names of what lies on this machine (:mod:`.copying`).
    """

    any_commit: bool = False
    unfinished: bool = False
    publish: bool = False


@dataclasses.dataclass(frozen=True)
class _Run:
    """A training: where it is, its configuration, and the options that it was asked for."""

    path: Path
    values: Mapping[str, Any]
    options: tuple[str, ...]

    @property
    def finished(self) -> bool:
        return (self.path / "result.json").is_file()

    @property
    def learner(self) -> str:
        return str(self.values["learner"])

    @property
    def task(self) -> str:
        return str(self.values["task"])


def import_runs(
    directory: Path, paths: Sequence[Path], old: Matrix | None, test: AdaStopConfig, rules: ImportRules, make: Make
) -> Matrix:
    """The comparison with the runs in it, copied without their checkpoints.

    A run takes the place of one that is there already with the same seeds if that was not finished and it went further.
    Errors: :class:`InputError` for the first that is not finished, whose settings no longer hold, which is of another
    commit, or which the comparison has already; nothing is copied then.
    """
    runs = [_read(path, rules) for path in paths]
    before = () if old is None else [(cell, path) for cell in old.cells.values() if _is_run(path := old.path(cell))]
    together = [*(_Run(path, _settings(path), ()) for _, path in before), *runs]
    _check_alike(together)
    _check_scales(together)
    trained = [Trained(run.task, run.learner, _cell_options(run)) for run in runs]
    plan = None if old is None else old.plan
    labels = labelled(trained, plan, {(cell.task, cell.learner) for cell, path in before if _stopped(path) is not None})
    made = _plan(runs, labels, plan, test)
    if old is not None:  # what was stopped may go on to other steps than it was planned with
        old.plan = dataclasses.replace(old.plan, options={pair: made.options[pair] for pair in old.plan.options})
    matrix = make(directory, made, old)
    if rules.publish:
        matrix.about["published"] = True
    publish = bool(matrix.about.get("published"))
    copies: dict[str, _Run] = {}
    for run, label in zip(runs, labels, strict=True):
        cell = Cell.of(matrix.plan, run.task, label, int(run.values["seed"]), int(run.values["runs"]))
        if cell.name in copies or (cell.name in matrix.cells and not _goes_further(run, matrix.path(cell))):
            raise InputError(f"{run.path}: the comparison has {cell.name} already")
        copies[cell.name] = run
        matrix.add(cell, imported=str(run.path.resolve()))
        # Recordings that have been moved since are reported without what they would teach.
        with contextlib.suppress(InputError):
            note_data(matrix, run.values)
    for name, run in copies.items():
        copy_run(run.path, matrix.path(matrix.cells[name]), run.values, publish=publish)
    if publish:
        write_text(directory / ".gitignore", ".lock\n")
        matrix = published(matrix)
    matrix.write()
    return matrix


def _goes_further(run: _Run, there: Path) -> bool:
    """Whether a run may take the place of what is there: nothing, or a training that was stopped earlier."""
    stopped = _stopped(there)
    if stopped is None:
        return not there.exists()
    return run.finished or _last_checkpoint(run.path) > stopped


def _stopped(path: Path) -> int | None:
    """The step at which a training was stopped whose result is here, if it was."""
    found = read_json(path / "result.json").get("stopped") if (path / "result.json").is_file() else None
    return None if found is None else int(found["step"])


def _settings(path: Path) -> dict[str, Any]:
    """A run's configuration; settings that are younger mean what they do today. Errors: :class:`InputError`."""
    try:
        return completed(yaml.safe_load((path / "config.yaml").read_text()), path / "config.yaml")
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"the run in {path} is damaged ({type(error).__name__}: {error})") from error


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file()


def _last_checkpoint(path: Path) -> int:
    return max((int(p.name) for p in (path / "checkpoints").glob("*") if p.name.isdigit()), default=0)


def _read(path: Path, rules: ImportRules) -> _Run:
    if not _is_run(path):
        raise InputError(f"{path} is not a training: it has no config.yaml; name run directories")
    if not (path / "result.json").is_file():
        if not rules.unfinished:
            raise InputError(
                f"{path} is not a finished training: it has no result.json; finish it with train resume={path}, or "
                "take it as far as it went by unfinished=true"
            )
        if not _last_checkpoint(path):
            raise InputError(
                f"{path} is not finished and has no checkpoint, so nothing can be taken of it: leave it out"
            )
    about = read_json(path / "run.json")
    values = _settings(path)
    try:
        command = [str(argument) for argument in about["command"]]
        learner, in_memory = str(values["learner"]), bool(values["data"].get("in_memory"))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"the run in {path} is damaged ({type(error).__name__}: {error})") from error
    if in_memory:
        raise InputError(f"{path} was trained on demonstrations in memory: nobody can repeat it")
    if not rules.any_commit and (commit() is None or about.get("commit") != commit()):
        raise InputError(
            f"{path} was made at commit {about.get('commit') or 'not recorded'}, this is {commit() or 'no checkout'}: "
            "train it anew, or give any_commit=true, which the report then says"
        )
    options = tuple(a for a in command[2:] if "=" in a and a.partition("=")[0] not in _GIVEN)
    try:
        today, _ = compose([f"task={values['task']}", f"learner={learner}", *options])
    except InputError as error:
        raise InputError(f"{path}: its command cannot be made sense of any more: {error}") from error
    if int(values["steps"]) != int(today["steps"]):  # it went on to more of them, or to fewer
        options = (*(option for option in options if not option.startswith("steps=")), f"steps={values['steps']}")
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


def _check_scales(runs: Sequence[_Run]) -> None:
    """Refuse trainings of a task whose demonstrations give scores two meanings. Errors: :class:`InputError`."""
    scales: dict[str, list[Scale]] = {}
    for run in runs:
        scales.setdefault(run.task, []).append(Scale.of(str(run.path), run.values, read_json(run.path / "run.json")))
    for task, found in scales.items():
        common_scale(task, found)


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
        if steps.get((run.task, label)) != run.values["steps"]:  # new, or going on from where it was stopped
            options[run.task, label] = _cell_options(run)
        steps[run.task, label] = int(run.values["steps"])
    if old is not None:
        return dataclasses.replace(old, tasks=tuple(tasks), learners=tuple(learners), options=options, steps=steps)
    first = min(int(run.values["seed"]) for run in runs)
    fewest = min(int(run.values["runs"]) for run in runs)
    fixed = dataclasses.replace(test, group=fewest, stages=1)
    return Plan(tuple(tasks), tuple(learners), options, steps, fewest, first, fixed)
