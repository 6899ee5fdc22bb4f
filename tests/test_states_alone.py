"""Recordings of states alone: what learns from them, and what is refused because it needs actions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from conftest import INTERACTIVE
from omegaconf import OmegaConf

from understudy.datasets import Demonstrations, load, write_d4rl
from understudy.robots import InputError
from understudy.scripts.build import build
from understudy.scripts.settings import compose

MM = ("learner=mm", *INTERACTIVE, "reward.hidden=[16,16]", "reward.batch_size=16", "runs=1", "threads=1", "device=cpu")


@pytest.fixture
def states_alone(data_file: Path, tmp_path: Path) -> Path:
    """The demonstrations' file without its actions."""
    path = tmp_path / "states.hdf5"
    path.write_bytes(data_file.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["actions"]
    return path


def built(*options: str, **given: Demonstrations) -> Any:
    config, _ = compose([*options, "task=hopper"])
    values: Any = OmegaConf.to_container(config, resolve=True)
    return build(values, **given).training


@pytest.mark.parametrize("inputs", ["state", "state-next-state"])
@pytest.mark.parametrize("reward", ["wasserstein", "gan", "score", "diffusion"])
def test_rewards_on_states_learn_from_them(states_alone: Path, inputs: str, reward: str) -> None:
    less = ["reward.expert_updates=20"] if reward == "score" else []
    training = built(*MM, f"reward={reward}", f"reward.inputs={inputs}", f"data={states_alone}", *less)
    found: dict[str, torch.Tensor] = {}
    while training.steps < 200:
        found.update(training.advance())
    assert torch.isfinite(found["learner_error" if reward == "score" else "discriminator_loss"]).all()


def test_the_same_is_learned_as_with_actions(states_alone: Path, data_file: Path) -> None:
    """A reward on states looks at nothing else."""
    rewards = []
    for path in (states_alone, data_file):
        training = built(*MM, "reward.inputs=state", f"data={path}")
        while training.steps < 200:
            training.advance()
        rewards.append(training.reward.training_state())
    for name, value in rewards[0].items():
        assert torch.equal(value, rewards[1][name]), name


@pytest.mark.parametrize(
    ("options", "by", "instead"),
    [
        (("learner=bc",), "loop=cloning", "learner=smiling"),
        (("learner=hype",), "mixture=hybrid", "mixture=learner"),
        (("learner=mm",), "reward=wasserstein", "reward.inputs=state or"),
        (("learner=mm", "reward.inputs=all"), "reward=wasserstein", "reward.inputs=state or"),
        (("learner=airl", "reward.inputs=state"), "reward=airl", "reward=gan reward.inputs=state"),
        (("learner=bc_reg", "reward.inputs=state"), "agent=sac", "agent.cloning_weight=0"),
        (("learner=iq_learn",), "agent=iq_learn", "learner=smiling"),
        (("learner=iq_learn_offline",), "loop=offline", "learner=smiling"),
        (("learner=gail",), "reward=gan", "reward.inputs=state or"),
        (
            ("learner=mm", "reward.inputs=state", "resets=roll_in", "resets.source=expert"),
            "a roll-in",
            "another resets=",
        ),
    ],
)
def test_what_needs_actions_is_refused(states_alone: Path, options: tuple[str, ...], by: str, instead: str) -> None:
    with pytest.raises(
        InputError, match=rf"states\.hdf5 has no 'actions', from which {by} would learn: record them, or .*{instead}"
    ):
        built(*options, f"data={states_alone}", "threads=1", "device=cpu")


def test_the_way_out_of_a_pull_leads_out(states_alone: Path) -> None:
    options = ("learner=bc_reg", "reward.inputs=state", "agent.cloning_weight=0")
    built(*options, f"data={states_alone}", "threads=1", "device=cpu").close()


def test_states_can_be_reset_to_but_not_replayed(states_alone: Path, data_file: Path) -> None:
    training = built(*MM, "reward.inputs=state", "resets=expert", f"data={states_alone}")
    training.close()
    recorded = dataclasses.replace(load(data_file), qpos=None, qvel=None, episode_seeds=np.arange(3), acted=False)
    with pytest.raises(InputError, match="no actions to be replayed"):
        built(*MM, "reward.inputs=state", "resets=expert", demonstrations=recorded)


def test_they_are_written_and_read_as_they_are(states_alone: Path, tmp_path: Path) -> None:
    first = load(states_alone)
    assert not first.acted
    write_d4rl(tmp_path / "again.hdf5", first)
    again = load(tmp_path / "again.hdf5")
    assert not again.acted
    assert np.array_equal(again.observations, first.observations)
    with h5py.File(tmp_path / "again.hdf5") as file:
        assert "actions" not in file
