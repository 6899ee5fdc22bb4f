"""Trainings of before in a comparison: which are taken, by what name, and what is published of them."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from comparisons import SMALL, arguments, outcome

from understudy.datasets import Demonstrations, write_d4rl
from understudy.imitation.adastop import AdaStopConfig
from understudy.imitation.comparison.matrix import Matrix, Plan, labels
from understudy.imitation.files import read_json
from understudy.scripts.compare import main
from understudy.scripts.labelling import Trained, labelled


def copies_of_cells(comparison: Path, folder: Path) -> list[Path]:
    """The two trainings of a comparison, as run directories of their own."""
    runs = [folder / str(index) for index in range(2)]
    for name, run in zip(outcome(comparison), runs, strict=True):
        shutil.copytree(comparison / "cells" / name, run)
    return runs


def test_finished_trainings_are_imported_if_their_settings_hold(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = copies_of_cells(whole, tmp_path / "runs")
    target = tmp_path / "imported"
    assert main(["import", *map(str, runs), f"directory={target}", "any_commit=true", "quiet=true"]) == 0
    imported = Matrix.read(target)
    assert all("imported" in notes for notes in imported.notes.values())
    # Both are bc, so what they were asked for tells them apart.
    names = [learner.label for learner in imported.plan.learners]
    assert names == ["bc+loop.batch_size=16", "bc+loop.batch_size=32"]
    assert [len(imported.final_returns("hopper", name)) for name in names] == [2, 2]
    assert not list(target.rglob("checkpoints"))
    assert main(["import", str(runs[0]), f"directory={target}", "any_commit=true"]) == 2
    assert "already" in capsys.readouterr().err


def test_what_is_to_be_published_names_no_folder_and_is_small(
    whole: Path, data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = copies_of_cells(whole, tmp_path / "runs")
    target = tmp_path / "published"
    assert main(["import", str(runs[0]), f"directory={target}", "any_commit=true", "publish=true", "quiet=true"]) == 0
    # What comes later is taken in the same way, and its command is told with the first.
    monkeypatch.setattr("sys.argv", ["understudy", "compare", "import", str(runs[1])])
    assert main(["import", str(runs[1]), f"directory={target}", "any_commit=true", "quiet=true"]) == 0
    assert "understudy compare import 1\n" in (target / "report" / "report.md").read_text()
    files = [path for path in target.rglob("*") if path.is_file() and path.name != ".lock"]
    for path in files:
        assert str(data_file.parent) not in path.read_text() and str(tmp_path) not in path.read_text(), path
    kept = {path.name for path in files if "cells" in path.relative_to(target).parts}
    assert kept == {"config.yaml", "run.json", "result.json", "evaluations.csv", "metrics.csv"}
    assert (target / ".gitignore").read_text() == ".lock\n"
    matrix = Matrix.read(target)
    assert [learner.label for learner in matrix.plan.learners] == ["bc", "bc+loop.batch_size=32"]
    assert [len(matrix.final_returns("hopper", learner.label)) for learner in matrix.plan.learners] == [2, 2]
    assert main(arguments(target, data_file)) == 2
    assert "is for publishing and trains nothing" in capsys.readouterr().err


def test_a_training_that_was_stopped_is_taken_as_far_as_it_went(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished, stopped = tmp_path / "finished", tmp_path / "stopped"
    for run in (finished, stopped):
        shutil.copytree(whole / "cells" / next(iter(outcome(whole))), run, symlinks=True)
    (stopped / "result.json").unlink()
    shutil.rmtree(
        stopped / "checkpoints" / "000000200"
    )  # as if it had been killed soon after the one before, which has one evaluation
    (stopped / "checkpoints" / "last").unlink()
    given = [f"directory={tmp_path / 'imported'}", "any_commit=true"]
    assert main(["import", str(stopped), *given]) == 2
    assert "finish it with train resume=" in capsys.readouterr().err
    assert main(["import", str(stopped), *given, "unfinished=true"]) == 0
    assert "bc† after 100 of 200 steps" in capsys.readouterr().out
    matrix = Matrix.read(tmp_path / "imported")
    (there,) = (matrix.path(each) for each in matrix.cells.values())
    assert (there / "policies" / "run-1" / "config.json").is_file()
    first = [row for row in csv.DictReader((finished / "evaluations.csv").read_text().splitlines())
             if row["step"] == "100"]  # fmt: skip
    assert list(csv.DictReader((there / "evaluations.csv").read_text().splitlines())) == first
    means = [np.mean([float(row["return"]) for row in first if row["run"] == run]) for run in ("0", "1")]
    assert read_json(there / "result.json")["return"]["runs"] == pytest.approx(means, rel=1e-4)
    # It is not taken again as it is, but the finished one takes its place, even if it was given other steps since.
    assert main(["import", str(stopped), *given, "unfinished=true"]) == 2
    assert "already" in capsys.readouterr().err
    replace(finished / "config.yaml", "\nsteps: 200", "\nsteps: 180")
    assert main(["import", str(finished), *given]) == 0
    assert "†" not in capsys.readouterr().out
    assert read_json(there / "result.json")["score"] == read_json(finished / "result.json")["score"]


def test_labels_are_the_same_on_every_task_and_tell_learners_apart() -> None:
    def trained(task: str, *options: str, learner: str = "mm") -> Trained:
        data = f"data=/demos/{task}.hdf5"
        return Trained(task, learner, (f"task={task}", f"learner={learner}", *options, data, "threads=1"))

    runs = [
        trained("hopper", "steps=100"),
        trained("ant", "steps=300", "data.episodes=8"),
        trained("hopper", "steps=100", "mixture=hybrid"),
        trained("ant", "steps=300", "mixture=hybrid"),
        trained("hopper", "steps=200", "mixture=hybrid"),
        trained("ant", learner="bc"),
    ]
    names = labelled(runs, None)
    assert names == [
        "mm",
        "mm",
        "mm+mixture=hybrid+steps=100",
        "mm+mixture=hybrid",
        "mm+mixture=hybrid+steps=200",
        "bc",
    ]
    pairs = list(zip([run.task for run in runs], names, strict=True))
    options = {
        pair: tuple(o.replace("/demos/", "") for o in run.options) for pair, run in zip(pairs, runs, strict=True)
    }
    old = Plan(("hopper", "ant"), labels(list(dict.fromkeys(names))), options, dict.fromkeys(options, 1), 5, 0,
               AdaStopConfig(5, 1))  # fmt: skip
    # Later, with data elsewhere and other threads: those of the plan; a further task; other steps.
    assert labelled(runs, old) == names
    assert labelled([trained("walker2d", "steps=80"), trained("walker2d", learner="bc")], old) == ["mm", "bc"]
    assert labelled([trained("hopper", "steps=900")], old) == ["mm+steps=900"]
    assert labelled([trained("hopper", "steps=900")], old, {("hopper", "mm")}) == ["mm"]
    assert labelled([trained("hopper", "steps=100", "reward=airl")], old) == ["mm+reward=airl"]


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "unfinished": (lambda run: (run / "result.json").unlink(), "is not a finished training"),
    "changed": (
        lambda run: replace(run / "config.yaml", "learning_rate: 0.0003", "learning_rate: 0.5"),
        "its settings no longer hold (loop.learning_rate=0.5 is 0.0003 now)",
    ),
    "damaged": (lambda run: (run / "config.yaml").write_text("7"), "is damaged"),
    "unmakeable": (lambda run: replace(run / "run.json", '"learner=bc"', '"nothing=bc"'), "cannot be made sense of"),
}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("case", REFUSED)
def test_other_trainings_are_not_imported(
    case: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole / "cells" / next(iter(outcome(whole))), tmp_path / "run")
    spoil, said = REFUSED[case]
    spoil(tmp_path / "run")
    target = tmp_path / "imported"
    assert main(["import", str(tmp_path / "run"), f"directory={target}", "any_commit=true"]) == 2
    assert said in capsys.readouterr().err
    assert not target.exists()


def test_trainings_by_other_evaluations_are_not_compared(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = copies_of_cells(whole, tmp_path / "runs")
    replace(runs[1] / "config.yaml", "episodes: 2", "episodes: 5")
    replace(runs[1] / "run.json", "evaluation.episodes=2", "evaluation.episodes=5")
    assert main(["import", *map(str, runs), f"directory={tmp_path / 'imported'}", "any_commit=true"]) == 2
    assert "have other evaluation (episodes)" in capsys.readouterr().err
    # Nor with what is there already.
    assert main(["import", str(runs[0]), f"directory={tmp_path / 'imported'}", "any_commit=true", "quiet=true"]) == 0
    assert main(["import", str(runs[1]), f"directory={tmp_path / 'imported'}", "any_commit=true"]) == 2
    assert "have other evaluation (episodes)" in capsys.readouterr().err


def test_trainings_scored_by_other_returns_of_the_expert_are_not_compared(
    here: None, whole: Path, data_file: Path, demonstrations: Demonstrations, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    runs = copies_of_cells(whole, tmp_path / "runs")
    replace(runs[1] / "run.json", '"expert": 100.0', '"expert": 90.0')
    target = tmp_path / "imported"
    assert main(["import", *map(str, runs), f"directory={target}", "any_commit=true"]) == 2
    assert f"{runs[0]} from 10 to 100 and {runs[1]} from 10 to 90" in capsys.readouterr().err
    assert not target.exists()
    # Nor is such a comparison begun, or gone on with.
    other = tmp_path / "other.hdf5"
    write_d4rl(other, dataclasses.replace(demonstrations, expert_return=90.0))
    own = f"own:sac+data={other}+agent.hidden=[16,16]+loop.random_steps=60+steps=200"
    assert main(arguments(target, data_file, f"learners=[{SMALL},{own}]")) == 2
    assert "small from 10 to 100 and own from 10 to 90" in capsys.readouterr().err
    assert not target.exists()
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    assert main(arguments(copy, data_file, f"learners=[{SMALL},{own}]")) == 2
    assert "/seeds-0-1 from 10 to 100 and own from 10 to 90" in capsys.readouterr().err
    assert outcome(copy) == outcome(whole)


def test_trainings_of_another_commit_are_not_imported(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole / "cells" / next(iter(outcome(whole))), run)
    about = read_json(run / "run.json")
    (run / "run.json").write_text(json.dumps({**about, "commit": "of another day"}))
    assert main(["import", str(run), f"directory={tmp_path / 'imported'}"]) == 2
    assert "was made at commit of another day" in capsys.readouterr().err
