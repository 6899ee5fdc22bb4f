"""Choices on several axes at once: what every training must keep to holds for them as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import CHUNKS, HYBRID, ON_POLICY, SMALL, SQIL, Make, run_to, same_state
from test_training import actor_parameters

from understudy.imitation.checkpoint import load_checkpoint, save_checkpoint
from understudy.robots import PURPOSES, TaskBatch
from understudy.scripts.settings import AXES, LEARNERS, compose
from understudy.scripts.train import main

ROLL_IN = ("resets.source=both", "resets.updates=20")
together = pytest.mark.parametrize(
    "options",
    [
        ("hype", "agent=td3"),
        ("hype", "agent=td3_bc", "resets=expert"),
        ("mm", "resets=offline", "reward.members=3", "reward.combine=min"),
        ("dac", "resets=roll_in", *ROLL_IN),
        ("guitar", "resets.roll_in=0.3", *ROLL_IN, "reward=airl"),
        ("smiling", "mixture=hybrid", "resets=expert"),
        ("smiling", "resets=offline"),
        ("smiling", "mixture=hybrid", "resets=offline"),
        ("smiling", "mixture=hybrid", "resets=roll_in", *ROLL_IN),
        ("smiling", "resets=mixture", "resets.roll_in=0.3", *ROLL_IN),
        ("gail", "reward=airl"),
        ("gail", "reward=wasserstein", "resets=expert"),
        ("diffusion_policy", "loop.predicts=chunk", "loop.samples=3", "loop.distil=100", "loop.distil_from=9"),
        ("diffusion_policy", "loop.predicts=chunk", "loop.samples=3", "loop.distil=150", "loop.distil_from=9"),
        ("mm_reference", "reward=gan", "reward.absorbing=true", "resets=expert", "resets.share=1"),
    ],
    ids="+".join,
)


@together
def test_the_accounts_add_up_a_run_is_its_own_and_goes_on_as_if_it_had_not_stopped(
    make: Make, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, step = dict.fromkeys(PURPOSES, 0), TaskBatch.step

    def counted(self: TaskBatch, actions: np.ndarray, purpose: Any, where: np.ndarray | None = None) -> Any:
        calls[purpose] += len(self) if where is None else int(where.sum())
        return step(self, actions, purpose, where)

    with monkeypatch.context() as patch:
        patch.setattr(TaskBatch, "step", counted)
        whole = run_to(make(*options), 200)
    assert {purpose: int(counts.sum()) for purpose, counts in whole.step_counts().items()} == calls
    half = run_to(make(*options), 100)
    save_checkpoint(tmp_path, half.steps, half.state())
    resumed = make(*options)
    resumed.set_state(load_checkpoint(tmp_path))
    assert same_state(run_to(resumed, 200).state(), whole.state())
    single = run_to(make(*options, "runs=1", "seed=1"), 200)
    torch.testing.assert_close(actor_parameters(whole, 1), actor_parameters(single, 0), rtol=1e-3, atol=1e-4)


def test_rounds_take_the_share_of_early_ends_from_their_roll_outs(make: Make) -> None:
    """No episode of the training starts where the task does here, so none of them is what the reward compares."""
    training: Any = run_to(make("filter_reference", "resets.share=1"), 200)
    assert training._ended.lived.tolist() == training.step_counts()["reward"].tolist()
    assert all(training._ended.lost > 0)


@pytest.mark.parametrize("path", sorted(LEARNERS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_says_what_it_solves_and_where_it_is_from(path: Path) -> None:
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("# Equation: ") for line in comments)
    source = next(line for line in comments if line.startswith("# Source: "))
    assert "arXiv" in source or "reference/" in source


@pytest.mark.parametrize("path", sorted(LEARNERS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configuration_of_a_preset_has_all_that_the_preset_sets(path: Path) -> None:
    config, _ = compose([f"learner={path.stem}"])
    for group, values in yaml.safe_load(path.read_text()).items():
        for name, value in values.items() if isinstance(values, dict) else ():
            assert config[group][name] == value


def test_the_configuration_has_no_settings_of_parts_that_are_not_chosen(caplog: pytest.LogCaptureFixture) -> None:
    config, _ = compose(["learner=smiling_reference", "reward=gan", "reward.scale=0.5"])
    plain, _ = compose(["learner=dac", "reward.form=softplus"])
    assert config.reward == {**plain.reward, "scale": 0.5}
    assert config.agent.learning_rate == 1e-4  # the agent's own stay, whichever reward it has
    config, _ = compose(["learner=hype_reference", "mixture=learner"])
    assert config.mixture == {"kind": "learner"}
    assert not caplog.messages
    config, _ = compose(["learner=bc_reg_reference", "agent=td3_bc"])
    assert "cloning_rows" not in config.agent
    assert "td3_bc has no cloning_rows" in caplog.text


def test_the_configuration_that_is_printed_is_the_one_that_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["learner=smiling_reference", "reward=gan"]
    assert main(["--cfg", "job", *arguments]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["reward"] == dict(compose(arguments)[0].reward)
    assert "levels" not in printed["reward"]


def test_on_policy_rounds_are_whole_and_it_says_so(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [option for option in (*SMALL, *ON_POLICY) if not option.startswith(("steps=", "quiet="))]
    arguments = ["learner=gail", *small, f"data={data_file}", f"directory={tmp_path / 'run'}", "steps=60"]
    assert main(arguments) == 0
    assert "steps: 100 instead of 60, whole rounds of 50" in capsys.readouterr().out


def test_a_sweep_trains_what_the_command_without_one_trains(
    data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [o for o in (*SMALL, *HYBRID) if not o.startswith(("reward.", "loop.select", "steps="))]
    arguments = ["learner=smiling_reference", "reward=gan", "reward.hidden=[16,16]", *small, f"data={data_file}"]
    assert main([*arguments, "directory=plain", "steps=100"]) == 0
    command = [sys.executable, "-m", "understudy.scripts.train", "--multirun", *arguments, "steps=100,200"]
    subprocess.run(command, check=True, capture_output=True)
    swept = [yaml.safe_load(path.read_text()) for path in (tmp_path / "runs").rglob("config.yaml")]
    plain = yaml.safe_load((tmp_path / "plain" / "config.yaml").read_text())
    assert sorted(config["steps"] for config in swept) == [100, 200]
    for config in swept:
        assert {axis: config[axis] for axis in AXES} == {axis: plain[axis] for axis in AXES}


@pytest.mark.parametrize(
    ("learner", "small", "axis", "name", "meant"),
    [("iq_learn", SQIL, "agent", "absorbing", False), ("diffusion_policy", CHUNKS, "loop", "predicts", "noise")],
)
def test_a_run_of_before_a_setting_goes_on_as_it_began(
    data_file: Path, tmp_path: Path, learner: str, small: tuple[str, ...], axis: str, name: str, meant: object
) -> None:
    run = tmp_path / "run"
    options = [*SMALL, *small, f"{axis}.{name}={str(meant).lower()}", f"data={data_file}", f"directory={run}"]
    assert main([f"learner={learner}", *options]) == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config[axis][name]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert main([f"resume={run}", "steps=220"]) == 0
    assert yaml.safe_load((run / "config.yaml").read_text())[axis][name] == meant
