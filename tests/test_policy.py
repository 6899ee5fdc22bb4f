"""The deployable policy: what it computes, what its directory holds, and every way that can be broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from policies import assert_sentence, make_policy, make_run
from safetensors.torch import load_file, save_file

from understudy.imitation import files
from understudy.imitation.loading import load_policies, load_policy
from understudy.imitation.policy import Head, Policy
from understudy.robots import InputError, find_task

HEADS: tuple[Head, ...] = ("squashed-gaussian", "deterministic", "clipped-gaussian", "clipped")
LOW, HIGH = (-0.5, -2.0, 0.0), (0.5, 1.0, 3.0)


def observations(count: int = 64, scale: float = 3.0) -> np.ndarray:
    return scale * np.random.default_rng(0).standard_normal((count, 11)).astype(np.float32)


def by_hand(policy: Policy, array: np.ndarray) -> np.ndarray:
    """What the policy computes, from its tensors alone, in float64."""
    state = {name: value.double().numpy() for name, value in policy.state_dict().items()}
    limit = policy.config.observation_limit or np.inf
    hidden = np.clip((array - state["normaliser.mean"]) / state["normaliser.std"], -limit, limit)
    for layer in range(3):
        hidden = hidden @ state[f"net.weights.{layer}"][0] + state[f"net.biases.{layer}"][0]
        if layer < 2:
            hidden = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh}[policy.config.activation](hidden)
    mean = hidden[:, :3]
    if policy.config.mean_limit is not None:
        mean = np.clip(mean, -policy.config.mean_limit, policy.config.mean_limit)
    low, high = np.array(policy.config.action_low), np.array(policy.config.action_high)
    if policy.config.head in ("clipped-gaussian", "clipped"):
        return np.clip(mean, low, high)
    return low + (np.tanh(mean) + 1) / 2 * (high - low)


@pytest.mark.parametrize("head", HEADS)
def test_predict_is_what_the_config_says(head: Head) -> None:
    policy = make_policy(
        head=head, action_low=LOW, action_high=HIGH, observation_limit=2.0, mean_limit=0.9, activation="tanh"
    )
    policy.normaliser.mean.fill_(0.3)
    policy.normaliser.std.fill_(1.7)
    seen = observations()
    actions, state = policy.predict(seen)
    np.testing.assert_allclose(actions, by_hand(policy, seen), atol=2e-6)
    assert state is None
    assert np.ptp(actions, axis=0).min() > 0.1  # the observation matters
    single, _ = policy.predict(seen[5])
    assert single.shape == (3,)
    np.testing.assert_allclose(single, actions[5], atol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_actions_stay_within_their_bounds(head: Head) -> None:
    policy = make_policy(head=head, action_low=LOW, action_high=HIGH)
    actions, _ = policy.predict(observations(scale=100))
    assert (actions >= np.array(LOW, np.float32)).all()
    assert (actions <= np.array(HIGH, np.float32)).all()
    assert policy.act(torch.tensor(observations(scale=100))).abs().max() <= 1


def test_sampled_actions_have_the_distribution_of_the_head() -> None:
    policy = make_policy(head="clipped-gaussian", action_low=(-99.0,) * 3, action_high=(99.0,) * 3)
    assert policy.log_std is not None
    with torch.no_grad():
        policy.log_std.copy_(torch.tensor([-1.0, 0.0, 0.7]))
    same = np.repeat(observations(1), 20_000, axis=0)
    actions, _ = policy.predict(same, deterministic=False)
    np.testing.assert_allclose(actions.std(0), np.exp([-1.0, 0.0, 0.7]), rtol=0.03)
    np.testing.assert_allclose(actions.mean(0), policy.predict(same[0])[0], atol=0.06)


def test_sampling_is_seeded_and_needs_a_distribution() -> None:
    policy = make_policy()
    first, second = (policy.predict(observations(), deterministic=False)[0] for _ in range(2))
    policy.seed(0)
    again, _ = policy.predict(observations(), deterministic=False)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)
    for head in ("deterministic", "clipped"):
        with pytest.raises(InputError, match="deterministic"):
            make_policy(head=head).predict(observations(), deterministic=False)


@pytest.mark.parametrize("wrong", [np.zeros(10), np.zeros((2, 12)), np.zeros((2, 2, 11)), np.full(11, np.nan)])
def test_predict_refuses_other_observations(wrong: np.ndarray) -> None:
    with pytest.raises(InputError) as caught:
        make_policy().predict(wrong)
    assert_sentence(caught.value)


@pytest.mark.parametrize("head", HEADS)
def test_a_directory_gives_the_same_policy_back(tmp_path: Path, head: Head) -> None:
    policy = make_policy(head=head, observation_limit=1.5, mean_limit=2.0, training={"learner": "bc", "seed": 3})
    policy.normaliser.mean.fill_(0.25)
    policy.save_pretrained(tmp_path / "policy")
    read = Policy.from_pretrained(tmp_path / "policy")
    assert read.config == policy.config
    np.testing.assert_array_equal(read.predict(observations())[0], policy.predict(observations())[0])
    files = sorted((tmp_path / "policy").iterdir())
    assert [path.name for path in files] == ["config.json", "model.safetensors"]
    assert len({path.stat().st_mode for path in files}) == 1, "whoever may read the one may read the other"


def test_a_full_disk_leaves_the_old_directory_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_policy(seed=1).save_pretrained(tmp_path / "policy")
    before = {path.name: path.read_bytes() for path in (tmp_path / "policy").iterdir()}

    def full(path: Path, text: str) -> None:
        raise InputError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(files, "write_text", full)
    with pytest.raises(InputError, match="No space left"):
        make_policy(seed=2).save_pretrained(tmp_path / "policy")
    assert {path.name: path.read_bytes() for path in (tmp_path / "policy").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def change(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config.update(values)


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda config: config.pop(name)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (drop("format"), "does not describe a policy"),
        (change(version=2), "update understudy"),
        (drop("hidden"), "has no 'hidden'"),
        (change(hiden=[4]), "unknown key 'hiden'"),
        (change(head="softmax"), "'head' must be one of"),
        (change(activation=["relu"]), "'activation' must be one of"),
        (change(observation_size=11.0), "'observation_size' must be"),
        (change(observation_size=True), "'observation_size' must be"),
        (change(action_size=-3), "'action_size' must be"),
        (change(hidden="16"), "'hidden' must be"),
        (change(hidden=[16, 0]), "'hidden' must be"),
        (change(action_low=[-1, -1]), "'action_low' must be"),
        (change(action_high=[1, 1, float("nan")]), "'action_high' must be"),
        (change(action_low=[1, 1, 1]), "below"),
        (change(control_rate=0), "'control_rate' must be"),
        (change(mean_limit="2"), "'mean_limit' must be"),
        (change(training=[]), "'training' must be"),
        (change(task=7), "'task' must be"),
        (change(task="hoper"), "hopper"),
        (change(hidden=[16, 10**12]), "does not fit its config.json"),
        (change(head="clipped-gaussian"), "does not fit|has no tensor"),
    ],
)
def test_a_damaged_config_is_one_sentence(tmp_path: Path, damage: Callable[[dict[str, Any]], None], said: str) -> None:
    make_policy().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    damage(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=said) as caught:
        load_policy(tmp_path)
    assert_sentence(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\x01", '{"head": '])
def test_a_config_that_is_no_json_object_is_one_sentence(tmp_path: Path, text: str) -> None:
    make_policy().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json is damaged") as caught:
        Policy.from_pretrained(tmp_path)
    assert_sentence(caught.value)


def edit(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, "does not exist"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:5]), "damaged"),
        (lambda path: path.write_bytes(b"\x80\x04K\x01." * 99), "damaged"),
        (edit(lambda tensors: tensors.pop("net.weights.1")), "has no tensor 'net.weights.1'"),
        (edit(lambda tensors: tensors.update(more=torch.zeros(2))), "unknown tensor 'more'"),
        (edit(lambda tensors: tensors.update({"net.biases.0": torch.zeros(1, 1, 15)})), "'net.biases.0'"),
        (edit(lambda tensors: tensors["net.biases.0"].fill_(torch.nan)), "NaN"),
    ],
)
def test_damaged_weights_are_one_sentence(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    make_policy().save_pretrained(tmp_path)
    damage(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=said) as caught:
        Policy.from_pretrained(tmp_path)
    assert_sentence(caught.value)
    assert "model.safetensors" in str(caught.value)


def test_a_policy_for_another_task_is_refused(tmp_path: Path) -> None:
    make_policy("walker2d").save_pretrained(tmp_path / "walker")
    with pytest.raises(InputError, match="walker2d, not for halfcheetah"):  # of the same sizes
        load_policy(tmp_path / "walker", find_task("halfcheetah"))
    # The id of the table's environment is the table's task.
    assert load_policy(tmp_path / "walker", find_task("Walker2d-v5")).config.task == "walker2d"
    make_policy(observation_size=12).save_pretrained(tmp_path / "larger")
    with pytest.raises(InputError, match="takes 12 observations and gives 3 actions, but hopper has 11 and 3"):
        load_policy(tmp_path / "larger")
    make_policy(action_high=(1.0, 1.0, 2.0)).save_pretrained(tmp_path / "wider")
    with pytest.raises(InputError, match="range of actions"):
        load_policy(tmp_path / "wider")


def test_a_run_directory_gives_all_its_runs_or_the_chosen_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 11)
    policies = load_policies(run)
    assert list(policies) == [f"run-{k}" for k in range(11)]  # 10 comes after 9
    seen = observations()
    expected = make_policy(seed=10).predict(seen)[0]
    np.testing.assert_array_equal(policies["run-10"].predict(seen)[0], expected)
    np.testing.assert_array_equal(load_policy(run).predict(seen)[0], expected)
    assert list(load_policies(run / "policies" / "run-3")) == ["run-3"]


def test_where_there_is_no_policy_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "unfinished" / "policies").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "running").mkdir()
    (tmp_path / "running" / "config.yaml").write_text("learner: hype")
    for path, said in (
        (tmp_path / "running", "no policies yet|no chosen policy yet"),
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "empty", "has no config.json"),
        (tmp_path / "unfinished", "no policies yet|no chosen policy yet"),
    ):
        for load in (load_policy, load_policies):
            with pytest.raises(InputError, match=said) as caught:
                load(path)
            assert_sentence(caught.value)


def test_saving_a_policy_deletes_nothing_else(tmp_path: Path) -> None:
    policy = make_policy(seed=1)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"project holds thesis\.tex"):
        policy.save_pretrained(tmp_path / "project")
    with pytest.raises(InputError, match=r"is a file"):
        policy.save_pretrained(tmp_path / "project" / "thesis.tex")
    assert (tmp_path / "project" / "thesis.tex").read_text() == "years of work"
    for _ in range(2):  # over itself is meant
        policy.save_pretrained(tmp_path / "policy")
