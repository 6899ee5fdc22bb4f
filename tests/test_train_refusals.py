"""`understudy train` and what cannot be meant: one sentence, exit code 2, nothing left behind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HYBRID, SMALL
from omegaconf import OmegaConf
from policies import assert_sentence

from understudy.datasets import Demonstrations
from understudy.robots import InputError
from understudy.scripts.build import build
from understudy.scripts.settings import compose
from understudy.scripts.train import learn, main


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which the command refuses."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert_sentence(captured.err.strip())
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--multirun", "stepz=1,2"], ["unknown option 'stepz'", "steps"]),
        (["--cfg", "job", "agent.foo=1"], ["unknown option 'agent.foo'"]),
        (["--multirun", "task=hopper,hoper"], ["unknown task 'hoper'", "hopper"]),
        (["--nonsense"], ["no --nonsense", "--multirun"]),
        (["evaluation=5"], ["evaluation=5", "evaluation.<name>="]),
        (["reward=:X"], ["reward=:X", "ValueError"]),
        (["reward=broken:X"], ["reward=broken:X", "SyntaxError"]),
        (["hydra=5"], ["'hydra=5' is not an option"]),
        (["=5"], ["'=5' is not an option"]),
        (["+foo=1"], ["'+foo=1' is not an option"]),
        (["quiet=maybe"], ["quiet=maybe"]),
        (["threads=0"], ["threads=0", "at least 1"]),
        (["threads=999999999999"], ["threads=999999999999", "at most 1024"]),
        (["disturbances.observation_delay=1e308"], ["observation_delay", "seconds", "at most 60"]),
        (["data.weights=[true]"], ["data.weights", "a whole number for each source"]),
        (["learner=guitar", "resets.expert=0", "resets.offline=0", "resets.check=[positions]"], ["set no state"]),
        (["agent.kind=td3"], ["choose by agent="]),
        (["task=hopper", "task=walker2d"], ["task= is given twice"]),
        (["directory="], ["directory= is empty"]),
        (["seed=99999999999999999999"], ["seed=", "at most"]),
        (["normalise=often"], ["normalise=often"]),
        (["learner=hype_reference", "reward.update_every=3"], ["reward.update_every=3: loop=rounds"]),
        (["learner=mm_reference", "reward.weight_decay=0.1"], ["oadam has no weight decay"]),
        (["loop.select_by=none", "loop.select_every=9"], ["chooses nothing"]),
        (["learner=iq_learn", "agent.target_entropy=-3"], ["agent.target_entropy=-3: agent.tune_entropy=false"]),
        (["learner=sac", "data.episodes=4"], ["data.episodes=4: there are no demonstrations"]),
        (["offline.every=4"], ["offline.every=4: there are no offline data"]),
        (["steps=${nope}"], ["refers to something that is not there", "nope"]),
        (["--multirun", "learner=bc", "nonsense"], ["'nonsense' is not an option"]),
        (["--multirun", "learner=bc,sac", "loop.loss=likelihood"], ["'loop.loss'"]),
        (["--multirun", "learner=bc", "loop.learning_rate=1e-3,-1"], ["loop.learning_rate=-1"]),
        (["--multirun", "learner=bc", "data=hopper-expert,nowhere.hdf5"], ["nowhere.hdf5"]),
        (["--multirun", "learner=bc", "seed=0,1", "directory=one"], ["directory=one", "leave it out"]),
        (["--cfg", "nothing"], ["followed by job, hydra or all"]),
        (["--resolve"], ["--resolve goes with --cfg job"]),
        (["--multirun", "resume=run", "steps=1,2"], ["resume= goes on with one run"]),
        (["learner=mm", "agent=ppo", "loop=on_policy", "loop.batch_size=7"], ["loop=on_policy has no 'batch_size'"]),
        (["learner=mm", "agent=ppo", "loop=on_policy", "agent.averaging=5"], ["agent=ppo has no 'averaging'"]),
        (["learner=bc", "loop=offline", "loop.view=[positions]"], ["loop.view"]),
        (["learner=bc", "agent.policy_view=[positions]"], ["this learner has no agent", "loop."]),
        (["learner=airl", "agent.discount=0.95"], ["shaping_discount=0.99", "give reward.shaping_discount=0.95"]),
        (["learner=iq_learn", "mixture=hybrid"], ["agent=iq_learn has the expert's rows", "mixture=learner"]),
        (["learner=iq_learn", "resets=expert"], ["an implied reward", "choose resets=initial"]),
        (["learner=iq_learn", "resets=expert", "resets.share=1"], ["an implied reward", "choose resets=initial"]),
        (["learner=iq_learn", "world=model"], ["reward=implicit", "choose world=simulator"]),
        (["learner=guitar", "resets.updates=9"], ["resets.roll_in=0 clones nothing"]),
        (["learner=mm", "agent=td3", "agent.value_scale=2"], ["agent.cloning_weight=0"]),
        (["learner=iq_learn_offline", "agent.regularised=both"], ["the expert's rows alone"]),
        (["learner=iq_learn_offline", "agent.absorbing=true"], ["the expert's rows alone"]),
    ],
)
def test_options_that_cannot_be_meant(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("class X(:\n")
    said = refused(arguments, capsys)
    assert all(word in said for word in words), said
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["broken.py"]


@pytest.fixture
def run(data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A small run that is over."""
    directory = tmp_path / "run"
    assert main(["learner=hype", *SMALL, *HYBRID, f"data={data_file}", f"directory={directory}"]) == 0
    capsys.readouterr()
    return directory


def changed(change: Callable[[Any], object]) -> Callable[[Path], None]:
    """A change of the stored configuration."""

    def apply(directory: Path) -> None:
        config: Any = OmegaConf.load(directory / "config.yaml")
        change(config)
        OmegaConf.save(config, directory / "config.yaml")

    return apply


def of_manifest(**values: Any) -> Callable[[Path], None]:
    """A change of the last checkpoint's manifest."""

    def apply(directory: Path) -> None:
        path = (directory / "checkpoints" / "last").resolve() / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return apply


def empty_checkpoints(directory: Path) -> None:
    (directory / "checkpoints").rename(directory / "elsewhere")
    (directory / "checkpoints").mkdir()


def metrics_are_a_folder(directory: Path) -> None:
    (directory / "metrics.csv").unlink()
    (directory / "metrics.csv").mkdir()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (changed(lambda c: c.update({"evaluation": 5})), ["config.yaml is damaged", "evaluation"]),
        (changed(lambda c: c.update({"runs": 3})), ["is not of what its config.yaml says"]),
        (changed(lambda c: c.pop("data")), ["config.yaml is damaged"]),
        (of_manifest(sha256=5), ["damaged"]),
        (of_manifest(version=1), ["checkpoint format version"]),
        (empty_checkpoints, ["is empty", "start it anew"]),
        (metrics_are_a_folder, ["metrics.csv"]),
    ],
)
def test_a_damaged_run_is_not_resumed(
    run: Path, damage: Callable[[Path], None], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run)
    said = refused([f"resume={run}", "steps=300", "quiet=true"], capsys)
    assert all(word in said for word in words), said


def test_settings_that_a_stored_configuration_lacks_are_todays_defaults(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(lambda c: [c.pop(name) for name in ("offline", "normalise", "expert")])(run)
    changed(lambda c: c.evaluation.pop("episodes"))(run)
    assert main([f"resume={run}", "steps=260", "quiet=true", "device=cpu", "evaluation.every=130"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"]["policy"] == 260


def test_a_row_cut_short_is_dropped_when_a_run_is_resumed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(whole + "200")
    assert main([f"resume={run}", "steps=200", "quiet=true"]) == 0
    assert (run / "metrics.csv").read_text() == whole


def test_a_run_is_resumed_from_anywhere(
    data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(data_file.parent)
    where = tmp_path / "run"
    assert main(["learner=hype", *SMALL, *HYBRID, f"data={data_file.name}", f"directory={where}"]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["resume=run", "steps=220"]) == 0


def test_equal_references_are_refused_before_anything_starts(
    demonstrations: Demonstrations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    same = dataclasses.replace(demonstrations, expert_return=demonstrations.random_return)
    with pytest.raises(InputError, match="random and the expert return are both 10"):
        learn("bc", same)
    assert not list(tmp_path.iterdir())


def test_what_returns_less_than_random_gives_no_scores(
    demonstrations: Demonstrations, caplog: pytest.LogCaptureFixture
) -> None:
    """Play, say: scores would run backwards."""
    assert demonstrations.random_return is not None
    worse = dataclasses.replace(demonstrations, expert_return=demonstrations.random_return - 1)
    config, _ = compose(["learner=bc", *SMALL, "data=given"])
    built = build(OmegaConf.to_container(config, resolve=True), worse)  # pyright: ignore
    assert built.references.expert is None
    assert built.references.score(np.array([5.0])) is None
    assert "returns less than a random policy (10): no scores" in caplog.text
    built.training.close()


def test_learn_says_what_it_was_given(
    demonstrations: Demonstrations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = dict(option.split("=", 1) for option in (*SMALL, *HYBRID))
    policy = learn("hype", demonstrations.episodes(2), **{**options, "agent.hidden": (16, 16), "quiet": True})
    assert policy.config.hidden == (16, 16)
    assert policy.config.training["data"]["episodes"] == 2
    with pytest.raises(InputError, match="resume"):
        learn("hype", demonstrations, resume="run")
