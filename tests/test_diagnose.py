"""Checks on the learners themselves: noise that is noise, rewards that rank, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HYBRID, SMALL, last_of_each, same_state

from understudy.imitation.acting import ActingTraining
from understudy.imitation.diagnosis import Drift, FrozenReward, learned_returns, mixed_episodes, rank_correlations
from understudy.imitation.restlessness import Restlessness, follow
from understudy.imitation.training import Training
from understudy.scripts.diagnose import main
from understudy.scripts.train import main as train

Make = Callable[..., Training]
NOISE = "reward=understudy.imitation.diagnosis:NoiseReward"


@pytest.fixture(scope="module")
def run(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small HyPE with two checkpoints."""
    directory = tmp_path_factory.mktemp("diagnosed") / "run"
    given = last_of_each("learner=hype", *SMALL, *HYBRID, f"data={data_file}", f"directory={directory}")
    assert train(given) == 0
    return directory


def test_noise_is_noise_and_belongs_to_its_row(make: Make) -> None:
    training = make("sac", NOISE, "loop.select_by=none")
    assert isinstance(training, ActingTraining)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 20_000, training.layout.width, generator=generator)
    rewards = training.reward.relabel(training.layout.batch(rows))
    assert torch.equal(rewards, training.reward.relabel(training.layout.batch(rows.clone())))
    assert rewards.mean(1).abs().max() < 0.03
    assert (rewards.std(1) - 1).abs().max() < 0.03
    near = training.reward.relabel(training.layout.batch(rows + 0.01 * torch.randn(rows.shape, generator=generator)))
    for first, second in ((rewards[0], rewards[1]), (rewards[0], near[0])):
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    training.close()


def test_noise_moves_further_only_if_it_does() -> None:
    start = np.array([10.0, 12.0, 9.0, 11.0, 10.0, 13.0])
    luck = np.array([1.0, -2.0, 1.5, -1.0, 2.0, 1.0])
    assert Drift(start, start + luck, start - luck).p_value() > 0.5
    # All of six pairs in the same direction: one of 64 ways.
    assert Drift(start, start + luck, start + luck + 30).p_value() == pytest.approx(1 / 64)


def test_restlessness_tells_trembling_from_drifting() -> None:
    """By series whose variances are known: N rows whose own rewards vary by 4."""
    generator = torch.Generator().manual_seed(0)
    rows = 2 * torch.randn(1, 2, 4000, generator=generator)
    trembling = Restlessness.of(rows + 0.4 * torch.randn(200, 2, 4000, generator=generator))
    np.testing.assert_allclose(trembling.neighbours, 0.04, rtol=0.1)
    np.testing.assert_allclose(trembling.all, 0.04, rtol=0.1)
    np.testing.assert_allclose(trembling.tens, 0.004, rtol=0.1)
    slopes = torch.randn(1, 2, 4000, generator=generator)  # each row's reward goes its own way, evenly
    drifting = Restlessness.of(rows + 0.002 * slopes * torch.arange(100.0)[:, None, None])
    np.testing.assert_allclose(drifting.neighbours, 0.002**2 / 2 / 4, rtol=0.1)
    np.testing.assert_allclose(drifting.all, 0.002**2 * (100**2 - 1) / 12 / 4, rtol=0.1)
    np.testing.assert_allclose(drifting.tens, drifting.all, rtol=0.1)


@pytest.mark.parametrize("learner", ["smiling", "filter", "hyper", "gail"])
def test_a_followed_reward_is_asked_about_the_same_rows_and_goes_on_as_ever(make: Make, learner: str) -> None:
    ways: list[Any] = []
    for watched in (True, False):
        training: Any = make(learner, "steps=1500")
        while training.steps < 200:
            training.advance()
        before = training.reward.update
        if watched:
            found = follow(training, 20, 8)
            assert found.neighbours.shape == (2,)
            assert (found.neighbours > 0).all()
            assert training.reward.update == before
            until = training.steps
        else:
            while training.steps < until:  # pyright: ignore[reportPossiblyUnboundVariable]
                training.advance()
        ways.append(training.state())
        training.close()
    assert same_state(*ways)


def test_the_restless_are_told_by_the_command(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    folder = tmp_path / "restless"
    assert main(["restless", str(run), "updates=20", "rows=8", f"directory={folder}"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {len(said[name]) for name in ("neighbours", "all", "tens")} == {2}
    assert "over all 20" in said["verdict"]
    assert (folder / "diagnosis.json").is_file()
    assert kept == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["restless", str(run), "updates=20", "steps=1"]) == 2
    assert "give more steps=" in capsys.readouterr().err


def test_a_reward_that_is_the_return_ranks_perfectly(make: Make) -> None:
    training = make("sac", "loop.select_by=none")
    assert isinstance(training, ActingTraining)
    training.advance()
    episodes = mixed_episodes(training, 3, noise=(0.0, 0.5, 1.0))
    assert episodes.returns.shape == (2, 9)
    learned = learned_returns(training, episodes)
    assert learned == pytest.approx(episodes.returns, rel=1e-4)
    assert rank_correlations(learned, episodes.returns) == pytest.approx([1.0, 1.0])
    assert rank_correlations(-learned, episodes.returns) == pytest.approx([-1.0, -1.0])
    assert rank_correlations(learned * 0, episodes.returns).tolist() == [0.0, 0.0]
    training.close()


def test_a_frozen_reward_stays_as_it_is(make: Make) -> None:
    training = make("hype", "mixture=learner", "loop.select_by=none")
    assert isinstance(training, ActingTraining)
    training.reward = FrozenReward(training.reward)
    before = {name: value.clone() for name, value in training.reward.training_state().items()}
    while training.steps < training.total:
        training.advance()
    after = training.reward.training_state()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    training.close()


def test_drift_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["task=hopper", "runs=2", "steps=100", "episodes=2", "hidden=16,16", f"directory={tmp_path}"]
    monkeypatch.setattr("sys.argv", ["understudy", "diagnose", "drift", *given])
    assert main(["drift", "agents=sac,td3", *given]) == 0
    said = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(said["agents"]) == {"sac", "td3"}
    kept = json.loads((tmp_path / "diagnosis.json").read_text())
    assert [row[0] for row in kept["rows"]] == ["sac", "td3"]
    assert kept["command"][-1] == f"directory={tmp_path.name}"  # reports that have it are published
    assert f"by chance: sac by {kept['rows'][0][4]}, td3 by {kept['rows'][1][4]}." in said["verdict"]
    for found in said["agents"].values():
        assert found["zero"] != found["start"] != found["noise"] != found["zero"]


def test_a_reward_is_ranked_and_trained_on(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reward", str(run), "episodes=2", "quiet=true"]) == 0
    ranks = json.loads(capsys.readouterr().out)["correlations"]
    assert list(ranks) == ["100", "200"]
    assert all(-1 <= value <= 1 for values in ranks.values() for value in values)
    assert main(["retrain", str(run), "steps=100", "episodes=2", "quiet=true"]) == 0
    assert set(json.loads(capsys.readouterr().out)["returns"]) == {"as trained", "fresh on the frozen reward"}
    heavy = tmp_path / "heavy.yaml"
    heavy.write_text("bodies: {torso: {mass: 3}}")
    assert main(["retrain", str(run), "steps=100", "episodes=2", f"disturbances={heavy}"]) == 0
    captured = capsys.readouterr().out
    returns = json.loads(captured.strip().splitlines()[-1])["returns"]
    assert returns["as trained"] != returns["as trained, in the other body"]
    assert "both in the other body" in captured and ", in another body" in captured


BAD = {
    "check": (["dance"], "no check 'dance'"),
    "agent": (["drift", "agents=iq_learn"], "agents=iq_learn"),
    "few steps": (["drift", "agents=td3", "steps=1", "runs=2", "episodes=1", "hidden=8,8"], "has not been updated yet"),
    "run": (["reward", "nowhere"], "nowhere has no checkpoints"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    given, said = BAD[case]
    assert main(given) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("where", ["note", "note/below", "/proc/nothing"])
def test_where_nothing_can_be_written_is_told_before_the_work(
    where: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("note").write_text("a note")
    assert main(["restless", str(run), "updates=20", "rows=8", f"directory={where}"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"understudy: directory={where} ")
    assert captured.out == ""
    # What cannot be measured leaves no folder, either.
    assert main(["reward", "nowhere", "directory=a/b"]) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["note"]


def test_a_disk_that_refuses_does_not_lose_what_was_found(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "diagnosis.json").mkdir()
    assert main(["restless", str(run), "updates=20", "rows=8", f"directory={tmp_path}"]) == 2
    captured = capsys.readouterr()
    assert "cannot write" in captured.err
    assert "verdict" in json.loads(captured.out.splitlines()[-1])
