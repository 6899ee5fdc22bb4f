"""Policies that are told where to go: hindsight, what is told, guidance, and going there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CHUNKS, SMALL, run_to, same_state
from torch import Tensor

from understudy.datasets import Demonstrations
from understudy.imitation import ChunkPolicy, Policy, evaluate
from understudy.imitation.checkpoint import load_checkpoint, save_checkpoint
from understudy.imitation.chunk_cloning import ChunkCloning, ChunkConfig
from understudy.imitation.chunks import ChunkDiffusion, ChunkShape, Windows
from understudy.imitation.diffusion import signal_levels
from understudy.imitation.goals import Aim, seen
from understudy.imitation.networks import Normaliser
from understudy.robots import Goal, InputError, find_task
from understudy.scripts.evaluate import main as evaluate_main
from understudy.scripts.record import main as record_main
from understudy.scripts.train import main

MAZE = find_task("gap-maze")


def walks(episodes: int = 60, steps: int = 40) -> Demonstrations:
    """Straight walks in all directions from anywhere: the action is the direction, and says nothing of where."""
    random = np.random.default_rng(0)
    angles = random.uniform(-np.pi, np.pi, episodes)
    actions = 0.7 * np.stack([np.cos(angles), np.sin(angles)], -1)
    starts = random.uniform(-1, 1, (episodes, 1, 2))
    places = starts + 0.1 * np.arange(steps)[:, None] * actions[:, None]
    observations = np.concatenate((places, np.zeros_like(places)), -1).reshape(-1, 4).astype(np.float32)
    ends = np.zeros((episodes, steps), bool)
    ends[:, -1] = True
    nothing = np.zeros(len(observations), bool)
    return Demonstrations(
        observations=observations,
        actions=np.repeat(actions, steps, 0).astype(np.float32),
        next_observations=observations,
        rewards=np.zeros(len(observations), np.float32),
        terminated=nothing,
        truncated=ends.reshape(-1),
        times=np.tile(np.arange(steps), episodes),
        starts=np.arange(episodes) * steps,
        task_name="gap-maze",
        environment_id="understudy/GapMaze-v0",
        environment_keywords={},
        source="walks",
    )


def cloning(demonstrations: Demonstrations, **changed: Any) -> ChunkCloning:
    small: dict[str, Any] = {"hidden": (64, 64), "history": 1, "chunk": 2, "acts": 1, "times": 20, "samples": 5}
    config = ChunkConfig(**{**small, "steps": 2000, "batch_size": 128, "learning_rate": 2e-3, "goals": True, **changed})
    normaliser = Normaliser.of(demonstrations.observations)
    return ChunkCloning(config, MAZE, MAZE.spaces, demonstrations, normaliser, [0, 1])


def test_goals_of_an_episode_are_where_it_came_to() -> None:
    data = walks(episodes=3, steps=10)
    windows = Windows(data, ChunkShape(4, 2, history=1, chunk=2, acts=1, goal=2))
    rows = torch.tensor([[0, 5, 9, 10, 27]]).repeat(1, 400)
    uniform = torch.rand(rows.shape, generator=torch.Generator().manual_seed(0))
    goals = windows.reached(rows, uniform, furthest=4)
    places = data.observations[:, :2]
    for row, ahead in ((0, {1, 2, 3, 4}), (5, {6, 7, 8, 9}), (9, {9}), (10, {11, 12, 13, 14}), (27, {28, 29})):
        mine = goals[rows == row].numpy()
        gaps = np.abs(mine[:, None] - places).max(-1)
        assert (gaps.min(1) == 0).all()
        which, counts = np.unique(gaps.argmin(1), return_counts=True)
        assert set(which) == ahead
        assert counts.min() > 0.7 * 400 / len(ahead)


def test_a_goal_is_told_in_the_units_of_what_reaches_it() -> None:
    normaliser = Normaliser(torch.tensor([1.0, 2.0, 0.0, 0.0]), torch.tensor([2.0, 4.0, 1.0, 1.0]), limit=3.0)
    window = torch.tensor([[[3.0, 2.0, 0.0, 0.0]], [[1.0, -2.0, 0.0, 1.0]]])
    fixed = Aim(Goal(2, (5.0, 100.0)))
    assert seen(window, normaliser, fixed).tolist() == [[1, 0, 0, 0, 2, 3, 1], [0, -1, 0, 1, 2, 3, 1]]
    observed = Aim(Goal(2))
    assert seen(window, normaliser, observed)[:, 4:].tolist() == [[-0.5, -0.5, 1], [-0.5, -0.25, 1]]
    given = seen(window, normaliser, fixed, torch.tensor([[1.0, 6.0], [3.0, 2.0]]), torch.tensor([[1.0], [0.0]]))
    assert given[:, 4:].tolist() == [[0, 1, 1], [0, 0, 0]]
    assert fixed.visible(None, 4, "view") is None
    assert np.array_equal(observed.visible(None, 8, "view"), [1, 1, 1, 1, 1, 1, 0, 0])  # pyright: ignore
    assert np.array_equal(observed.visible(np.array([1, 1, 0, 1.0]), 4, "view"), [1, 1, 0, 0])  # pyright: ignore
    with pytest.raises(InputError, match="view hides the first 2 columns"):
        observed.visible(np.array([1, 0, 1, 1.0]), 4, "view")


class _Named(torch.nn.Module):
    """Names as noise 0.1 without a goal, and 0.1 + the goal's numbers with one."""

    signal = signal_levels(20, "squaredcos_cap_v2")

    def forward(self, rows: Tensor, times: Tensor, *, given: Tensor, exact: bool) -> Tensor:
        return 0.1 + given[..., 2:4] * given[..., 4:]


@pytest.mark.parametrize(("guidance", "expected"), [(0.0, 0.1), (1.0, 0.3), (2.5, 0.6)])
def test_guidance_leads_from_no_goal_to_the_goal_and_beyond(guidance: float, expected: float) -> None:
    model = ChunkDiffusion(1, ChunkShape(2, 2, 1, 1, 1, goal=2), (8,), _Named.signal, 5, guidance=guidance)
    model.predictor = _Named()  # pyright: ignore
    told = torch.tensor([[[9.0, 9.0, 0.2, 0.2, 1.0]]])
    named = model._named(torch.zeros(1, 1, 2), torch.zeros(1, 1), told)  # pyright: ignore
    torch.testing.assert_close(named, torch.full((1, 1, 2), expected))


_HOW: list[dict[str, Any]] = [
    {"predicts": "noise"},
    {"predicts": "chunk"},
    {"predicts": "chunk", "guidance": 2.5},
    {"predicts": "chunk", "guidance": 1.5, "samples": 2, "distil": 800, "distil_from": 10, "steps": 2800},
    {"model": "regression"},
]


@pytest.mark.parametrize("how", _HOW, ids=str)
def test_walks_in_all_directions_teach_the_way_to_any_goal(how: dict[str, Any]) -> None:
    training = cloning(walks(), **how)
    run_to(training, training.total)
    policy = training.policy(1, {})
    assert isinstance(policy, ChunkPolicy)
    random = np.random.default_rng(1)
    places = np.concatenate((random.uniform(-1, 1, (100, 2)), np.zeros((100, 2))), -1).astype(np.float32)
    for goal in ((2.5, 0.0), (-1.0, 2.5)):
        policy.go_to(goal)
        ways = np.array(goal) - places[:, :2]
        actions, _ = policy.predict(places)
        cosines = (ways * actions).sum(-1) / np.linalg.norm(ways, axis=-1) / np.linalg.norm(actions, axis=-1)
        assert np.median(cosines) > 0.9
    # Nothing but the goal says where: without one all directions are drawn.
    if how.get("model") != "regression" and "distil" not in how:  # what is distilled has its guidance in it
        policy._sizes = dataclasses.replace(policy._sizes, guidance=0.0)  # pyright: ignore
        policy.model.guidance = 0.0  # pyright: ignore
        actions, _ = policy.predict(np.zeros((200, 4), np.float32))
        assert np.linalg.norm(actions.mean(0)) < 0.3


def test_a_policy_that_is_told_its_goal_acts_as_its_training_and_is_read_again(tmp_path: Path) -> None:
    training = cloning(walks(), guidance=1.5)
    run_to(training, 200)
    half = tmp_path / "half"
    save_checkpoint(half, training.steps, training.state())
    resumed = cloning(walks(), guidance=1.5)
    resumed.set_state(load_checkpoint(half))
    seeds = range(10_000_000, 10_000_002)
    mine = evaluate(training.controller(seeds), MAZE, 2, 2)
    training.policy(0, {}).save_pretrained(tmp_path / "policy")
    policy = Policy.from_pretrained(tmp_path / "policy")
    theirs = evaluate(policy.controller(seeds), MAZE, 1, 2)
    np.testing.assert_allclose(theirs.returns[0], mine.returns[0], rtol=1e-3)
    config = json.loads((tmp_path / "policy" / "config.json").read_text())
    assert (config["goal"], config["place"], config["guidance"]) == (2, [1.4, -1.0], 1.5)
    assert isinstance(policy, ChunkPolicy)
    before, _ = policy.predict(np.zeros(4, np.float32))
    policy.go_to((-1.0, 1.0))
    assert not np.array_equal(policy.predict(np.zeros(4, np.float32))[0], before)
    policy.go_to(None)
    np.testing.assert_array_equal(policy.predict(np.zeros(4, np.float32))[0], before)
    with pytest.raises(InputError, match="the goal has 3 numbers, and this policy is told 2"):
        policy.go_to((0, 0, 0))
    assert same_state(run_to(resumed, 400).state(), run_to(training, 400).state())
    plain = cloning(walks(), goals=False).policy(0, {})
    assert isinstance(plain, ChunkPolicy)
    with pytest.raises(InputError, match=r"told no goal: train one with loop\.goals=true"):
        plain.go_to((0, 0))
    config["place"] = [1.0]
    (tmp_path / "policy" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="'place' must have as many numbers"):
        Policy.from_pretrained(tmp_path / "policy")


def test_from_play_to_the_goal_by_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a maze whose observation says the goal."""
    play, run = tmp_path / "play.hdf5", tmp_path / "run"
    assert record_main(["play", "task=pointmaze", "episodes=2", f"out={play}", "quiet=true"]) == 0
    small = [
        option for option in (*SMALL, *CHUNKS, "loop.times=20", "loop.samples=3") if not option.startswith("task=")
    ]
    options = ["learner=diffusion_policy", "task=pointmaze", "loop.goals=true", "loop.guidance=2", *small]
    assert main([*options, f"data={play}", f"directory={run}"]) == 0
    capsys.readouterr()
    assert evaluate_main([str(run / "policy"), "episodes=2", "quiet=true"]) == 0
    assert "success" in json.loads(capsys.readouterr().out)
    policy = Policy.from_pretrained(run / "policy")
    # Another goal is another action, though the columns that say it are hidden. Draws are by the row's number.
    observation = np.zeros((50, find_task("pointmaze").spaces.observation_size), np.float32)
    nowhere, _ = policy.predict(observation)
    observation[:, -2:] = 5.0
    somewhere, _ = policy.predict(observation)
    assert not np.array_equal(nowhere, somewhere)
    assert policy.normaliser(torch.from_numpy(observation))[:, -2:].max() < 1e-20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("task=hopper", "loop.goals=true"), "hopper has no goal to be told"),
        (("task=gap-maze", "loop.guidance=2"), "loop.goals=false tells no goal"),
        (("task=gap-maze", "loop.goal_dropout=0.2"), "loop.goals=false tells no goal"),
        (("task=gap-maze", "loop.goals=true", "loop.model=regression", "loop.guidance=2"), "draws nothing"),
        (("task=gap-maze", "loop.goals=true", "loop.view=[velocities]"), "loop.view hides the first 2 columns"),
        (("task=gap-maze", "loop.goals=true", "loop.goal_dropout=1.5"), "at most 1"),
    ],
)
def test_what_cannot_be_told_is_refused(
    options: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], data_file: Path
) -> None:
    data = data_file
    if "task=gap-maze" in options:
        data = tmp_path / "play.hdf5"
        assert record_main(["play", "task=gap-maze", "episodes=1", f"out={data}", "quiet=true"]) == 0
    run = tmp_path / "run"
    small = ("device=cpu", "threads=1", "steps=100")
    assert main(["learner=diffusion_policy", *options, *small, f"data={data}", f"directory={run}"]) == 2
    assert words in capsys.readouterr().err
    assert not run.exists()
