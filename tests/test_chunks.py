"""Chunks of actions: what is learned from, how they are drawn, and how one acts on them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CHUNKS, DAGGER, SMALL, Make, make_demonstrations, run_to
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from understudy.datasets import Demonstrations
from understudy.imitation import ChunkPolicy, Policy, evaluate
from understudy.imitation.chunk_cloning import ChunkConfig
from understudy.imitation.chunks import ChunkDiffusion, ChunkRegression, ChunkShape, Predicted, Receding, Windows, step
from understudy.imitation.diffusion import (
    cleaned,
    denoised,
    sampling_times,
    sampling_times_of_second_order,
    signal_levels,
)
from understudy.imitation.optimisers import Adam
from understudy.imitation.randomness import Generators
from understudy.robots import InputError, find_task
from understudy.scripts.deploy import main as deploy_main
from understudy.scripts.evaluate import main as evaluate_main
from understudy.scripts.record import main as record_main
from understudy.scripts.train import main

SHAPE = ChunkShape(observation_size=1, action_size=1, history=2, chunk=3, acts=2)


def two_episodes() -> Demonstrations:
    """Rows 0 1 2 and 10 11, whose actions are hundredths of their observations, negative."""
    seen = np.array([[0], [1], [2], [10], [11]], np.float32)
    many = make_demonstrations(2)
    return dataclasses.replace(
        many, observations=seen, next_observations=seen, actions=-seen / 100, rewards=seen[:, 0],
        terminated=np.zeros(5, bool), truncated=np.zeros(5, bool), times=np.array([0, 1, 2, 0, 1]),
        starts=np.array([0, 3]), episode_lengths=np.array([3, 2]), episode_returns=np.zeros(2),
        episode_seeds=None, states=None, qpos=None, qvel=None,
    )  # fmt: skip


def test_windows_stay_within_their_episode() -> None:
    windows = Windows(two_episodes(), SHAPE)
    seen, said, known = windows[torch.arange(len(windows))[None]]
    assert seen[0, ..., 0].tolist() == [[0, 0], [0, 1], [1, 2], [10, 10], [10, 11]]
    said = (100 * said).round()
    assert said[0, ..., 0].tolist() == [[0, -1, -2], [-1, -2, -2], [-2] * 3, [-10, -11, -11], [-11] * 3]
    assert known[0, ..., 0].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]]


def test_rows_with_gaps_have_no_chunks() -> None:
    with pytest.raises(InputError, match=r"leave out data\.every="):
        Windows(make_demonstrations().every(3), SHAPE)
    some = Windows(make_demonstrations().rows(15), SHAPE)  # a part of the last episode
    assert some[torch.tensor([[14]])][2].tolist() == [[[[1], [0], [0]]]]


@pytest.mark.parametrize("steps", [2, 5, 10, 20])
def test_drawing_is_diffusers_ddim(steps: int) -> None:
    """With an oracle that names other noise at every time, on rows of which some leave [−1, 1]."""
    times = 100
    theirs: Any = DDIMScheduler(
        num_train_timesteps=times, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing", clip_sample=True
    )
    theirs.set_timesteps(steps)
    signal = signal_levels(times, "squaredcos_cap_v2")
    torch.testing.assert_close(signal, theirs.alphas_cumprod)
    chosen = sampling_times(times, steps)
    assert chosen == theirs.timesteps.tolist()
    assert sampling_times(times, 3) == [99, 66, 32]  # where theirs takes 33 for the one before 66
    generator = torch.Generator().manual_seed(0)
    ours = expected = torch.randn(4, 8, generator=generator)
    for now, then in zip(chosen, [*chosen[1:], -1], strict=True):
        noise = torch.randn(4, 8, generator=generator)
        expected = theirs.step(noise, now, expected, eta=0.0, use_clipped_model_output=True).prev_sample
        clean = cleaned(ours, noise, signal[now])
        ours = denoised(ours, clean, signal[now], signal[then] if then >= 0 else torch.tensor(1.0))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [2, 10])
def test_drawing_by_named_chunks_is_diffusers_ddim_too(steps: int) -> None:
    """With an oracle that names a chunk of every row and time, some beyond [−1, 1]."""
    theirs: Any = DDIMScheduler(
        num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing", clip_sample=True,
        prediction_type="sample",
    )  # fmt: skip
    theirs.set_timesteps(steps)
    model = ChunkDiffusion(1, SHAPE, (4,), signal_levels(100, "squaredcos_cap_v2"), samples=steps, predicts="chunk")

    def named(rows: torch.Tensor, at: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return 0.9 * rows.sin() + 0.01 * at.unsqueeze(-1) - 0.3

    model._named = named  # pyright: ignore
    seen = torch.zeros(1, 40, 2)
    noise = expected = torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(0))
    for time in theirs.timesteps:
        said = named(expected, torch.full((1, 40), int(time)), seen)
        expected = theirs.step(said, time, expected, eta=0.0, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(model.chunk(seen, noise), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_drawing_in_second_order_is_diffusers_dpm_solver(steps: int) -> None:
    """With an oracle that names the noise in rows from N(0.3 s, 0.2²), whose draws stay well within [−1, 1]."""
    signal = signal_levels(100, "squaredcos_cap_v2")
    times = sampling_times_of_second_order(signal, steps)
    assert float(signal[times[0]]) >= 0.02 > float(signal[times[0] + 1])
    theirs: Any = DPMSolverMultistepScheduler(
        num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", final_sigmas_type="sigma_min", euler_at_final=False,
        lower_order_final=False,
    )  # fmt: skip
    theirs.set_timesteps(timesteps=times)
    seen = torch.randn(1, 40, 2, generator=torch.Generator().manual_seed(1))
    model = ChunkDiffusion(1, SHAPE, (4,), signal, samples=steps, solver="dpm")

    def named(rows: torch.Tensor, at: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        a = signal[at].unsqueeze(-1)
        return (1 - a).sqrt() * (rows - a.sqrt() * 0.3 * given[..., :1].tanh()) / (1 - a + a * 0.04)

    model._named = named  # pyright: ignore
    noise = expected = torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(0)).clamp(-1.5, 1.5)
    for time in theirs.timesteps:
        noise_named = named(expected, torch.full((1, 40), int(time)), seen)
        expected = theirs.step(noise_named, time, expected).prev_sample
    torch.testing.assert_close(model.chunk(seen, noise), expected, rtol=1e-3, atol=1e-4)


Model = ChunkRegression | ChunkDiffusion


def models(predicts: Predicted = "noise") -> list[Model]:
    signal = signal_levels(50, "squaredcos_cap_v2")
    diffusion = ChunkDiffusion(1, SHAPE, (64, 64), signal, samples=10, predicts=predicts)
    return [diffusion, ChunkRegression(1, SHAPE, (64, 64))]


def drawn_after(model: Model, seen: torch.Tensor, said: Any) -> torch.Tensor:
    """Chunks for windows (W, 2), 250 draws of each (W, 250, 3), after learning what an expert says there."""
    generators, random = Generators([0]), torch.Generator().manual_seed(1)
    for stack in model.stacks():
        stack.initialise(generators)
    optimiser = Adam(model.stacks(), 2e-3)
    for _ in range(600):
        which = torch.randint(len(seen), (1, 128), generator=random)
        chunks = said(which, random).unsqueeze(-1).expand(-1, -1, 3)
        optimiser.step(model.errors(seen[which], chunks, generators).mean())
    with torch.no_grad():
        windows = seen.repeat_interleave(250, 0)[None]
        return model.chunk(windows, torch.randn(1, len(windows[0]), 3, generator=random)).view(len(seen), 250, 3)


def left_or_right(which: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, which.shape, generator=random) * 1.6 - 0.8


@pytest.mark.parametrize("predicts", ["noise", "chunk"])
def test_diffusion_takes_either_way_and_regression_neither(predicts: Predicted) -> None:
    """An expert goes left or right of an obstacle that is straight ahead."""
    diffusion, regression = (drawn_after(model, torch.zeros(1, 2), left_or_right)[0] for model in models(predicts))
    left, right = ((diffusion - side).abs().amax(-1) < 0.25 for side in (-0.8, 0.8))  # the same side throughout
    assert left.float().mean() > 0.3
    assert right.float().mean() > 0.3
    assert (left | right).float().mean() > 0.8
    assert regression.abs().max() < 0.2


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_said_depends_on_all_that_was_seen(which: int) -> None:
    """On both observations of a window: their product decides the side."""
    seen = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    model = models()[which]
    found = drawn_after(model, seen, lambda which, random: 0.7 * seen.prod(-1)[which])
    assert ((found - 0.7 * seen.prod(-1)[:, None, None]).abs().amax(-1) < 0.2).float().mean() > 0.95


def test_acting_takes_some_of_a_chunk_and_plans_anew() -> None:
    """The plan repeats what it sees: its newest observation plus 0, 100 and 200."""
    asked: list[tuple[list[list[float]], list[int]]] = []

    def plan(window: torch.Tensor, planned: torch.Tensor) -> torch.Tensor:
        asked.append((window[..., 0].tolist(), planned.tolist()))
        return window[:, -1:] + 100 * torch.arange(3.0)[:, None]

    rows = [torch.tensor([[1.0 * t], [10.0 * t]]) for t in range(5)]
    memory, acted = None, []
    for row in rows[:3]:
        actions, memory = step(memory, row, SHAPE, plan)
        acted.append(actions[:, 0].tolist())
    assert acted == [[0, 0], [100, 100], [2, 20]]
    assert asked == [([[0, 0], [0, 0]], [0, 0]), ([[1, 2], [10, 20]], [1, 1])]
    actions, begun = step(memory, rows[3], SHAPE, plan, torch.tensor([False, True]))
    assert actions[:, 0].tolist() == [102, 30]  # the second begins an episode
    assert asked[-1] == ([[2, 3], [30, 30]], [2, 0])
    assert begun.planned.tolist() == [2, 1]
    assert step(memory, rows[3], SHAPE, plan)[0][:, 0].tolist() == [102, 120]  # what is remembered is not changed
    assert step(begun, rows[4], SHAPE, plan)[0][:, 0].tolist() == [4, 130]
    act = Receding(plan, SHAPE)
    assert [act(row)[:, 0].tolist() for row in rows[:3]] == acted


@pytest.mark.parametrize("learner", ["diffusion_policy", "bc_chunks"])
def test_the_policy_acts_in_episodes_as_the_training_does(make: Make, learner: str, tmp_path: Path) -> None:
    training: Any = run_to(make(learner), 200)
    seeds = range(10_000_000, 10_000_003)
    mine = evaluate(training.controller(seeds), training.task, 2, 3)
    training.policy(1, {}).save_pretrained(tmp_path / "policy")
    policy = Policy.from_pretrained(tmp_path / "policy")
    assert isinstance(policy, ChunkPolicy)
    theirs = evaluate(policy.controller(seeds), training.task, 1, 3)
    np.testing.assert_allclose(theirs.returns[0], mine.returns[1], rtol=1e-3)
    assert np.array_equal(theirs.lengths[0], mine.lengths[1])
    # One observation at a time, the memory in the state: the first episode again, whose draws are the first row's.
    task = find_task("hopper")
    environment = task.make()
    observation, state, total = environment.reset(seed=10_000_000)[0], None, 0.0
    alone = evaluate(policy.controller(), task, 1, 1)
    for _ in range(int(alone.lengths[0, 0])):
        action, state = policy.predict(observation, state)
        observation, reward = environment.step(action)[:2]
        total += float(reward)
    assert total == pytest.approx(alone.returns[0, 0], rel=1e-3)
    environment.close()


def test_what_acts_is_the_average_that_it_is_said_to_be(make: Make) -> None:
    """After update t the newest parameters count (p + 1) / (t + p), p = 8 (arXiv 1212.1824)."""
    training: Any = make("diffusion_policy", "loop.averaging=8")
    averaged = torch.zeros(())
    for update in range(1, 31):
        training.update(1)
        newest = training.model.stacks()[-1].master()[0].detach().double()
        averaged = averaged + (9 / (update + 8)) * (newest - averaged)
    kept = training.averaged.stacks()[-1].master()[0].detach()
    torch.testing.assert_close(kept.double(), averaged, rtol=1e-4, atol=1e-6)
    assert (kept - newest).abs().max() > 1e-4
    assert torch.equal(training.policy(1, {}).model.stacks()[-1].master()[0], kept[1:2])


@pytest.mark.parametrize("learner", ["diffusion_policy", "bc_chunks"])
def test_it_is_deployed_in_lockstep_as_it_is_evaluated(
    make: Make, learner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_to(make(learner), 100).policy(0, {}).save_pretrained(tmp_path / "policy")
    assert evaluate_main([str(tmp_path / "policy"), "episodes=1", "quiet=true"]) == 0
    evaluated = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert deploy_main([str(tmp_path / "policy"), "lockstep=true", "quiet=true"]) == 0
    deployed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert deployed["return"] == pytest.approx(evaluated["return"]["runs"][0], rel=1e-3)


def test_predict_keeps_its_memory_in_the_state(make: Make) -> None:
    policy = run_to(make("bc_chunks"), 200).policy(0, {})
    seen = np.random.default_rng(0).normal(size=(4, 2, 11)).astype(np.float32)
    state, kept = None, []
    for observation in seen:
        kept.append(state)
        action, state = policy.predict(observation, state)
    again, _ = policy.predict(seen[3], kept[3])
    np.testing.assert_array_equal(again, action)
    begun, _ = policy.predict(seen[3], kept[3], episode_start=np.array([True, False]))
    fresh, _ = policy.predict(seen[3])
    np.testing.assert_allclose(begun[0], fresh[0], atol=1e-6)
    np.testing.assert_array_equal(begun[1], again[1])
    with pytest.raises(InputError, match="the state is of 2 episodes, the observation of 1"):
        policy.predict(seen[3][0], state)
    with pytest.raises(InputError, match="no distribution to sample from"):
        policy.predict(seen[3], kept[3], deterministic=False)
    other = run_to(make("bc_chunks", "seed=5"), 200).policy(0, {})
    assert not np.array_equal(other.predict(seen[3], None)[0], fresh)
    replanned = dataclasses.replace(kept[3], taken=kept[3].taken + 9)  # due to plan: by the policy that is asked
    assert not np.array_equal(other.predict(seen[3], replanned)[0], policy.predict(seen[3], replanned)[0])


def test_draws_are_the_same_every_time_unless_asked_for(make: Make) -> None:
    policy = run_to(make("diffusion_policy"), 200).policy(0, {})
    seen = np.zeros((3, 11), np.float32)
    same, other = (policy.predict(seen)[0] for _ in range(2))
    np.testing.assert_array_equal(same, other)
    policy.seed(1)
    drawn = [policy.predict(seen, deterministic=False)[0] for _ in range(2)]
    policy.seed(1)
    assert not np.array_equal(*drawn)
    np.testing.assert_array_equal(policy.predict(seen, deterministic=False)[0], drawn[0])
    many = torch.zeros(20, 11)
    one, two = (policy.controller([7, *range(first, first + 19)])(many) for first in (8, 108))
    assert torch.equal(one[0], two[0])  # an episode's draws are its own
    assert not torch.equal(one[1:], two[1:])
    torch.testing.assert_close(policy.controller(range(8, 27))(many[1:]), one[1:])


def test_commands_treat_it_like_any_other_policy(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    small = (*SMALL, *CHUNKS, "loop.times=20", "loop.samples=3")
    assert main(["learner=diffusion_policy", *small, f"data={data_file}", f"directory={run}"]) == 0
    capsys.readouterr()
    assert evaluate_main([str(run), "episodes=2", "quiet=true"]) == 0
    result = json.loads(capsys.readouterr().out)
    latency = result["latency_ms"]
    assert 0 < latency["median"] < latency["plan"] <= latency["worst"]  # two of three steps take what was planned
    assert evaluate_main([str(run / "policy"), "episodes=18", "quiet=true"]) == 0
    played = json.loads(capsys.readouterr().out)["return"]
    out = tmp_path / "recorded.hdf5"
    assert record_main([str(run), "episodes=18", f"out={out}", "seed=10000000", "quiet=true"]) == 0
    recorded = json.loads(capsys.readouterr().out)["return"]["mean"]
    assert recorded == pytest.approx(played["runs"][0], rel=1e-3)  # in blocks of another size
    assert evaluate_main([str(run / "policy"), "episodes=1", "deterministic=false"]) == 0
    assert " ms, of the 8.0 ms that the robot has for one" in capsys.readouterr().out
    arguments = ["learner=dagger", f"expert={run}", *SMALL, f"data={data_file}", f"directory={tmp_path / 'dagger'}"]
    assert main([*arguments, *DAGGER]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"]["policy"] == 200


def test_what_cannot_be_meant_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loop\.acts=9"):
        ChunkConfig(acts=9, chunk=8)
    with pytest.raises(InputError, match=r"loop\.samples=200"):
        ChunkConfig(samples=200)
    for given, words in (
        ({}, r"loop\.predicts=chunk"),
        ({"predicts": "chunk", "solver": "dpm"}, r"loop\.solver=ddim"),
        ({"predicts": "chunk", "samples": 4}, r"distil_from=30: a multiple of loop\.samples=4"),
        ({"predicts": "chunk", "samples": 30}, r"distil_from=30: a multiple"),
        ({"predicts": "chunk", "steps": 500}, r"loop\.distil=500: they are the last of steps=500"),
    ):
        with pytest.raises(InputError, match=words):
            ChunkConfig(distil=500, **given)  # pyright: ignore
    with pytest.raises(
        InputError, match=r"loop\.samples=20: of loop\.times=20 loop\.solver=dpm goes through 17 at most"
    ):
        ChunkConfig(times=20, samples=20, solver="dpm")
    with pytest.raises(InputError, match=r"goes through 0 at most"):
        ChunkConfig(times=1, samples=1, solver="dpm")
    assert len(set(sampling_times_of_second_order(signal_levels(20, "squaredcos_cap_v2"), 17))) == 17
    run_to(make("diffusion_policy"), 100).policy(0, {}).save_pretrained(tmp_path / "policy")
    path = tmp_path / "policy" / "config.json"
    values = json.loads(path.read_text())
    for change, message in (
        ({"samples": 50}, "'samples' must be at most 'times'"),
        ({"samples": 18, "solver": "dpm"}, "'samples' must be at most 17, which is how many"),
        ({"acts": 5}, "'acts' must be at most 'chunk'"),
        ({"history": 0}, "'history' must be a positive whole number"),
        ({"history": 3}, "does not fit its config"),
        ({"head": "chunk"}, "is damaged"),
        ({"head": "deterministic"}, "is damaged"),
    ):
        path.write_text(json.dumps({**values, **change}))
        with pytest.raises(InputError, match=message):
            Policy.from_pretrained(tmp_path / "policy")
    path.write_text(json.dumps({**values, "samples": 2}))
    assert values["activation"] == "silu"
    fast = Policy.from_pretrained(tmp_path / "policy")
    assert isinstance(fast.net, ChunkDiffusion)
    assert fast.net.samples == 2
