"""`understudy compare` as people use it: cells trained, broken, gone on with and told of."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from comparisons import SMALL, arguments, attempts, outcome

from understudy.imitation.comparison.locks import HeldError, is_held, lock
from understudy.imitation.comparison.matrix import Matrix, labels
from understudy.imitation.files import read_json
from understudy.scripts.compare import main
from understudy.scripts.planning import items


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
