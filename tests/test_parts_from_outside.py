"""A reward, a reset distribution and an agent from outside, through the public names, each used by its import path."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import HYBRID, SMALL

from understudy.robots import InputError
from understudy.scripts.settings import AXES, compose
from understudy.scripts.train import main

PARTS = {
    "distance_reward": '''
"""Near an expert's state is good: the negative distance to the nearest of them."""
import dataclasses
import torch
from understudy.imitation.rewards import FixedReward

@dataclasses.dataclass(frozen=True)
class Config:
    sharpness: float = 1.0

class DistanceReward(FixedReward):
    """Falls off with the distance to the nearest expert state."""
    Config = Config
    def __init__(self, config, expert):
        self.sharpness, self.expert = config.sharpness, expert
    @classmethod
    def create(cls, config, setting):
        return cls(config, torch.from_numpy(setting.demonstrations.observations))
    def relabel(self, batch):
        return (-self.sharpness * torch.cdist(batch.observations, self.expert).amin(-1)).exp()
''',
    "pushed_resets": '''
"""Episodes that begin with a push."""
import numpy as np
from understudy.imitation.resets import MixedResets, Start

class PushedStart(Start):
    def start(self, tasks, index, random):
        mask = np.arange(len(tasks)) == index
        tasks.reset(mask)
        push = random.uniform(-1, 1, (len(tasks), tasks.spaces.action_size))
        return tasks.step(push.astype(np.float32), "reset", mask).next_observations[index]

class PushedResets(MixedResets):
    """One step of a random action first."""
    @classmethod
    def create(cls, config, setting):
        return cls({"pushed": PushedStart()}, [1.0], setting.seeds)
''',
    "lazy_agent": '''
"""SAC that is punished for large actions."""
import dataclasses
from understudy.imitation.agents import SAC, SACConfig

@dataclasses.dataclass(frozen=True)
class Config(SACConfig):
    laziness: float = 0.1

class LazySAC(SAC):
    """Soft actor-critic with a cost on the square of its actions."""
    Config = Config
    def actor_loss(self, observations, actions, log_probs, coefficient):
        losses = super().actor_loss(observations, actions, log_probs, coefficient)
        return {"actor_loss": losses["actor_loss"] + self.config.laziness * actions.square().mean((1, 2))}
''',
}
OPTIONS = {
    "distance_reward": ("learner=hype", "reward=distance_reward:DistanceReward", "reward.sharpness=0.5"),
    "pushed_resets": ("learner=sac", "resets=pushed_resets:PushedResets"),
    "lazy_agent": ("learner=hype", "agent=lazy_agent:LazySAC", "agent.laziness=2"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in PARTS.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_short_and_runs_from_the_command_line(
    here: Path, name: str, data_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(PARTS[name].strip().splitlines()) < 30
    options = [o for o in HYBRID if not (o.startswith("reward.") and name != "lazy_agent")]
    data = [] if name == "pushed_resets" else [f"data={data_file}"]
    assert main([*OPTIONS[name], *data, *SMALL, *options, "directory=run"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["steps"]["policy"] == 2 * 200 / 2
    if name == "pushed_resets":
        assert result["steps"]["reset"] > 0
    assert (here / "run" / "policy" / "model.safetensors").is_file()


def test_a_run_with_an_outside_part_is_continued(here: Path, data_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [o for o in HYBRID if not o.startswith("reward.")]
    assert main([*OPTIONS["distance_reward"], f"data={data_file}", *SMALL, *options, "directory=run"]) == 0
    name = "distance_reward:DistanceReward"
    monkeypatch.delitem(AXES["reward"], name)  # as in a new process
    assert main(["resume=run", "steps=300"]) == 0
    assert json.loads((here / "run" / "result.json").read_text())["steps"]["policy"] == 300
    assert name in AXES["reward"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("reward=nowhere_to_be_found:Reward", "No module named"),
        ("reward=distance_reward:Missing", "no class 'Missing'"),
        ("agent=json:dumps", "no class 'dumps'"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(here: Path, option: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compose(["learner=hype", option])


FAULTY = '''
import dataclasses
from understudy.imitation.rewards import FixedReward

class Bare:
    """Lacks most of it."""
    @classmethod
    def create(cls, config, setting):
        return cls()
    def relabel(self, batch):
        return batch.rewards
    def reset(self, tasks, where=None):
        return tasks.reset(where)

class Scalar(FixedReward):
    """One number for all."""
    def relabel(self, batch):
        return batch.rewards.mean()

class Needy(FixedReward):
    """A setting without a default."""
    @dataclasses.dataclass(frozen=True)
    class Config:
        weight: float

class Listing(FixedReward):
    """A setting whose default is made."""
    @dataclasses.dataclass(frozen=True)
    class Config:
        weights: tuple[float, ...] = dataclasses.field(default_factory=tuple)
    def relabel(self, batch):
        return batch.expert
'''


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("reward=faulty:Bare", r"reward=faulty:Bare lacks batch_size, .*derive it from \S*FixedReward"),
        ("resets=faulty:Bare", r"resets=faulty:Bare lacks about, .*InitialResets"),
        ("agent=faulty:Bare", r"agent=faulty:Bare lacks act, .*SAC"),
        ("reward=faulty:Scalar", r"shape \(\) for rows of shape \(2, "),
        ("reward=faulty:Needy", "its setting 'weight' has no default"),
    ],
)
def test_a_part_that_lacks_something_is_told_so(
    here: Path, option: str, message: str, data_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "faulty.py").write_text(FAULTY)
    axis = option.partition("=")[0]
    options = [o for o in (*SMALL, *HYBRID) if not o.startswith(f"{axis}.")]
    assert main(["learner=hype", option, f"data={data_file}", *options, "directory=run"]) == 2
    errors = capsys.readouterr().err
    assert re.search(message, errors)
    assert errors.count("\n") == 1


def test_a_setting_whose_default_is_made_is_known(here: Path) -> None:
    (here / "faulty.py").write_text(FAULTY)
    config, _ = compose(["learner=hype", "reward=faulty:Listing"])
    assert config.reward == {"kind": "faulty:Listing", "weights": []}
