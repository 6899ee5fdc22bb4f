"""`understudy deploy` as people use it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policies import make_policy

from understudy.datasets import load
from understudy.imitation import evaluate
from understudy.imitation.loading import bundled_policies, load_policy
from understudy.scripts.deploy import main as deploy
from understudy.scripts.evaluate import main as evaluate_command


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_bundled_policy_hops_and_lockstep_is_its_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(["hopper-hype", "lockstep=true", "quiet=true"]) == 0
    deployed = last(capsys)
    assert evaluate_command(["hopper-hype", "episodes=1", "quiet=true"]) == 0
    assert deployed["return"] == pytest.approx(last(capsys)["return"]["iqm"], abs=0.1)
    policy = load_policy("hopper-hype")
    assert deployed["return"] == evaluate(policy.controller([10_000_000]), policy.task, 1, 1).returns[0, 0]
    assert deployed["return"] > 3000
    assert deployed["robot"]["damped"]
    assert deployed["episodes"][0]["periods"] == 1000


def test_a_bundled_policy_is_small() -> None:
    assert sum(file.stat().st_size for file in bundled_policies()["hopper-hype"].iterdir()) < 1_000_000


def test_in_real_time_with_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_policy("halfcheetah").save_pretrained(tmp_path / "policy")
    (tmp_path / "hard.yaml").write_text("noise: {velocities: 0.05}\nactuators: {bfoot: 0.5}\nreordered: 0.1\n")
    asked = [str(tmp_path / "policy"), "seconds=1", "factor=2", "delay=0.05", "push=0.2", "rate=40", "action_rate=20"]
    asked += [f"log={tmp_path / 'log'}", f"disturbances={tmp_path / 'hard.yaml'}", "episodes=2", "seed=3"]
    assert deploy(asked) == 0
    shown = capsys.readouterr().out
    said = json.loads(shown.splitlines()[-1])
    assert "deadlines missed" in shown
    assert set(said["milliseconds"]) == {"period", "jitter", "policy", "age", "overhead", "processor"}
    assert all(set(row) == {"p50", "p99", "max"} for row in said["milliseconds"].values())
    assert said["milliseconds"]["age"]["p50"] > 25  # 50 ms of the robot's time are 25 of ours
    assert [episode["seed"] for episode in said["episodes"]] == [3, 4]
    assert said["disturbances"]["observation_delay"] == 0.05
    assert len(load(tmp_path / "log").starts) == 2
    assert np.isfinite(said["return"])


def test_an_exported_policy_is_deployed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from understudy.imitation.export import export_policy

    policy = make_policy(seed=1)
    policy.save_pretrained(tmp_path / "policy")
    export_policy(policy, "onnx", tmp_path / "onnx", {})
    returns: list[float] = []
    for name in ("policy", "onnx"):
        assert deploy([str(tmp_path / name), "lockstep=true", "quiet=true"]) == 0
        returns.append(last(capsys)["return"])
    assert returns[0] == pytest.approx(returns[1], rel=1e-3)


def test_a_video_without_a_display(tmp_path: Path) -> None:
    make_policy("reacher").save_pretrained(tmp_path / "policy")
    command = [sys.executable, "-m", "understudy.scripts.deploy", str(tmp_path / "policy"), "seconds=0.5"]
    command += ["lockstep=true", f"video={tmp_path / 'x.mp4'}", "quiet=true"]
    done = subprocess.run(command, env={**os.environ, "MUJOCO_GL": "egl"}, capture_output=True, text=True, check=False)
    if "cannot render here" in done.stderr or "does not work here" in done.stderr:
        pytest.skip("no EGL here")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.mp4").read_bytes()[4:8] == b"ftyp"


def test_a_grid_of_delays_and_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_policy("reacher", seed=1).save_pretrained(tmp_path / "policy")
    asked = [
        str(tmp_path / "policy"),
        "grid",
        "delay=[0,0.04]",
        "noise=0,0.3,0.6",
        "episodes=3",
        f"out={tmp_path / 'g'}",
    ]
    assert deploy(asked) == 0
    said = last(capsys)
    with (tmp_path / "g" / "grid.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(float(row["noise"]), float(row["delay"])) for row in rows[:3]] == [(0, 0), (0, 0.04), (0.3, 0)]
    policy = load_policy(tmp_path / "policy")
    plain = evaluate(policy.controller(range(10_000_000, 10_000_003)), policy.task, 1, 3).returns.mean()
    assert float(rows[0]["return"]) == pytest.approx(plain, abs=1e-3)
    assert len({row["return"] for row in rows}) == 6
    assert np.array(said["return"]).shape == (1, 3, 2)
    assert (tmp_path / "g" / "grid.png").read_bytes()[1:4] == b"PNG"
    assert deploy(asked) == 2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("rate=100", "no multiple of the policy's 125 Hz"),
        ("factor=0", "factor=0: it must be above 0"),
        ("limits={", "names with two numbers are expected"),
        ('limits={"rootz.position": [2, 1]}', "the first must be below the second"),
        ("port=99999", "at most 65535"),
        ('limits={"height": [0, 1]}', "no feature 'height'"),
        ("stop_after=0.1", "damped before it is stopped"),
        ("video=x.gif", "must end in .mp4"),
    ],
)
def test_what_does_not_fit_is_refused(option: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(["hopper-hype", option, "seconds=0.1"]) == 2
    assert message in capsys.readouterr().err


def test_a_policy_that_fails_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from understudy.imitation.driving import Driver

    def fails(self: Driver, observation: np.ndarray) -> np.ndarray:
        raise RuntimeError("no")

    monkeypatch.setattr(Driver, "act", fails)
    assert deploy(["hopper-hype", "lockstep=true", f"log={tmp_path / 'log'}"]) == 1
    said = last(capsys)
    assert said["episodes"][0]["ended"] == "the policy failed: RuntimeError: no"
    assert said["failed"]


MODEL = """
<mujoco>
  <option timestep="0.004"/>
  <worldbody>
    <body name="arm" pos="0 0 1">
      <joint name="shoulder" type="hinge" axis="0 1 0" damping="0.5"/>
      <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.03" mass="1"/>
    </body>
  </worldbody>
  <actuator><position name="shoulder" joint="shoulder" kp="20" ctrlrange="-1.5 1.5"/></actuator>
</mujoco>
"""


def test_a_robot_of_ones_own_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Recorded, cloned and driven; it is sent somewhere, and goes there."""
    from understudy.robots import features_of, find_task
    from understudy.robots.simulated_robot import SimulatedRobot
    from understudy.scripts.record import main as record
    from understudy.scripts.train import main as train

    file = tmp_path / "arm.xml"
    file.write_text(MODEL)
    task = find_task(str(file))
    observed, commanded = features_of(task)
    assert [(f.name, f.unit) for f in observed] == [("shoulder.position", "rad"), ("shoulder.velocity", "rad/s")]
    assert [(f.name, f.unit) for f in commanded] == [("shoulder", "rad")]
    assert task.spaces.control_rate == 50
    robot = SimulatedRobot(task, factor=10)
    robot.connect()
    robot.reset(0)
    for _ in range(100):
        robot.send_action(np.array([0.5]))
        seen = robot.get_observation(0.002)
    robot.disconnect()
    assert seen is not None
    assert 0.4 < seen.values[0] < 0.7  # a little lower than 0.5, as it hangs from a soft spring
    assert record(["random", f"task={file}", "episodes=1", f"out={tmp_path / 'x.hdf5'}", "quiet=true"]) == 0
    small = ["learner=bc", "steps=20", "loop.hidden=[8]", "evaluation.episodes=1", "runs=1", "threads=1", "quiet=true"]
    assert train([f"task={file}", f"data={tmp_path / 'x.hdf5'}", *small, f"directory={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    assert deploy([str(tmp_path / "run"), "lockstep=true", "seconds=1", "quiet=true"]) == 0
    assert last(capsys)["periods"] == 50
    file.write_text("<mujoco><worldbody/></mujoco>")
    assert deploy([str(tmp_path / "run"), "lockstep=true"]) == 2
    assert "it needs actuators" in capsys.readouterr().err
