"""`understudy compare` as people use it: cells trained, broken, gone on with, imported and told of."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import last_of_each, make_demonstrations

from understudy.datasets import Demonstrations, write_d4rl
from understudy.imitation.adastop import AdaStopConfig
from understudy.imitation.comparison.locks import HeldError, is_held, lock
from understudy.imitation.comparison.matrix import Matrix, Plan, labels
from understudy.imitation.files import read_json
from understudy.robots import InputError
from understudy.scripts import cell, launchers
from understudy.scripts.compare import main
from understudy.scripts.labelling import Trained, labelled
from understudy.scripts.launchers import Job, RayLauncher, SlurmLauncher, make_launcher
from understudy.scripts.planning import items

TINY = (
    "precision=float32", "device=cpu", "evaluation.every=100", "evaluation.episodes=2", "checkpoint.every=50",
    "log_every=50", "threads=1", "quiet=true",
)  # fmt: skip
SMALL = "small:bc+steps=200+loop.hidden=[16,16]+loop.batch_size=16"
WIDE = "wide:bc+steps=200+loop.hidden=[16,16]+loop.batch_size=32"


def arguments(directory: Path, data: Path, *more: str) -> list[str]:
    given = ("tasks=hopper", f"learners=[{SMALL},{WIDE}]", "runs=2", f"data={data}", f"directory={directory}", *TINY)
    return last_of_each(*given, *more)


def outcome(directory: Path) -> dict[str, object]:
    """All that a comparison came to, but for times and places."""
    matrix = Matrix.read(directory)
    found: dict[str, object] = {}
    for each in matrix.cells.values():
        path = matrix.path(each)
        result = read_json(path / "result.json")
        found[each.name] = (
            {key: result[key] for key in ("score", "return", "steps")},
            (path / "evaluations.csv").read_text(),
            (path / "metrics.csv").read_text(),
        )
    return found


def attempts(directory: Path) -> list[int]:
    return [notes["attempts"] for notes in Matrix.read(directory).notes.values()]


class HereLauncher:
    """Trains cells in this process, one after the other: processes of their own load torch for seconds each."""

    slots = 1

    def start(self, command: Sequence[str], log: Path) -> Job:
        """The cell's own entry, with its output in the log as a process would have it."""
        where = command.index("understudy.scripts.cell") + 1
        with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            return Ended(cell.main(command[where:]))

    def close(self) -> None:
        """Nothing is held."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """A job that is over."""

    found: int

    def code(self) -> int:
        return self.found

    def cancel(self) -> None:
        """Too late."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchers, "make_launcher", lambda *_, **__: HereLauncher())


@pytest.fixture(scope="module")
def whole(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small comparison that nothing disturbed, in processes as users have it."""
    directory = tmp_path_factory.mktemp("comparison") / "whole"
    assert main(arguments(directory, data_file)) == 0
    return directory


def test_a_comparison_trains_tests_and_reports(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(outcome(whole)) == {"hopper/small/seeds-0-1", "hopper/wide/seeds-0-1"}
    page = (whole / "report" / "report.html").read_text()
    assert "Comparison of learners on hopper" in page
    assert "<script" not in page
    assert (whole / "report" / "tables" / "scores-hopper.csv").read_text().startswith("learner,runs,IQM")
    assert main(["status", str(whole), "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["state"] for cell in cells] == ["finished", "finished"]
    assert [cell["step"] for cell in cells] == [200, 200]
    assert main(["status", str(whole)]) == 0
    assert "2 cells: 2 finished" in capsys.readouterr().out


def test_finished_cells_are_not_trained_again_and_more_runs_are_added(
    here: None, whole: Path, data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    before = {path: path.stat().st_mtime_ns for path in copy.glob("cells/*/*/*/result.json")}
    assert main(arguments(copy, data_file, f"learners={SMALL}", "runs=3")) == 0
    assert attempts(copy) == [1, 1, 1, 1]
    assert set(Matrix.read(copy).cells) - set(outcome(whole)) == {"hopper/small/seeds-2-2", "hopper/wide/seeds-2-2"}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(json.loads(capsys.readouterr().out.strip().splitlines()[-1])["verdict"]) >= 1


def test_a_broken_cell_is_gone_on_with_and_one_without_a_checkpoint_is_begun_anew(
    here: None, whole: Path, data_file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy, symlinks=True)
    one, two = (copy / "cells" / name for name in outcome(whole))
    (one / "result.json").unlink()
    last = sorted(path for path in (one / "checkpoints").iterdir() if path.name.isdigit())
    shutil.rmtree(last[-1])  # as if it had been killed before the last
    (one / "checkpoints" / "last").unlink()
    (two / "result.json").unlink()
    shutil.rmtree(two / "checkpoints")
    assert main(arguments(copy, data_file)) == 0
    assert outcome(copy) == outcome(whole)
    assert "resumed" in read_json(one / "run.json")
    assert "resumed" not in read_json(two / "run.json")


def test_a_cell_that_fails_leaves_the_others_alone(
    here: None, data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "comparison"
    # Nothing can be written where the second cell should go.
    blocked = directory / "cells" / "hopper" / "wide" / "seeds-0-1"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")
    assert main(arguments(directory, data_file)) == 1
    assert "1 of the cells failed (hopper/wide/seeds-0-1)" in capsys.readouterr().err
    assert main(["status", str(directory)]) == 0
    assert "is a file or not empty" in capsys.readouterr().out
    assert "hopper/wide/seeds-0-1: failed" in (directory / "report" / "report.md").read_text()
    blocked.unlink()
    assert main(arguments(directory, data_file)) == 0
    assert attempts(directory) == [1, 2]


def test_two_comparisons_in_one_directory_are_refused(
    whole: Path, data_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock(whole / ".lock", "a test"):
        assert main(arguments(whole, data_file)) == HeldError.code
    assert f"(process {os.getpid()})" in capsys.readouterr().err
    assert not is_held(whole / ".lock")
    with lock(whole / ".lock", "a test"), pytest.raises(HeldError, match="a test"), lock(whole / ".lock", "a test"):
        pass


def test_the_sequential_test_asks_for_runs_until_it_is_sure(here: None, data_file: Path, tmp_path: Path) -> None:
    directory = tmp_path / "comparison"
    given = arguments(directory, data_file, "runs=auto", "group=2", "stages=2", "level=0.5")
    assert main(given) == 0
    matrix = Matrix.read(directory)
    # Of two runs against two a third of the differences is as large as the largest: at a level of a half, of which a
    # half may be spent at the first look, it takes both looks unless it is never sure.
    assert [cell.name.rpartition("/")[2] for cell in matrix.of("hopper", "small")] == ["seeds-0-1", "seeds-2-3"]
    assert len(matrix.final_returns("hopper", "wide")) == 4


BAD: list[tuple[list[str], str]] = [
    (["learners=nobody"], "unknown learner 'nobody'"),
    (["tasks=nowhere"], "nowhere"),
    (["runs=0"], "runs=0: a whole number"),
    (["level=1.5"], "level=1.5: a probability"),
    ([f"learners=[{SMALL},{SMALL}]"], "twice"),
    (["learners=[bc,,hype]"], "names with commas"),
    (["learners=bc+loop.depth=3"], "loop.depth"),
    (["settings=a=1"], "for launcher=slurm and launcher=ray"),
    (["data=/nowhere.hdf5"], "nowhere.hdf5"),
    (["resume=somewhere"], "compare gives this to each training itself"),
    (["launcher=ray", "settings=address=:"], "':' is no value for address"),
    (["launcher=ray", "settings=address=[a]"], "a text like auto"),
]


@pytest.mark.parametrize(("given", "said"), BAD, ids=lambda value: str(value)[:30])
def test_bad_input_is_told_before_anything_is_trained(
    given: list[str], said: str, data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "comparison"
    assert main(arguments(directory, data_file, *given)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not directory.exists()


def test_a_refused_comparison_leaves_folders_as_they_were(
    data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note").write_text("a note")
    monkeypatch.chdir(tmp_path)
    assert main(arguments(tmp_path / "mine", data_file, "learners=nobody")) == 2
    assert main(["import", "mine", f"directory={tmp_path / 'mine'}"]) == 2
    by_hash = [a for a in arguments(tmp_path, data_file, "learners=nobody") if not a.startswith("directory=")]
    assert main(by_hash) == 2
    assert main(arguments(tmp_path / "one" / "two", data_file, "learners=nobody")) == 2
    assert "unknown learner" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "mine", tmp_path / "mine" / "note"]


@pytest.mark.parametrize("where", ["note", "note/below", "/proc/nothing"])
def test_a_directory_that_cannot_be_one_is_refused(
    where: str, data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("note").write_text("a note")
    for given in (arguments(Path(where), data_file), ["import", "run", f"directory={where}"]):
        assert main(given) == 2
        said = capsys.readouterr().err
        assert len(said.strip().splitlines()) == 1
        assert "name a folder" in said or "name one that can be written to" in said
    assert [path.name for path in tmp_path.rglob("*")] == ["note"]


def test_other_settings_in_the_same_directory_are_refused(
    whole: Path, data_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(whole, data_file, "evaluation.episodes=3")) == 2
    said = "small on hopper was planned with other settings (evaluation.episodes=2, evaluation.episodes=3)"
    assert said in capsys.readouterr().err
    assert main(["status", "nowhere"]) == 2
    assert "nowhere is not a comparison" in capsys.readouterr().err


def test_finished_trainings_are_imported_if_their_settings_hold(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [tmp_path / "runs" / str(index) for index in range(2)]
    for name, run in zip(outcome(whole), runs, strict=True):
        shutil.copytree(whole / "cells" / name, run)
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
    runs = [tmp_path / "runs" / str(index) for index in range(2)]
    for name, run in zip(outcome(whole), runs, strict=True):
        shutil.copytree(whole / "cells" / name, run)
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
    runs = [tmp_path / "runs" / str(index) for index in range(2)]
    for name, run in zip(outcome(whole), runs, strict=True):
        shutil.copytree(whole / "cells" / name, run)
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
    runs = [tmp_path / "runs" / str(index) for index in range(2)]
    for name, run in zip(outcome(whole), runs, strict=True):
        shutil.copytree(whole / "cells" / name, run)
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


def start(given: list[str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "understudy.scripts.cli", "compare", *given]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "it never came to that"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_signal_stops_all_cells_and_the_same_command_goes_on(whole: Path, data_file: Path, tmp_path: Path) -> None:
    directory = tmp_path / "comparison"
    given = arguments(directory, data_file, "processes=2")
    process = start(given, tmp_path / "log")
    wait_for(lambda: list(directory.glob("cells/*/*/*/checkpoints/*/manifest.json")))
    process.send_signal(signal.SIGINT)
    code = process.wait(60)
    said = (tmp_path / "log").read_text()
    assert code in (0, 130), said  # it may have been as good as finished
    assert not any(is_held(path) for path in directory.glob("cells/*/*/*.lock"))
    assert main(given) == 0
    assert outcome(directory) == outcome(whole)


def killed_and_restarted(given: list[str], directory: Path, tmp_path: Path, seed: int, *, times: int) -> None:
    """Kill the comparison, and by chance cells of it, at random moments; then let it end."""
    chance = random.Random(seed)
    for _ in range(times):
        process = start(given, tmp_path / "log")
        wait_for(lambda: list(directory.glob("cells/*/*/*.lock")))
        time.sleep(chance.uniform(0, 4))
        process.kill()
        process.wait()
        for held in directory.glob("cells/*/*/*.lock"):
            if is_held(held) and chance.random() < 0.5:
                os.kill(int(held.read_text()), signal.SIGKILL)
    assert main(given) == 0, (tmp_path / "log").read_text()


def test_a_killed_comparison_loses_and_repeats_nothing(whole: Path, data_file: Path, tmp_path: Path) -> None:
    directory = tmp_path / "comparison"
    killed_and_restarted(arguments(directory, data_file), directory, tmp_path, seed=0, times=1)
    assert outcome(directory) == outcome(whole)
    for result in directory.glob("cells/*/*/*/result.json"):
        rows = list(csv.DictReader((result.parent / "metrics.csv").read_text().splitlines()))
        assert len({(row["step"], row["run"]) for row in rows}) == len(rows) > 0, "none twice"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_twelve_cells_killed_at_random_are_as_if_unbroken(seed: int, data_file: Path, tmp_path: Path) -> None:
    small = "bc+steps=600+loop.hidden=[16,16]+loop.batch_size=16"
    cloning = [f"rate{k}:{small}+loop.learning_rate={k}e-4" for k in range(1, 6)]
    acting = (
        "sqil+steps=300+agent.hidden=[16,16]+loop.random_steps=60+loop.update_every=20+loop.select_every=50"
        "+loop.batch_size=16"
    )
    learners = [*cloning, *(f"acting{k}:{acting}+agent.learning_rate={k}e-4" for k in range(1, 8))]
    assert len(learners) == 12
    given = arguments(tmp_path, data_file, f"learners=[{','.join(learners)}]")
    given = [option for option in given if not option.startswith("directory=")]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert main([*given, f"directory={unbroken}"]) == 0
    killed_and_restarted([*given, f"directory={broken}"], broken, tmp_path, seed, times=3)
    assert outcome(broken) == outcome(unbroken)
    resumed = [path for path in broken.glob("cells/*/*/*/run.json") if "resumed" in read_json(path)]
    print(f"attempts of the twelve cells: {attempts(broken)}; {len(resumed)} went on from a checkpoint")


def test_lists_of_learners_are_split_at_their_own_commas() -> None:
    assert items("[hype,mm+agent.hidden=[16,16],bc]") == ["hype", "mm+agent.hidden=[16,16]", "bc"]
    (learner,) = labels(["half:mm+mixture=hybrid+agent.learning_rate=1e+5"])
    assert learner.label == "half"
    assert learner.options == ("learner=mm", "mixture=hybrid", "agent.learning_rate=1e+5")


def ends_with(job: object, seconds: float = 60) -> int | None:
    begun = time.monotonic()
    while (code := job.code()) is None:  # pyright: ignore[reportAttributeAccessIssue]
        assert time.monotonic() - begun < seconds
        time.sleep(0.1)
    return code


PRINTS = [sys.executable, "-c", "print('hello'); raise SystemExit(3)"]


def test_submitit_starts_cells(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    launcher = SlurmLauncher(tmp_path / "jobs", 1, 2, {"timeout_min": 5}, cluster="local")
    assert ends_with(launcher.start(PRINTS, tmp_path / "log")) == 3
    assert (tmp_path / "log").read_text() == "hello\n"


@pytest.mark.slow
def test_a_ray_cluster_starts_cells(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    launcher = RayLauncher(1, 2, None)
    try:
        assert ends_with(launcher.start(PRINTS, tmp_path / "log")) == 3
        assert (tmp_path / "log").read_text() == "hello\n"
    finally:
        launcher.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "options"), [("submitit", ["launcher=slurm", "settings=cluster=local"]), ("ray", ["launcher=ray"])]
)
def test_a_comparison_comes_to_the_same_wherever_it_is_trained(
    package: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray lets everything else of the machine go first
    for task in ("hopper", "walker2d"):
        write_d4rl(tmp_path / f"{task}.hdf5", make_demonstrations(task_name=task))
    acting = "sqil+steps=300+agent.hidden=[16,16]+loop.random_steps=60+loop.update_every=20+loop.select_every=50"
    data = tmp_path / "{task}.hdf5"
    here, there = tmp_path / "here", tmp_path / "there"
    for directory, more in ((here, []), (there, options)):
        asked = ["tasks=[hopper,walker2d]", f"learners=[{SMALL},{acting}+loop.batch_size=16]", *more]
        assert main(arguments(directory, data, *asked, "processes=2")) == 0
    assert len(outcome(here)) == 4
    assert outcome(there) == outcome(here)
    tables = {path.name: path.read_text() for path in (here / "report" / "tables").glob("*.csv")}
    others = {path.name: path.read_text() for path in (there / "report" / "tables").glob("*.csv")}
    timed = ("steps.csv", "cells.csv")  # with hours, and hashes of files that have them
    assert {n: t for n, t in others.items() if n not in timed} == {n: t for n, t in tables.items() if n not in timed}
    one, two = ([row[:-2] for row in csv.reader(each["steps.csv"].splitlines())] for each in (tables, others))
    assert one == two
    if package == "submitit":
        assert len(list((there / "jobs").glob("*_submitted.pkl"))) == 4, "each cell was a job"


def test_settings_of_launchers_are_checked(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    pytest.importorskip("ray")
    for kind, settings, said in (("slurm", {"cluster": "moon"}, "cluster=moon"), ("ray", {"cores": 3}, "cores")):
        with pytest.raises(InputError, match=said):
            make_launcher(kind, tmp_path, threads=1, processes=None, settings=settings)


def test_a_launcher_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for kind in ("slurm", "ray"):
        with pytest.raises(InputError, match=r"understudy\[sweep\]"):
            make_launcher(kind, tmp_path, threads=1, processes=None, settings={})
