"""The bundled demonstrations are what they say: small, whole, and with states that lead where they led."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.datasets import bundled, load
from understudy.robots import InputError, Spaces, find_task, set_physics_state
from understudy.scripts.build import resolve_data

EPISODES = {"arm-reach-expert": 50, "arm-push-expert": 40}  # of what is drawn anew: where the target is, and the block
ROBOTS = {"quadruped-expert", "arm-reach-expert", "arm-push-expert"}


def test_experts_are_bundled() -> None:
    assert {"hopper-expert", "walker2d-expert", "halfcheetah-expert"} | ROBOTS <= set(bundled())


@pytest.mark.parametrize("name", sorted(bundled()))
def test_a_bundle_is_small_and_says_where_it_comes_from(name: str) -> None:
    assert Path(bundled()[name]).stat().st_size < 3_000_000
    demonstrations = load(name)
    assert len(demonstrations.starts) == EPISODES.get(name, 10)
    assert demonstrations.states is not None
    assert demonstrations.random_return is not None
    assert demonstrations.expert_return == pytest.approx(demonstrations.episode_returns.mean())
    assert "understudy record" in str(demonstrations.metadata["command"])


@pytest.mark.parametrize("name", sorted(bundled()))
def test_a_stored_state_and_action_lead_to_the_stored_next_observation(name: str) -> None:
    demonstrations = load(name)
    assert demonstrations.states is not None
    environment = find_task(demonstrations.task_name).make()
    environment.reset(seed=0)
    spaces = Spaces.of(environment)
    for row in range(0, len(demonstrations), 97):
        set_physics_state(environment, demonstrations.states[row])
        action = demonstrations.actions[row] * spaces.action_scale + spaces.action_offset
        observation, *_ = environment.step(action)
        # Other MuJoCo versions agree to about 1e-6 over one step.
        np.testing.assert_allclose(observation, demonstrations.next_observations[row], atol=1e-4)


def test_auto_is_what_is_bundled_for_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("understudy.scripts.build.bundled", lambda: {"hopper-a": 1, "hopper-expert": 2, "ant-x": 3})

    def resolved(task: str, name: str = "auto") -> Any:
        config: dict[str, Any] = {"task": task, "data": {"name": name}}
        resolve_data(config)
        return config["data"]["name"]

    assert resolved("hopper") == "hopper-expert"
    assert resolved("ant") == "ant-x"
    assert resolved("ant", "mine.hdf5") == "mine.hdf5"
    with pytest.raises(InputError, match=r"no demonstrations are bundled for task walker2d: give data=<file>$"):
        resolved("walker2d")
    with pytest.raises(InputError, match=r"understudy record expert task=slalom out=<file>$"):
        resolved("slalom")
