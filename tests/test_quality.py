"""What demonstrations will teach: measures by hand on small sets, and whether they foretell what cloning gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from recordings import record, spoil, write_edited
from scipy.stats import spearmanr

from understudy.datasets import Demonstrations, load, write_d4rl
from understudy.datasets.quality import Quality, measure, recommend
from understudy.imitation.trial import try_cloning
from understudy.robots import InputError, find_task
from understudy.scripts.inspect_data import main as inspect
from understudy.scripts.lesson import histogram


def made(actions: np.ndarray, observations: np.ndarray, episodes: int = 10) -> Demonstrations:
    """Rows of a Gap maze in episodes of equal length."""
    count = len(actions)
    length = count // episodes
    truncated = np.zeros(count, bool)
    truncated[length - 1 :: length] = True
    return Demonstrations(
        observations=observations.astype(np.float32), actions=actions.astype(np.float32),
        next_observations=observations.astype(np.float32), rewards=np.ones(count, np.float32),
        terminated=np.zeros(count, bool), truncated=truncated, times=np.tile(np.arange(length), episodes),
        starts=np.arange(episodes) * length, task_name="gap-maze", environment_id="understudy/GapMaze-v0",
    )  # fmt: skip


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_noise_is_the_share_of_variance_that_states_do_not_explain(random: np.random.Generator) -> None:
    states = random.normal(size=(4000, 2))
    clean = np.stack([0.15 * np.tanh(states[:, 0]), 0.15 * np.tanh(states[:, 1])], 1)
    sure = measure(made(clean, states), None, None)
    assert sure.action_noise is not None and sure.action_noise < 0.02
    noise = random.normal(size=clean.shape) * clean.std(0)
    half = measure(made(clean + noise, states), None, None)
    assert half.action_noise == pytest.approx(0.5, abs=0.05)  # as much of the one as of the other
    blind = measure(made(random.uniform(-1, 1, clean.shape), states), None, None)
    assert blind.action_noise == pytest.approx(1, abs=0.05)
    assert sure.trajectory_quality is None


def test_two_ways_are_told_from_one_that_is_noisy(random: np.random.Generator) -> None:
    states = random.normal(size=(4000, 2))
    side = random.choice([-1, 1], (4000, 1))
    either = 0.6 * side + 0.05 * random.normal(size=(4000, 2))
    modes = measure(made(either, states), None, None).multimodality
    assert modes is not None and modes > 0.8
    noisy = measure(made(np.clip(0.4 * random.normal(size=(4000, 2)), -1, 1), states), None, None).multimodality
    assert noisy is not None and noisy < 0.15
    by_state = measure(made(0.6 * np.sign(states), states), None, None).multimodality  # the state says which
    assert by_state is not None and by_state < 0.1


def test_coverage_grows_with_what_is_visited(random: np.random.Generator) -> None:
    wide = random.uniform(-1, 1, (4000, 4))
    line = random.uniform(-1, 1, (4000, 1)) * np.ones((1, 4))
    actions = 0.01 * random.normal(size=(4000, 2))
    covered = measure(made(actions + 0.5 * wide[:, :2], wide), None, None).coverage
    narrow = measure(made(actions + 0.5 * line[:, :2], line), None, None).coverage
    assert covered > 0.4 > 0.1 > narrow


def test_quality_is_between_random_and_expert() -> None:
    whole = record("hopper", 8)
    mean = whole.episode_returns.mean()
    found = measure(whole, 10.0, 110.0)
    assert found.trajectory_quality == pytest.approx((mean - 10) / 100)
    assert (found.rows, found.episodes, found.reached_end) == (len(whole), 8, 0.0)
    assert measure(whole, 10.0, 10.0).trajectory_quality is None
    few = measure(record("hopper", 1, limit=8), None, None)
    assert few.action_noise is None and few.multimodality is None


def test_what_never_changes_has_no_neighbours(random: np.random.Generator) -> None:
    still = measure(made(random.uniform(-1, 1, (200, 2)), np.ones((200, 3))), None, None)
    assert still.action_noise is None and still.coverage > 0


@pytest.mark.parametrize(
    ("changes", "acted", "goal", "learner"),
    [
        ({}, True, False, "bc"),
        ({"rows": 200}, True, False, "hype_filter"),
        ({"action_noise": 0.5}, True, False, "hype"),
        ({"multimodality": 0.3}, True, False, "diffusion_policy"),
        ({"trajectory_quality": 0.1}, True, True, "diffusion_policy loop.goals=true"),
        ({}, False, False, "mm reward.inputs=state"),
        ({"trajectory_quality": 0.02, "action_noise": 1.0}, True, False, "sac"),
        ({"trajectory_quality": 0.02}, False, False, "sac"),
        ({"trajectory_quality": None, "action_noise": 0.97}, True, False, "sac"),
        ({"trajectory_quality": None, "action_noise": 0.05}, True, False, "bc"),
    ],
)
def test_what_is_recommended(changes: dict[str, float | None], acted: bool, goal: bool, learner: str) -> None:
    good = {"rows": 10_000, "episodes": 10, "trajectory_quality": 1.0, "coverage": 0.3, "action_noise": 0.05}
    quality = Quality(**{**good, "transition_diversity": 0.1, "multimodality": 0.0, "reached_end": 1.0, **changes})  # pyright: ignore
    found, reason = recommend(quality, acted=acted, states=True, goal=goal)
    assert found == learner
    assert reason


@pytest.mark.parametrize(
    ("changes", "cloned", "learner", "words"),
    [
        ({"rows": 200}, 0.95, "bc", "scores 95% of what they do"),
        ({"action_noise": 0.5}, 0.99, "bc", "scores 99%"),
        ({"trajectory_quality": 0.5}, 0.48, "bc", "scores 96%"),  # of the demonstrations, not of an expert
        ({}, 0.2, "hype", "scores 20% of what they do"),
        ({"rows": 200}, 0.2, "hype_filter", "too few"),
        ({"trajectory_quality": 0.01}, 0.01, "sac", "nothing to imitate"),
    ],
)
def test_the_trial_has_a_say(changes: dict[str, float], cloned: float, learner: str, words: str) -> None:
    good = {"rows": 10_000, "episodes": 10, "trajectory_quality": 1.0, "coverage": 0.3, "action_noise": 0.05}
    quality = Quality(**{**good, "transition_diversity": 0.1, "multimodality": 0.0, "reached_end": 1.0, **changes})  # pyright: ignore
    found, reason = recommend(quality, acted=True, states=True, goal=False, cloned=cloned)
    assert found == learner
    assert words in reason


def test_without_rewards_nothing_is_known_of_returns() -> None:
    whole = record("hopper", 4)
    blind = Demonstrations(**{**vars(whole), "rewarded": False, "episode_returns": np.full(4, np.nan)})
    assert measure(blind, 10.0, 100.0).trajectory_quality is None
    assert histogram(blind.episode_returns) == ["not known, for there are no rewards"]
    with pytest.raises(InputError, match="nobody knows what its episodes return"):
        blind.returning(5.0)
    both = whole.joined(blind)
    assert not both.rewarded
    np.testing.assert_array_equal(both.episode_returns, [*whole.episode_returns, *[np.nan] * 4])
    assert both.returning(0.0).episode_returns.tolist() == whole.episode_returns.tolist()
    assert measure(both, 10.0, 100.0).trajectory_quality is None


def test_a_trial_learns_from_some_episodes_and_is_asked_about_others() -> None:
    whole, task = record("reacher", 4), find_task("reacher")
    trial = try_cloning(task, whole, -43.0, -4.0, updates=100, episodes=2)
    assert trial == try_cloning(task, whole, -43.0, -4.0, updates=100, episodes=2)
    assert trial.action_divergence is not None and trial.action_divergence > 0
    assert len(trial.returns) == 2
    assert trial.score == pytest.approx((np.mean(trial.returns) + 43) / 39)
    assert try_cloning(task, whole.episodes(1), None, None, updates=50, episodes=1).action_divergence is None
    with pytest.raises(InputError, match="no 'actions'"):
        try_cloning(task, Demonstrations(**{**vars(whole), "acted": False}), None, None)


def test_a_histogram_is_lines() -> None:
    assert histogram(np.array([2.0, 2.0])) == [f"       2.0  {'#' * 40} 2"]
    lines = histogram(np.array([0.0, 0.0, 0.0, 10.0]))
    assert [line.split()[-1] for line in lines] == ["3", "0", "0", "1"]


def test_the_command_measures_and_writes_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("understudy.scripts.lesson._UPDATES", 50)
    data, page = tmp_path / "data.hdf5", tmp_path / "page.html"
    write_d4rl(data, record("reacher", 4))
    assert inspect([str(data), "--quality", "--json", f"page={page}"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 0 <= report["quality"]["action_noise"] <= 1
    assert report["trial"]["updates"] == 50
    assert report["recommendation"]["learner"]
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert "data:image/png;base64," in text
    assert report["recommendation"]["reason"] in text
    assert inspect([str(data), "--quality"]) == 0
    assert "try learner=" in capsys.readouterr().out
    assert inspect([str(data), f"page={tmp_path / 'nowhere' / 'page.html'}"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_page_with_errors_says_them_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_edited(tmp_path / "x.hdf5", record("hopper", 4), spoil("actions", 5, 3.0))
    assert inspect([str(path), f"page={tmp_path / 'report'}", "--json"]) == 1  # the suffix is added
    assert json.loads(capsys.readouterr().out)["page"] == str(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.index("error out-of-bounds") < text.index("quality is not measured") < text.index("<h2>Arrays")
    assert not (tmp_path / "report.png").exists()
    assert inspect([str(path), "--quality"]) == 1
    assert "quality is not measured while there are errors" in capsys.readouterr().out
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # a download that broke
    assert inspect([str(cut), "--json", f"page={tmp_path / 'cut.htm'}"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [finding["check"] for finding in report["findings"]] == ["unreadable"]
    assert "incomplete or damaged" in (tmp_path / "cut.htm").read_text()


@pytest.mark.slow
def test_the_measures_foretell_what_cloning_gets() -> None:
    """Over sets that noise makes worse and worse; docs/results has the same of other tasks."""
    task, found = find_task("halfcheetah"), list[tuple[float, float, float]]()
    for scale in (0, 0.5, 1, 1.5, 2, 3):
        data = load("halfcheetah-expert", episodes=4, corruption=f"actions:1:{scale}" if scale else None)
        quality = measure(data, data.random_return, data.expert_return)
        trial = try_cloning(task, data, data.random_return, data.expert_return)
        assert quality.action_noise is not None and trial.action_divergence is not None and trial.score is not None
        found.append((quality.action_noise, trial.action_divergence, trial.score))
    noise, divergence, score = np.array(found).T
    assert spearmanr(noise, score).statistic < -0.9  # pyright: ignore
    assert spearmanr(divergence, score).statistic < -0.9  # pyright: ignore
