"""Policies out of stable-baselines3 zips: the same actions, nothing unpickled, every damage one sentence."""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import Make, run_to
from policies import assert_sentence
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from understudy.imitation import sb3
from understudy.imitation.dagger import DaggerTraining
from understudy.imitation.loading import load_policy
from understudy.imitation.sb3 import read_sb3_policy
from understudy.robots import InputError, Task, find_task

SMALL = {"net_arch": [16, 12]}
MODELS: dict[str, tuple[type[BaseAlgorithm], str, dict[str, Any]]] = {
    "sac": (SAC, "hopper", {"policy_kwargs": SMALL}),
    "sac-elu": (SAC, "hopper", {"policy_kwargs": {**SMALL, "activation_fn": nn.ELU}}),
    "sac-linear": (SAC, "hopper", {"policy_kwargs": {"net_arch": {"pi": [], "qf": [4]}}}),
    "sac-gsde": (SAC, "hopper", {"policy_kwargs": SMALL, "use_sde": True}),
    "sac-gsde-clip": (SAC, "hopper", {"policy_kwargs": {**SMALL, "clip_mean": 0.7}, "use_sde": True}),
    "sac-gsde-no-clip": (SAC, "hopper", {"policy_kwargs": {**SMALL, "clip_mean": 0.0}, "use_sde": True}),
    "td3": (TD3, "hopper", {"policy_kwargs": SMALL}),
    "td3-silu": (TD3, "humanoid", {"policy_kwargs": {**SMALL, "activation_fn": nn.SiLU}}),
    "ppo": (PPO, "humanoid", {"policy_kwargs": SMALL}),
    "ppo-relu": (PPO, "hopper", {"policy_kwargs": {**SMALL, "activation_fn": nn.ReLU}}),
    "ppo-gsde": (PPO, "hopper", {"policy_kwargs": SMALL, "use_sde": True}),
    "ppo-gsde-squashed": (PPO, "humanoid", {"policy_kwargs": {**SMALL, "squash_output": True}, "use_sde": True}),
}


def make_model(name: str) -> BaseAlgorithm:
    """An untrained model with weights large enough to reach the bounds of the actions."""
    algorithm, task, options = copy.deepcopy(MODELS[name])  # stable-baselines3 adds to its policy_kwargs
    environment = gymnasium.make(find_task(task).environment_id)
    model = algorithm("MlpPolicy", environment, device="cpu", seed=1, **options)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_the_actions_are_those_of_stable_baselines3(tmp_path: Path, name: str) -> None:
    model = make_model(name)
    model.save(tmp_path / "model.zip")
    policy = read_sb3_policy(tmp_path / "model.zip", find_task(MODELS[name][1]))
    size = policy.config.observation_size
    seen = (6 / np.sqrt(size)) * np.random.default_rng(0).standard_normal((200, size)).astype(np.float32)
    expected, _ = model.predict(seen, deterministic=True)
    np.testing.assert_allclose(policy.predict(seen)[0], expected, atol=1e-6)
    high = np.array(policy.config.action_high, np.float32)
    assert (expected / high).std(0).min() > 0.1  # the observations matter
    if policy.config.head.startswith("clipped"):
        assert 0.01 < (np.abs(expected) == high).mean() < 0.9  # and so do the bounds


def test_dagger_asks_a_zip(make: Make, tmp_path: Path) -> None:
    model = make_model("sac")
    model.save(tmp_path / "model.zip")
    training = run_to(make("dagger", f"expert={tmp_path / 'model.zip'}"), 100)
    assert isinstance(training, DaggerTraining)
    seen, labels = training.pairs(torch.arange(training.row_count - 100, training.row_count).expand(2, -1))
    expected, _ = model.predict(seen.flatten(0, 1).numpy(), deterministic=True)
    np.testing.assert_allclose(labels.flatten(0, 1).numpy(), expected, atol=1e-5)
    training.close()


@pytest.mark.parametrize("name", ["sac", "ppo-relu"])
def test_sampled_actions_have_the_distribution_of_stable_baselines3(tmp_path: Path, name: str) -> None:
    model = make_model(name)
    model.save(tmp_path / "model.zip")
    policy = read_sb3_policy(tmp_path / "model.zip", find_task("hopper"))
    seen = np.repeat(0.3 * np.random.default_rng(3).standard_normal((1, 11)).astype(np.float32), 20_000, axis=0)
    torch.manual_seed(0)  # stable-baselines3 samples from the global generator
    theirs, _ = model.predict(seen, deterministic=False)
    ours, _ = policy.predict(seen, deterministic=False)
    assert ours.std(0).min() > 0.1
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.03)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=0.02)


# Zips by key layout, for algorithms that are not installed and for damage.


def linear(inputs: int, outputs: int, name: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(len(name))
    weight = 0.3 * torch.randn((outputs, inputs), generator=generator)
    return {f"{name}.weight": weight, f"{name}.bias": 0.1 * torch.randn(outputs, generator=generator)}


def box(size: int, bound: float) -> dict[str, Any]:
    """A space as old versions, on top of gym, describe it."""
    low, high = (" ".join([f"{sign}{bound}"] * size) for sign in ("-", ""))
    return {":type:": "<class 'gym.spaces.box.Box'>", "low": f"[{low}]", "high": f"[{high}]", "shape": [size]}


def tensors_of_sac() -> dict[str, Tensor]:
    return {
        **linear(11, 8, "actor.latent_pi.0"),
        **linear(8, 8, "actor.latent_pi.2"),
        **linear(8, 3, "actor.mu"),
        **linear(8, 3, "actor.log_std"),
        **linear(14, 25, "critic.quantile_critic0.0"),
        **linear(14, 25, "critic_target.quantile_critic0.0"),
    }


def tensors_of_trpo() -> dict[str, Tensor]:
    return {
        "log_std": torch.zeros(3),
        **linear(11, 8, "mlp_extractor.shared_net.0"),
        **linear(8, 7, "mlp_extractor.policy_net.0"),
        **linear(8, 6, "mlp_extractor.value_net.0"),
        **linear(7, 3, "action_net"),
        **linear(6, 1, "value_net"),
    }


def data(module: str = "sb3_contrib.tqc.policies", **changes: Any) -> dict[str, Any]:
    return {
        "policy_class": {":type:": "<class 'abc.ABCMeta'>", "__module__": module},
        "policy_kwargs": {"use_sde": False},
        "observation_space": box(11, np.inf),
        "action_space": box(3, 1.0),
        "_last_original_obs": None,
        **changes,
    }


def write_zip(path: Path, tensors: object, values: object) -> Path:
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.pth", buffer.getvalue())
        archive.writestr("data", json.dumps(values))
    return path


def test_tqc_of_an_old_version(tmp_path: Path) -> None:
    tensors = tensors_of_sac()
    policy = read_sb3_policy(write_zip(tmp_path / "tqc.zip", tensors, data()), find_task("hopper"))
    seen = torch.randn((50, 11), generator=torch.Generator().manual_seed(0))
    hidden = seen
    for name in ("actor.latent_pi.0", "actor.latent_pi.2"):
        hidden = nn.functional.linear(hidden, tensors[f"{name}.weight"], tensors[f"{name}.bias"]).relu()
    mean = nn.functional.linear(hidden, tensors["actor.mu.weight"], tensors["actor.mu.bias"]).tanh()
    np.testing.assert_allclose(policy.predict(seen.numpy())[0], mean.numpy(), atol=1e-6)


def test_trpo_of_an_old_version_with_shared_layers(tmp_path: Path) -> None:
    tensors, values = tensors_of_trpo(), data("stable_baselines3.common.policies")
    policy = read_sb3_policy(write_zip(tmp_path / "trpo.zip", tensors, values), find_task("hopper"))
    seen = 5 * torch.randn((50, 11), generator=torch.Generator().manual_seed(0))
    hidden = seen
    for name in ("mlp_extractor.shared_net.0", "mlp_extractor.policy_net.0"):
        hidden = nn.functional.linear(hidden, tensors[f"{name}.weight"], tensors[f"{name}.bias"]).tanh()
    mean = nn.functional.linear(hidden, tensors["action_net.weight"], tensors["action_net.bias"]).clamp(-1, 1)
    np.testing.assert_allclose(policy.predict(seen.numpy())[0], mean.numpy(), atol=1e-6)


def test_the_task_is_the_only_one_of_these_sizes_or_must_be_named(tmp_path: Path) -> None:
    assert load_policy(write_zip(tmp_path / "hopper.zip", tensors_of_sac(), data())).config.task == "hopper"
    larger = {**tensors_of_sac(), **linear(17, 8, "actor.latent_pi.0")}
    larger |= {**linear(8, 6, "actor.mu"), **linear(8, 6, "actor.log_std")}
    write_zip(tmp_path / "six.zip", larger, data())
    with pytest.raises(InputError, match=r"17 observations and 6 actions fit .*task=") as caught:
        load_policy(tmp_path / "six.zip")
    assert "halfcheetah" in str(caught.value)
    assert "walker2d" in str(caught.value)
    assert load_policy(tmp_path / "six.zip", find_task("walker2d")).config.task == "walker2d"
    with pytest.raises(InputError, match="17 observations and gives 6 actions, but hopper has 11 and 3"):
        load_policy(tmp_path / "six.zip", find_task("hopper"))


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    code = pickle.dumps(Malicious(touched))
    pickle.loads(code)  # this is what would happen
    assert touched.exists()
    touched.unlink()
    with pytest.raises(InputError, match=r"policy\.pth is damaged or holds more than tensors") as caught:
        path = write_zip(tmp_path / "evil.zip", {**tensors_of_sac(), "actor.more": Malicious(touched)}, data())
        read_sb3_policy(path)
    assert_sentence(caught.value)
    serialized = base64.b64encode(code).decode()
    everywhere = {
        key: {**value, ":serialized:": serialized} for key, value in data().items() if isinstance(value, dict)
    }
    read_sb3_policy(write_zip(tmp_path / "data.zip", tensors_of_sac(), {**data(), **everywhere, "x": serialized}))
    assert not touched.exists()


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in tensors_of_sac().items() if key != name}


CLIPPED = {"module": "stable_baselines3.common.policies"}


@pytest.mark.parametrize(
    ("tensors", "values", "said"),
    [
        ([torch.zeros(3)], data(), "tensors by name"),
        ({"actor": 3}, data(), "tensors by name"),
        ({3: torch.zeros(3)}, data(), "tensors by name"),
        ({}, data(), "holds no actor"),
        (linear(11, 6, "q_net.q_net.0"), data(), "holds no actor"),
        (tensors_of_sac(), [], "not a JSON object"),
        (without("actor.latent_pi.2.bias"), data(), r"no tensor 'actor\.latent_pi\.2\.bias'"),
        ({**tensors_of_sac(), **linear(3, 3, "actor.features_extractor.0")}, data(), "unexpected tensor"),
        ({**tensors_of_sac(), "actor.latent_pi.1.weight": torch.ones(8)}, data(), "has no tensor"),
        ({**tensors_of_sac(), **linear(9, 3, "actor.mu")}, data(), "do not fit one another"),
        ({**tensors_of_sac(), **linear(8, 4, "actor.log_std")}, data(), "do not fit one another"),
        ({**tensors_of_sac(), "actor.mu.weight": torch.ones(3)}, data(), "do not fit one another"),
        ({**tensors_of_sac(), "actor.mu.bias": torch.full((3,), torch.inf)}, data(), "finite numbers"),
        ({**tensors_of_sac(), "actor.mu.bias": torch.zeros(3, dtype=torch.int64)}, data(), "finite numbers"),
        ({**tensors_of_sac(), "actor.mu.bias": torch.zeros(1).expand(10**12)}, data(), "finite numbers"),
        ({**tensors_of_sac(), "actor.mu.bias": torch.zeros(3, device="meta")}, data(), "finite numbers"),
        ({**tensors_of_sac(), "actor.mu.bias": torch.zeros(3).to_sparse()}, data(), "finite numbers"),
        (tensors_of_sac(), data(policy_kwargs={"activation_fn": "<class 'my.own.Snake'>"}), "activation Snake"),
        (tensors_of_sac(), data("__main__"), "policy class of its own"),
        (tensors_of_sac(), data(observation_space={":type:": "<class 'gymnasium.spaces.dict.Dict'>"}), "arrays"),
        ({k: v for k, v in tensors_of_trpo().items() if k != "log_std"}, data(**CLIPPED), "discrete actions"),
        ({**tensors_of_trpo(), **linear(3, 3, "lstm_actor")}, data(**CLIPPED), "unexpected tensor"),
        (tensors_of_trpo(), data(**CLIPPED, action_space=box(3, 0.4)), "not the range of hopper"),
    ],
)
def test_a_zip_of_something_else_is_one_sentence(tmp_path: Path, tensors: object, values: object, said: str) -> None:
    path = write_zip(tmp_path / "model.zip", tensors, values)
    with pytest.raises(InputError, match=said) as caught:
        read_sb3_policy(path, find_task("hopper"))
    assert_sentence(caught.value)
    assert str(path) in str(caught.value)


def members(**content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, value in content.items():
                archive.writestr(name.replace("_", "."), value)

    return write


def cut(path: Path) -> None:
    write_zip(path, tensors_of_sac(), data())
    path.write_bytes(path.read_bytes()[:-200])


def flipped(path: Path) -> None:
    write_zip(path, tensors_of_sac(), data())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b""), "damaged or not a zip"),
        (lambda path: path.write_text("not a zip"), "damaged or not a zip"),
        (cut, "damaged or not a stable-baselines3 zip"),
        (flipped, "damaged or not a zip"),
        (members(data=b"{}"), "no policy.pth"),
        (members(policy_pth=b"1"), "no data"),
        (members(else_txt=b"1"), "no data and no policy.pth"),
        (members(data=b"{", policy_pth=b"1"), "not JSON"),
        (members(data=b"[" * 100_000, policy_pth=b"1"), "not JSON"),
        (members(data=b"\xff", policy_pth=b"1"), "not JSON"),
        (members(data=b"{}", policy_pth=b""), r"policy\.pth is damaged"),
        (members(data=b"{}", policy_pth=b"PK\x03\x04 no"), r"policy\.pth is damaged"),
        (members(data=b"{}", policy_pth=pickle.dumps({"a": 1}, protocol=2)), r"policy\.pth"),
    ],
)
def test_a_damaged_zip_is_one_sentence(tmp_path: Path, write: Callable[[Path], None], said: str) -> None:
    write(tmp_path / "model.zip")
    with pytest.raises(InputError, match=said) as caught:
        load_policy(tmp_path / "model.zip", find_task("hopper"))
    assert_sentence(caught.value)


@pytest.mark.parametrize("place", ["outside", "inside"])
def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    zeros, path = bytes(3 * 2**20), tmp_path / "bomb.zip"
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", zeros)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", zeros if place == "outside" else inner.getvalue())
    assert path.stat().st_size < 2**16
    monkeypatch.setattr(sb3, "_LARGEST", 2**20)
    with pytest.raises(InputError, match="unpacks to 3 MiB") as caught:
        read_sb3_policy(path, find_task("hopper"))
    assert_sentence(caught.value)


def test_lost_observation_statistics_are_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = data(**CLIPPED, _last_original_obs={":type:": "<class 'numpy.ndarray'>"})
    with caplog.at_level(logging.WARNING):
        read_sb3_policy(write_zip(tmp_path / "with.zip", tensors_of_trpo(), values), find_task("hopper"))
        assert "VecNormalize" in caplog.text
        caplog.clear()
        read_sb3_policy(write_zip(tmp_path / "without.zip", tensors_of_trpo(), data(**CLIPPED)), find_task("hopper"))
        assert not caplog.records


def test_a_zip_finds_its_task_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mazes of gymnasium-robotics are not asked for their sizes."""
    asked: list[str] = []
    original = Task.make
    monkeypatch.setattr(Task, "make", lambda self, **options: asked.append(self.name) or original(self, **options))
    with pytest.raises(InputError, match="fit no task of the table"):
        sb3._task_of_sizes(tmp_path / "x.zip", 5000, 1)
    assert "hopper" in asked
    assert not {"pointmaze", "antmaze"} & set(asked)
