"""`understudy train` as people use it: results, resuming, signals, bad input."""

from __future__ import annotations

import csv
import datetime
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CLONING, HYBRID, INTERACTIVE, SMALL, last_of_each, same_state
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from understudy.datasets import Demonstrations
from understudy.imitation import Policy
from understudy.imitation.checkpoint import load_checkpoint
from understudy.imitation.run_log import RunLog
from understudy.robots import TASKS, InputError
from understudy.scripts import settings
from understudy.scripts.train import learn, main


def options(data: Path, learner: str, directory: Path, *more: str) -> list[str]:
    sizes = {"hype": HYBRID, "bc": CLONING, "sac": INTERACTIVE}[learner]
    given = last_of_each(f"learner={learner}", *SMALL, *sizes, f"directory={directory}", *more)
    return given if learner == "sac" else [*given, f"data={data}"]


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.mark.parametrize("learner", ["hype", "bc", "sac"])
def test_a_training_leaves_what_it_promises(
    learner: str, data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(data_file, learner, tmp_path / "run")) == 0
    captured = capsys.readouterr().out
    assert len(captured.strip().splitlines()) == 1, "quiet=true prints only the last line"
    result = json.loads(captured)
    made = set() if learner == "bc" else {"updates"}
    assert set(result) == {"score", "return", "steps", "seconds", "run", "policy"} | made
    assert set(result["score"]) == {"iqm", "low", "high", "runs"} == set(result["return"])
    assert len(result["score"]["runs"]) == 2
    assert set(result["steps"]) == {"policy", "reward", "reset", "selection", "evaluation"}
    assert result["steps"]["policy"] == (0 if learner == "bc" else 200)
    run = tmp_path / "run"
    wanted = ("config.yaml", "run.json", "metrics.csv", "evaluations.csv", "learning_curve.png", "result.json")
    assert all((run / name).stat().st_size > 0 for name in wanted)
    assert list((run / "events").iterdir())
    assert (run / "checkpoints" / "last").resolve().name == "000000200"
    assert Policy.from_pretrained(run / "policy").task.name == "hopper"
    assert [p.name for p in sorted((run / "policies").iterdir())] == ["run-0", "run-1"]
    rows = list(csv.DictReader((run / "evaluations.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 2, "two evaluations of two runs and two episodes"
    about = json.loads((run / "run.json").read_text())
    assert about["versions"]["torch"]
    assert about["hardware"]["cores"]
    if learner == "hype":
        assert any("absorbing" in note for note in about["notes"])


def test_the_final_score_is_the_mean_of_the_last_three_evaluations(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(data_file, "bc", tmp_path / "run", "steps=500")) == 0
    result = last_line(capsys)
    rows = list(csv.DictReader((tmp_path / "run" / "evaluations.csv").read_text().splitlines()))
    last = [float(r["return"]) for r in rows if r["run"] == "0" and int(r["step"]) in (300, 400, 500)]
    assert result["return"]["runs"][0] == pytest.approx(sum(last) / len(last), rel=1e-4)  # pyright: ignore


def assert_same_run(one: Path, two: Path) -> None:
    """Equal to the bit in all that goes on and in all that was written down, but for the time it took."""
    states = [load_checkpoint(run) for run in (one, two)]
    for state in states:
        state.values["progress"].pop("seconds")
    assert same_state(*states)
    for name in ("evaluations.csv", "metrics.csv"):
        assert (one / name).read_text() == (two / name).read_text()


@pytest.mark.parametrize("learner", ["hype", "bc", "sac"])
def test_a_resumed_command_is_bit_equal_to_an_unbroken_one(
    learner: str, data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(data_file, learner, tmp_path / "whole")) == 0
    whole = last_line(capsys)
    assert main(options(data_file, learner, tmp_path / "half", "steps=100")) == 0
    last_line(capsys)
    assert main([f"resume={tmp_path / 'half'}", "steps=200", "quiet=true"]) == 0
    resumed = last_line(capsys)
    assert resumed["return"] == whole["return"]
    assert resumed["steps"] == whole["steps"]
    assert_same_run(tmp_path / "whole", tmp_path / "half")


@pytest.mark.parametrize("learner", ["hype", "bc", "sac"])
def test_a_killed_training_goes_on_to_the_bit(learner: str, data_file: Path, tmp_path: Path) -> None:
    """Train 2N, against: train N and more, kill without warning, resume from the last checkpoint to 2N."""
    every = 2_000 if learner == "bc" else 200
    sizes = ("steps=1000000", f"checkpoint.every={every}", f"evaluation.every={every}", "evaluation.episodes=1")
    command = [sys.executable, "-m", "understudy.scripts.train"]
    process = subprocess.Popen(
        [*command, *options(data_file, learner, tmp_path / "killed", *sizes)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (tmp_path / "killed" / "checkpoints" / "last").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    saved = int((tmp_path / "killed" / "checkpoints" / "last").resolve().name)
    assert saved % every == 0
    twice = f"steps={2 * saved}"
    assert main([f"resume={tmp_path / 'killed'}", twice, "quiet=true"]) == 0
    assert main(options(data_file, learner, tmp_path / "whole", *sizes[1:], twice)) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_stop_before_the_first_evaluation_is_one_sentence_too(data_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = options(data_file, "bc", run, "steps=1000000", "evaluation.every=900000")
    command = [sys.executable, "-m", "understudy.scripts.train", *given]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True)
    while not (run / "checkpoints" / "last").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.count("\n") == 1
    assert "resume=" in errors
    assert not (run / "policy").exists()
    load_checkpoint(run)


def test_tensorboard_reads_the_scalars_and_drops_what_a_resumed_run_makes_again(tmp_path: Path) -> None:
    for resume_at, values in ((None, (1.0, 2.0, 3.0)), (1, (5.0, 6.0))):
        log = RunLog(tmp_path, resume_at=resume_at)
        for step, value in enumerate(values, start=(resume_at or 0) + 1):
            log.metrics(step, {"loss": [value, -value]})
        log.close()
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss/run-1")] == [(1, -1), (2, -5), (3, -6)]


def test_a_full_disk_is_one_sentence_wherever_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = RunLog(tmp_path)
    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(InputError, match=r"cannot write .*events.*: No space left on device"):
        log.metrics(1, {"loss": [1.0]})
    log.close()


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_saves_a_checkpoint_first(name: str, code: int, data_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "understudy.scripts.train"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, *options(data_file, "hype", run, "steps=1000000")],
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    while not (run / "checkpoints" / "last").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.Signals[name])
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.count("\n") == 1
    assert "resume=" in errors
    assert Policy.from_pretrained(run / "policy").task.name == "hopper", "what it has learned so far can be used"
    stopped = load_checkpoint(run).values["training"]["clock"]["steps"]
    assert stopped % 20 == 0
    assert main([f"resume={run}", f"steps={stopped + 40}", "quiet=true"]) == 0
    assert load_checkpoint(run).values["training"]["clock"]["steps"] == stopped + 40


def refuse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which arguments are refused."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("understudy: ")
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["learner=hyp"], ["unknown learner 'hyp'", "hype"]),
        (["task=hoper"], ["unknown task 'hoper'", "hopper"]),
        (["stepz=5"], ["unknown option 'stepz'", "steps"]),
        (["agent.learning_rat=5"], ["unknown option", "learning_rate"]),
        (["reward=gam"], ["unknown reward 'gam'", "gan"]),
        (["reward.form=softmax"], ["reward.form=softmax", "softplus"]),
        (["agent.hidden=5"], ["agent.hidden=5", "list"]),
        (["agent.discount=much"], ["agent.discount=much", "a number"]),
        (["steps=0"], ["steps=0", "at least 1"]),
        (["steps=many"], ["steps=many", "whole number"]),
        (["runs=0"], ["runs=0", "at least 1"]),
        (["seed=-1"], ["seed=-1", "at least 0"]),
        (["device=gpu"], ["device=gpu", "cuda"]),
        (["precision=float8"], ["precision=float8", "bfloat16"]),
        (["mixture.expert_share=1.5"], ["mixture.expert_share=1.5", "between 0 and 1"]),
        (["mixture.expert_share=[[5,0.1],[0,0.2]]"], ["ascending"]),
        (["learner=bc", "reward=gan"], ["reward=gan", "regresses"]),
        (["reward=none"], ["reward=none"]),
        (["learner=mm", "loop=rounds", "reward=task"], ["loop=rounds", "reward=wasserstein"]),
        (["nonsense"], ["'nonsense' is not an option"]),
        (["data=/nowhere.hdf5"], ["/nowhere.hdf5"]),
        (["data=null"], ["needs demonstrations", "data="]),
        (["data.episodes=0"], ["data.episodes=0"]),
        (["data.episodes=99"], ["99", "3"]),
        (["resume=/nowhere"], ["/nowhere"]),
        (["task=halfcheetah"], ["Hopper-v5", "HalfCheetah-v5"]),
        (["evaluation.every=0"], ["evaluation.every=0"]),
        (["steps=inf"], ["steps=inf"]),
        (["loop.update_every=0"], ["loop.update_every=0", "above 0"]),
        (["loop.batch_size=-3"], ["loop.batch_size=-3"]),
        (["agent.learning_rate=-1"], ["agent.learning_rate=-1"]),
        (["agent.learning_rate=nan"], ["finite"]),
        (["agent.hidden=[0]"], ["agent.hidden"]),
        (["agent.discount=1.5"], ["at most 1"]),
        (["agent.optimiser=sgd"], ["agent.optimiser=sgd", "adam"]),
        (["reward.optimiser=sgd"], ["reward.optimiser=sgd", "oadam"]),
        (["reward=task"], ["mixture=learner"]),
        (["learner=sac", "data=null", "agent.cloning_weight=1"], ["agent.cloning_weight", "data="]),
        (["learner=bc", "agent.hidden=[5]"], ["unknown option 'agent.hidden'"]),
        (["learner=bc,hype"], ["--multirun"]),
    ],
)
def test_bad_options_are_one_sentence_and_leave_nothing(
    arguments: list[str],
    words: list[str],
    data_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    base = [] if any(a.startswith("data=") for a in arguments) else [f"data={data_file}"]
    sentence = refuse([*base, "threads=1", *arguments], capsys)
    assert all(word in sentence for word in words), sentence
    assert not list(tmp_path.iterdir())


def test_a_run_directory_is_never_overwritten(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("precious")
    assert "not empty" in refuse(options(data_file, "bc", tmp_path / "run"), capsys)
    assert (tmp_path / "run" / "mine.txt").read_text() == "precious"


def test_a_resumed_run_does_not_go_back(data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(data_file, "hype", tmp_path / "run")) == 0
    capsys.readouterr()
    assert "already" in refuse([f"resume={tmp_path / 'run'}", "steps=100", "quiet=true"], capsys)


def test_paths_may_have_any_characters(data_file: Path, tmp_path: Path) -> None:
    strange = tmp_path / "my demos, (1) a=b's.hdf5"
    strange.write_bytes(data_file.read_bytes())
    assert main(options(strange, "bc", tmp_path / "a run, [2]")) == 0
    assert main([f"resume={tmp_path / 'a run, [2]'}", "steps=300", "quiet=true"]) == 0


def test_a_list_of_files_is_printed_as_it_is(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options(data_file, "bc", tmp_path / "run")
    loud = [a for a in given if not a.startswith(("quiet=", "data="))]
    assert main([*loud, f"data=[{data_file},{data_file}]"]) == 0
    assert f"[{data_file}, {data_file}]" in capsys.readouterr().out


def test_two_runs_of_the_same_second_do_not_meet(
    data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stopped(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime(2026, 1, 1, tzinfo=tz)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("understudy.scripts.train.datetime.datetime", Stopped)
    arguments = [a for a in options(data_file, "bc", tmp_path) if not a.startswith("directory=")]
    runs: set[object] = set()
    for _ in range(2):
        assert main(arguments) == 0
        runs.add(last_line(capsys)["run"])
    assert len(runs) == 2


def test_learn_from_python(demonstrations: Demonstrations, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    small = {"agent.hidden": [16, 16], "loop.batch_size": 16, "loop.random_steps": 20, "evaluation.episodes": 1}
    policy = learn("hype", demonstrations.episodes(2), steps=100, runs=1, threads=1, directory=directory, **small)
    action, _ = policy.predict(demonstrations.observations[0], deterministic=True)
    assert action.shape == (3,)
    assert main([f"resume={directory}", "steps=200"]) == 2, "its demonstrations are not in the run"


def test_an_unwritable_directory_is_refused(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in refuse(options(data_file, "bc", tmp_path / "file" / "run"), capsys)


def test_a_resumed_run_keeps_its_settings(data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(data_file, "bc", tmp_path / "run")) == 0
    capsys.readouterr()
    assert "keeps its settings" in refuse([f"resume={tmp_path / 'run'}", "seed=5"], capsys)
    steps = int(OmegaConf.load(tmp_path / "run" / "config.yaml").steps) + 100  # pyright: ignore
    assert main([f"resume={tmp_path / 'run'}", f"steps={steps}", "quiet=true"]) == 0
    capsys.readouterr()
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").steps == steps  # pyright: ignore
    (again,) = json.loads((tmp_path / "run" / "run.json").read_text())["resumed"]
    assert again["step"] == steps - 100
    assert again["command"][0] == "understudy"
    path = tmp_path / "run" / "checkpoints" / "last" / "training.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert "damaged" in refuse([f"resume={tmp_path / 'run'}", "steps=300"], capsys)


def test_multirun_makes_a_directory_for_each(data_file: Path, tmp_path: Path) -> None:
    # A flag in the midst of the options, where hydra's own parser would not have it.
    command = [sys.executable, "-m", "understudy.scripts.train", "learner=bc", "--multirun", "seed=0,5"]
    more = [o for o in (*SMALL, *CLONING) if not o.startswith("agent")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *more, f"data={data_file}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({line["run"] for line in lines}) == 2
    assert all((tmp_path / line["policy"] / "model.safetensors").exists() for line in lines)
    bad = subprocess.run(
        [*command, "task=hopper,hoper", f"data={data_file}"], cwd=tmp_path, capture_output=True, text=True,
        env=environment, check=False,
    )  # fmt: skip
    assert bad.returncode == 2
    assert "unknown task 'hoper'" in bad.stderr


def test_help_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("hype", "wasserstein", "halfcheetah", "resume=", "quiet=true"))


def test_help_lists_every_part_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said: dict[str, dict[str, str]] = {}
    axis = ""
    for line in capsys.readouterr().out.splitlines():
        if line[:1].isalpha():
            axis = line.split("=")[0]
        elif len(words := line.split(maxsplit=1)) == 2:
            said.setdefault(axis, {})[words[0]] = words[1]
    presets = {file.stem for file in (Path(settings.__file__).parent / "conf" / "learner").glob("*.yaml")}
    assert presets <= set(said["learner"])
    for axis in ("reward", "resets", "agent"):
        assert set(settings.AXES[axis]) - {"none"} <= set(said[axis])
    assert set(TASKS) <= set(said["task"])
