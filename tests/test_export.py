"""Exported policies say what the policy says, without torch; and what cannot be exported or run is refused."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from policies import make_chunk_policy, make_policy

from understudy.datasets import load
from understudy.imitation import ChunkPolicy, export
from understudy.imitation.export import digest, export_policy, random_observations
from understudy.robots import InputError
from understudy.robots.exported import ExportedPolicy
from understudy.scripts.export import main as export_command

EXPERT = load("hopper-expert", episodes=1).observations


GOAL = {"goal": 2, "place": (0.4, -0.7)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain policy's folder, and the policy beside it."""
    folder = tmp_path_factory.mktemp("exported")
    policy = make_policy(seed=1, observation_limit=10.0, training={"learner": "test"})
    policy.normaliser.mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    policy.normaliser.std.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
    policy.save_pretrained(folder / "policy")
    assert export_command([str(folder / "policy"), f"out={folder / 'onnx'}", "quiet=true"]) == 0
    return folder


def test_it_says_what_the_policy_says(exported: Path) -> None:
    from understudy.imitation import Policy

    policy, runner = Policy.from_pretrained(exported / "policy"), ExportedPolicy.load(exported / "onnx")
    rows = np.concatenate([EXPERT[:200], 50 * random_observations(policy)[:200]])
    expected, _ = policy.predict(rows)
    np.testing.assert_allclose(runner.run(rows), expected, atol=1e-5)
    np.testing.assert_allclose([runner.act(row) for row in rows], expected, atol=1e-5)


def test_its_metadata_are_what_a_robot_needs(exported: Path) -> None:
    said = json.loads((exported / "onnx" / "metadata.json").read_text())
    assert (said["task"], said["control_rate"], said["environment"]["id"]) == ("hopper", 125.0, "Hopper-v5")
    assert [item["name"] for item in said["action"]] == ["thigh_joint", "leg_joint", "foot_joint"]
    assert len(said["observation"]) == 11
    assert said["training"] == {"learner": "test"}
    assert set(said["parity"]) == {"random", "hopper-expert"}
    assert max(said["parity"].values()) <= 1e-5
    assert said["latency_microseconds"]["p50"] <= said["latency_microseconds"]["p99"]
    assert {"torch", "onnx", "understudy"} <= set(said["versions"])


def test_it_runs_with_numpy_and_onnxruntime_alone(exported: Path) -> None:
    """The graph by itself; then our runner, whose package needs the simulator, but never torch."""
    code = f"""
import sys, json, numpy as np, onnxruntime
session = onnxruntime.InferenceSession({str(exported / "onnx" / "policy.onnx")!r})
rows = np.load({str(exported / "rows.npy")!r})
actions = session.run(None, {{"observations": rows}})[0]
ours = [name for name in sys.modules if name.split(".")[0] in ("torch", "mujoco", "gymnasium", "understudy", "onnx")]
from understudy.robots.exported import ExportedPolicy
runner = ExportedPolicy.load({str(exported / "onnx")!r})
same = np.abs(np.stack([runner.act(row) for row in rows]) - actions).max()
print(json.dumps([actions.tolist(), ours, float(same), "torch" in sys.modules]))
"""
    rows = EXPERT[:5]
    np.save(exported / "rows.npy", rows)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    actions, others, same, torch_was_there = json.loads(done.stdout)
    np.testing.assert_allclose(actions, make_expected(exported, rows), atol=1e-5)
    assert others == []
    assert same < 1e-6
    assert not torch_was_there


def make_expected(exported: Path, rows: np.ndarray) -> np.ndarray:
    from understudy.imitation import Policy

    return Policy.from_pretrained(exported / "policy").predict(rows)[0]


_DIFFUSIONS = ({"predicts": "chunk"}, {"solver": "dpm"}, {**GOAL, "guidance": 2.5, "predicts": "chunk"})


@pytest.mark.parametrize("how", [{}, *_DIFFUSIONS])
def test_a_diffusion_policy_keeps_its_plan_outside_the_graph(tmp_path: Path, how: dict[str, Any]) -> None:
    policy = make_chunk_policy(**how)
    export_policy(policy, "onnx", tmp_path / "onnx", {"expert": EXPERT[:100]})
    runner = ExportedPolicy.load(tmp_path / "onnx")
    assert runner.metadata["memory"] == {"history": 2, "chunk": 6, "acts": 3, "noise": 18}
    runner.reset(7)
    said = np.stack([runner.act(row) for row in EXPERT[:7]])
    random = np.random.default_rng(7)
    exact = policy.double()
    expected = []
    for begin in (0, 3, 6):
        window = EXPERT[[max(0, begin - 1), begin]][None]
        noise = random.standard_normal((1, 18)).astype(np.float32)
        plan = exact.plan_of(torch.from_numpy(window).double(), torch.from_numpy(noise).double())
        expected += plan[0, :3].tolist()
    np.testing.assert_allclose(said, expected[:7], atol=1e-5)
    runner.reset(7)
    assert np.array_equal(said[0], runner.act(EXPERT[0]))


@pytest.mark.parametrize("how", [{}, GOAL])
def test_a_policy_of_cloned_chunks_keeps_its_plan_outside_the_graph(tmp_path: Path, how: dict[str, Any]) -> None:
    policy = make_chunk_policy(head="chunk", times=1, samples=1, **how)
    export_policy(policy, "onnx", tmp_path / "onnx", {"expert": EXPERT[:100]})
    runner = ExportedPolicy.load(tmp_path / "onnx")
    assert runner.metadata["memory"] == {"history": 2, "chunk": 6, "acts": 3, "noise": 0}
    assert runner.metadata["goal"] == ({"size": 2, "place": [0.4, -0.7]} if how else None)
    act = policy.controller()
    for row in EXPERT[:7]:
        np.testing.assert_allclose(runner.act(row), act(torch.from_numpy(row)[None])[0], atol=1e-5)


def test_diffusers_is_imported_by_trainings_alone(tmp_path: Path) -> None:
    """A policy has its noise schedule with it, and needs no other library on a robot."""
    make_chunk_policy(solver="dpm").save_pretrained(tmp_path / "policy")
    script = (
        "import sys; from understudy.imitation import Policy, rewards, chunk_cloning; from understudy.scripts import "
        "build, train; import numpy as np; policy = Policy.from_pretrained(sys.argv[1]); "
        "policy.predict(np.zeros((1, 11), np.float32)); assert 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "policy")], check=True)


def test_more_samples_than_its_solver_goes_through_are_refused_where_the_policy_is_read(tmp_path: Path) -> None:
    make_chunk_policy(solver="dpm").save_pretrained(tmp_path / "policy")
    config = json.loads((tmp_path / "policy" / "config.json").read_text())
    (tmp_path / "policy" / "config.json").write_text(json.dumps({**config, "samples": 50}))
    with pytest.raises(InputError, match=r"config\.json is damaged: 'samples' must be at most \d+, .*'dpm'"):
        ChunkPolicy.from_pretrained(tmp_path / "policy")


def test_what_a_graph_of_chunks_takes_is_said_of_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_chunk_policy().save_pretrained(tmp_path / "policy")
    assert export_command([str(tmp_path / "policy"), f"out={tmp_path / 'onnx'}"]) == 0
    assert "microseconds for one plan, of which 3 actions are taken, on one thread" in capsys.readouterr().out


@pytest.mark.parametrize("how", _DIFFUSIONS)
def test_torch_export_of_a_diffusion_policy(tmp_path: Path, how: dict[str, Any]) -> None:
    exported = export_policy(make_chunk_policy(**how), "torch", tmp_path / "pt2", {"expert": EXPERT[:100]})
    assert max(exported.parity.values()) < 1e-5


def test_torch_export_says_the_same(exported: Path, tmp_path: Path) -> None:
    assert export_command([str(exported / "policy"), f"out={tmp_path / 'pt2'}", "format=torch", "quiet=true"]) == 0
    program = torch.export.load(tmp_path / "pt2" / "policy.pt2").module()
    said = program(torch.from_numpy(EXPERT[:7])).detach().numpy()
    np.testing.assert_allclose(said, make_expected(exported, EXPERT[:7]), atol=1e-5)
    with pytest.raises(InputError, match="export with format=onnx to run it without torch"):
        ExportedPolicy.load(tmp_path / "pt2")


def test_a_graph_that_says_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def off(folder: Path, kind: Any) -> Any:
        return lambda *inputs: np.full((len(inputs[0]), 3), 0.5, np.float32)

    monkeypatch.setattr(export, "_runner", off)
    with pytest.raises(InputError, match=r"differs from the policy by .* nothing is written"):
        export_policy(make_policy(), "torch", tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(InputError, match=r"needs onnxscript: pip install 'understudy\[export\]'"):
        export_policy(make_policy(), "onnx", tmp_path / "out", {})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "policy.onnx").unlink(), "cannot be read"),
        (lambda folder: (folder / "policy.onnx").write_bytes(b"x"), "is not the graph that metadata.json describes"),
        (lambda folder: (folder / "metadata.json").write_text("{"), "missing or damaged"),
        (lambda folder: (folder / "metadata.json").write_text("{}"), "does not describe an exported policy"),
    ],
)
def test_damage_is_told(exported: Path, tmp_path: Path, damage: Any, message: str) -> None:
    for name in ("policy.onnx", "metadata.json"):
        (tmp_path / name).write_bytes((exported / "onnx" / name).read_bytes())
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        ExportedPolicy.load(tmp_path)


def test_what_is_there_is_not_replaced_unasked(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_command([str(exported / "policy"), f"out={exported / 'onnx'}"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_digest_is_of_the_weights() -> None:
    assert digest(make_policy(seed=1)) == digest(make_policy(seed=1)) != digest(make_policy(seed=2))
