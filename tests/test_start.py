"""`start=`: a training that begins with what an earlier one learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Make, run_to
from test_train_command import assert_same_run, options, refuse

from understudy.datasets import Demonstrations
from understudy.imitation.checkpoint import load_checkpoint
from understudy.imitation.interactive import InteractiveTraining
from understudy.scripts.build import build, resolve_data
from understudy.scripts.settings import compose
from understudy.scripts.train import main, resolved


@pytest.fixture(scope="module")
def earlier(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("start") / "earlier"
    assert main(options(data_file, "hype", run)) == 0
    return run


def training(*arguments: str) -> InteractiveTraining:
    config, learner = compose([a for a in arguments if not a.startswith("directory=")])
    values = {**resolved(config), "learner": learner}
    resolve_data(values)
    made = build(values).training
    assert isinstance(made, InteractiveTraining)
    return made


def test_agent_and_reward_are_taken_over_and_the_rest_begins_anew(earlier: Path, data_file: Path) -> None:
    state = load_checkpoint(earlier)
    fresh = training(*options(data_file, "hype", earlier, "seed=7", "disturbances.observation_delay=0.016"))
    taken = training(*options(data_file, "hype", earlier, "seed=7", "disturbances.observation_delay=0.016"))
    taken.take_over(state, "there")
    for name in ("agent", "reward"):
        now, then = taken.state().part(name), state.part(name)
        same = {k for k in now if torch.equal(now[k], then[k])}
        assert now.keys() - same == ({"network.average.updates"} if name == "agent" else set())
    assert taken.state().tensors["agent.network.average.updates"] == 0 < state.tensors["agent.network.average.updates"]
    assert taken.steps == taken.updates == 0
    assert len(taken.buffer) == 0
    assert torch.equal(taken.generators.state(), fresh.generators.state())
    for each in (fresh, taken):
        each.close()


def test_it_acts_by_the_policy_from_the_first_step(earlier: Path, data_file: Path) -> None:
    taken = training(*options(data_file, "hype", earlier, "loop.random_steps=50"))
    taken.take_over(load_checkpoint(earlier), "there")
    seen = torch.from_numpy(taken.begin())
    twin = training(*options(data_file, "hype", earlier, "loop.random_steps=50"))
    twin.take_over(load_checkpoint(earlier), "there")
    count, size = min(twin.config.update_every, twin.config.steps), twin.layout.action_size
    twin.generators.uniform((count, size), -1.0, 1.0)
    first = twin.agent.act(seen, twin.generators.normal((count, size))[:, 0])
    taken.advance()
    row = taken.layout.batch(taken.buffer.state()["rows"][:, :1])
    assert torch.equal(row.actions[:, 0], first)
    for each in (twin, taken):
        each.close()


def test_it_resumes_bit_equal(earlier: Path, data_file: Path, tmp_path: Path) -> None:
    started = (f"start={earlier}", "disturbances.noise=0.01", "loop.random_steps=150")
    assert main(options(data_file, "hype", tmp_path / "whole", *started)) == 0
    assert main(options(data_file, "hype", tmp_path / "half", *started, "steps=100")) == 0
    assert main([f"resume={tmp_path / 'half'}", "steps=200", "quiet=true"]) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "half")


@pytest.mark.parametrize("learner", ["gail", "mm_reference"])
def test_others_act_by_what_was_learned_from_the_first_step(
    make: Make, learner: str, demonstrations: Demonstrations
) -> None:
    """PPO, whose optimiser has no moments before its first step, and rounds, each of which begins at random."""
    before: Any = run_to(make(learner), 200)
    taken: Any = make(learner, "seed=7", "normalise=false")  # by the earlier one's statistics, all the same
    taken.take_over(before.state(), "before")
    ours = taken.agent.training_state()
    for name, value in before.agent.training_state().items():
        assert torch.equal(value, ours[name]) != name.endswith("average.updates")  # the average begins anew
    seen, noise = torch.from_numpy(demonstrations.observations[:12]).view(2, 6, 11), torch.zeros(2, 6, 3)
    assert torch.equal(taken.agent.act(seen, noise), before.agent.act(seen, noise))
    acted: list[torch.Tensor] = []
    act = taken.agent.act

    def noted(*given: Any) -> torch.Tensor:
        acted.append(act(*given))
        return acted[-1]

    taken.agent.act = noted
    taken.advance()
    row = taken.layout.batch(taken.buffer.state()["rows"][:, :1])
    assert torch.equal(row.actions[:, 0], acted[0])
    for each in (before, taken):
        each.close()


@pytest.mark.parametrize(
    ("learner", "more", "words"),
    [
        ("hype", ["runs=3"], "it has 2 runs: give runs=2"),
        ("hype", ["agent.hidden=[8,8]"], "its agent is not made like this training's"),
        ("hype", ["reward=wasserstein", "reward.members=2"], "its reward is not made like this training's"),
        ("bc", [], "learner=bc has no agent and no reward to begin with"),
    ],
)
def test_what_does_not_fit_is_refused(
    learner: str, more: list[str], words: str, earlier: Path, data_file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = options(data_file, learner, tmp_path / "run", f"start={earlier}", *more)
    assert words in refuse(given, capsys)
    assert not (tmp_path / "run").exists()


def test_what_never_acted_is_refused(data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(data_file, "bc", tmp_path / "cloned")) == 0
    capsys.readouterr()
    sentence = refuse(options(data_file, "hype", tmp_path / "run", f"start={tmp_path / 'cloned'}"), capsys)
    assert "its agent is not made like this training's" in sentence


def test_a_start_that_is_not_there_is_one_sentence(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = refuse(options(data_file, "hype", tmp_path / "run", f"start={tmp_path / 'nowhere'}"), capsys)
    assert "nowhere is not a checkpoint" in sentence
