"""Run directories copied into a comparison: without what only going on with them needs, and ready to be published."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..imitation.checkpoint import load_checkpoint
from ..imitation.comparison.document import without_folders
from ..imitation.comparison.matrix import Matrix, Plan
from ..imitation.comparison.results import REPORTED
from ..imitation.files import new_directory, read_json, write_json, write_text
from ..imitation.fit import Run
from ..imitation.run_log import versions
from ..robots import InputError
from .build import build
from .report import result

_BIG = ("checkpoints", "events")
_TEXTS = ("config.yaml", "run.json", "result.json")
_TABLES = ("evaluations.csv", "metrics.csv")


def copy_run(path: Path, target: Path, values: Mapping[str, Any], *, publish: bool) -> None:
    """Copy a run directory; one that is not finished as far as its newest checkpoint, with the result it has there.

    With ``publish`` only what a report needs: settings, results, evaluations and the metrics that it shows, with
    names instead of absolute paths. Errors: :class:`InputError` for a checkpoint that cannot be gone on with.
    """
    with new_directory(target) as folder:
        shutil.copytree(path, folder, ignore=shutil.ignore_patterns(*_BIG), dirs_exist_ok=True)
        if not (path / "result.json").is_file():
            _end_at_the_checkpoint(path, folder, values)
        outcome = read_json(folder / "result.json")
        places = {"run": str(target), "policy": str(target / "policy")}
        if not publish:
            write_json(folder / "result.json", {**outcome, **places})
            return
        write_json(folder / "result.json", {name: value for name, value in outcome.items() if name not in places})
        for each in folder.iterdir():
            if each.name in _TEXTS:
                write_text(each, without_folders(each.read_text()))
            elif each.is_dir():
                shutil.rmtree(each)
            elif each.name not in _TABLES:
                each.unlink()
        _rewrite(folder / "metrics.csv", columns=REPORTED)


def _end_at_the_checkpoint(path: Path, folder: Path, values: Mapping[str, Any]) -> None:
    """Make of a copy what the training would have left, had its steps ended at its newest checkpoint."""
    built = build({**values, "quiet": True})
    try:
        run = Run(built.training, folder, built.fit, built.references)
        run.resume(load_checkpoint(path))
        if not run.progress.points:
            raise InputError(f"{path} stopped before its first evaluation, so nothing can be said of it: leave it out")
        at = run.training.steps
        about = {name: values[name] for name in ("learner", "task", "data")} | {"versions": versions()}
        about["disturbances"] = built.training.task.disturbances.to_values()
        summary = result(run, folder, run.save_policies(about))
    finally:
        built.training.close()
    write_json(folder / "result.json", {**summary, "stopped": {"step": at, "of": int(values["steps"])}})
    for name in _TABLES:
        _rewrite(folder / name, until=at)


def _rewrite(path: Path, *, columns: Sequence[str] | None = None, until: int | None = None) -> None:
    """Leave of a CSV file the columns that are named, and the rows until a step of the training."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        names = [name for name in reader.fieldnames or () if columns is None or name in columns]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row for row in reader if until is None or int(row["step"]) <= until)
    write_text(path, text.getvalue())


def published(matrix: Matrix) -> Matrix:
    """The comparison with names instead of absolute paths in its plan and notes."""
    clean = Matrix(matrix.directory, Plan.from_json(without_folders(matrix.plan.to_json())), matrix.about)
    clean.about = without_folders(matrix.about)
    clean.cells, clean.notes = dict(matrix.cells), without_folders(matrix.notes)
    return clean
