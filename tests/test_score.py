"""Score matching: the predictors against their optimum, and the reward against the divergence it estimates."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from test_rewards import rows, shares
from torch import Tensor

from understudy.imitation.diffusion import NoisePredictor, signal_levels, stratified_times
from understudy.imitation.networks import Normaliser
from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Batch
from understudy.imitation.rewards import ScoreConfig, ScoreReward
from understudy.robots import InputError

SIZE, ACTIONS, RUNS = 3, 2, 2


def normal_rows(shift: float, seed: int, count: int = 512, runs: int = RUNS) -> Batch:
    """States drawn from N(shift, 1)."""
    states = shift + torch.randn(runs, count, SIZE, generator=torch.Generator().manual_seed(seed))
    nothing = torch.zeros(runs, count)
    return Batch(states, torch.zeros(runs, count, ACTIONS), states, nothing, nothing, nothing)


def make(runs: int = RUNS, expert: Batch | None = None, **settings: object) -> ScoreReward:
    options = {"hidden": (32,), "batch_size": 256, "expert_updates": 5, "levels": 4, **settings}
    data = (normal_rows(0.0, 0, 4096, 1) if expert is None else expert).of_run(0)
    reward = ScoreReward(ScoreConfig(**options), runs, SIZE, ACTIONS, Normaliser.identity(SIZE), data)  # pyright: ignore
    reward.initialise(Generators(range(runs)))
    return reward


class Optimal(NoisePredictor):
    """The best predictor of rows from N(mean, 1): ε̂ = √(1 − ᾱ) (x_t − √ᾱ mean)."""

    def __init__(self, mean: float, signal: Tensor) -> None:
        super().__init__((RUNS,), SIZE, (4,), signal)
        self.mean = mean

    def forward(self, noised: Tensor, times: Tensor, *, given: Tensor | None = None, exact: bool = False) -> Tensor:
        signal = self.signal[times].unsqueeze(-1)
        return (1 - signal).sqrt() * (noised - signal.sqrt() * self.mean)


def know(reward: ScoreReward, expert: float, learner: float) -> None:
    """Put the best predictors of both distributions in place."""
    reward.expert, reward.learner = (Optimal(mean, reward.expert.signal) for mean in (expert, learner))


@pytest.mark.parametrize("times", [10, 1000, 5000])
def test_the_schedule_is_that_of_ddpm(times: int) -> None:
    signal = signal_levels(times)
    by_hand = np.cumprod(1 - np.linspace(1e-4, 0.02, times))
    np.testing.assert_allclose(signal.numpy(), by_hand, rtol=2e-4)
    predictor = NoisePredictor((1,), SIZE, (4,), signal)
    clean, noise = torch.randn(2, 1, 6, SIZE, generator=torch.Generator().manual_seed(0))
    when = torch.linspace(0, times - 1, 6).long()
    theirs = DDPMScheduler(num_train_timesteps=times).add_noise(clean[0], noise[0], when)  # pyright: ignore
    torch.testing.assert_close(predictor.noised(clean, noise, when[None])[0], theirs)


def test_every_row_meets_every_noise_level() -> None:
    """The released code's tiling gives row i only the levels equal to i modulo a divisor (field.md 6.4, item 1)."""
    uniform = torch.rand(2, 8, 1000, generator=torch.Generator().manual_seed(0))
    when = stratified_times(uniform, 600)
    assert torch.equal(when // 75, torch.arange(8)[None, :, None].expand_as(when))
    assert len(when.unique()) == 600
    assert stratified_times(torch.full((1, 7, 1), 1 - 2**-24), 600).max() == 599
    # And in what the reward uses, also where the batch is larger than the noise at hand, and has its size in common.
    met = levels_met(make(levels=4), 1000)
    assert all(levels == {0, 1, 2, 3} for row in met for levels in row)


def levels_met(reward: ScoreReward, count: int) -> list[list[set[int]]]:
    """Which of its levels each of ``count`` rows meets in a reward, for each run; every row is told by its values."""
    reward.update(normal_rows(0, 1), normal_rows(0, 2), shares(0.1, 0.1), Generators([0, 1]))
    batch, seen = normal_rows(0.0, 3, count), list[tuple[Tensor, Tensor]]()

    def noted(rows: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        seen.append((rows, times))
        return torch.zeros_like(rows)

    reward.expert.squares = reward.learner.squares = noted  # pyright: ignore[reportAttributeAccessIssue]
    reward.scores(batch)
    known = [{tuple(row): number for number, row in enumerate(run)} for run in reward.inputs(batch).tolist()]
    met: list[list[set[int]]] = [[set() for _ in range(count)] for _ in range(RUNS)]
    stratum = reward.config.last_time // reward.config.levels
    for states, times in seen[::2]:  # the learner's; the expert's are the same
        for run in range(RUNS):
            for row, time in zip(states[run].tolist(), times[run].tolist(), strict=True):
                met[run][known[run][tuple(row)]].add(time // stratum)
    return met


@pytest.mark.parametrize(("count", "levels", "each"), [(32, 20, 5), (40, 20, 1), (9, 20, 20), (64, 40, 5)])
def test_tiled_as_released_a_row_meets_only_some_levels(count: int, levels: int, each: int) -> None:
    """Those equal to its number modulo the greatest divisor of both (reference/algorithms.md 3.14)."""
    met = levels_met(make(levels=levels, grid=True, tiled=True, standardise="spread"), count)
    common = math.gcd(count, levels)
    for run in met:
        assert [len(of) for of in run] == [each] * count
        assert all({level % common for level in of} == {row % common} for row, of in enumerate(run))
    with pytest.raises(InputError, match=r"reward.tiled=true .* add reward.standardise=batch"):
        make(tiled=True)


def test_a_predictor_learns_the_best_prediction_of_a_gaussian() -> None:
    """Of N(0, 1) the best error is ᾱ_t at time t."""
    reward = make(expert_updates=1500, batch_size=512, learning_rate=5e-3, hidden=(64,))
    reward.update(normal_rows(0, 1), normal_rows(0, 2), shares(0.1, 0.1), Generators([0, 1]))
    random = torch.Generator().manual_seed(5)
    clean, noise = torch.randn(2, RUNS, 4000, SIZE, generator=random)
    for time in (30, 150, 300, 500):
        when = torch.full((RUNS, 4000), time)
        found = reward.expert.squares(clean, noise, when).mean((-1, -2))
        best = float(reward.expert.signal[time])
        assert ((found > best - 0.03) & (found < best + 0.06)).all(), (time, found, best)


def test_the_reward_is_the_diffused_divergence() -> None:
    """Of N(0, 1) and N(m, 1) it is ± m² E_t[ᾱ (1 − ᾱ)] on the learner's and on the expert's rows; 0 for m = 0."""
    reward = make(levels=8, last_time=600, absorbing=False, standardise="none")
    generators, signal = Generators([0, 1]), reward.expert.signal[:600]
    found: list[float] = []
    for shift in (0.0, 0.5, 1.0, 2.0):
        know(reward, 0.0, shift)
        of_learner, of_expert = list[Tensor](), list[Tensor]()
        for seed in range(60):
            reward._draw(generators)  # pyright: ignore[reportPrivateUsage]
            of_learner.append(reward.relabel(normal_rows(shift, seed, 256)).mean(-1))
            of_expert.append(reward.relabel(normal_rows(0.0, 100 + seed, 256)).mean(-1))
        exact = shift**2 * float((signal * (1 - signal)).mean())
        for side, sign in ((of_learner, -1), (of_expert, 1)):
            values = torch.stack(side)
            error = float(values.std() / values.numel() ** 0.5)
            assert float(values.mean()) == pytest.approx(sign * exact, abs=4 * error + 1e-6)
            assert 4 * error < 0.1 * exact + 1e-6
        found.append(float(torch.stack(of_expert).mean()))
    assert found == sorted(found)
    assert found[0] == 0


def test_as_votes_it_is_zero_for_equals_and_grows_with_the_shift() -> None:
    """The default: of N(0, 1) and N(m, 1), by the predictors that both would be taught at last."""
    reward = make(levels=8, last_time=600, absorbing=False)
    assert reward.config.standardise == "levels"
    found: list[float] = []
    for shift in (0.0, 0.5, 1.0, 2.0, 4.0):
        know(reward, 0.0, shift)
        generators, values = Generators([0, 1]), list[Tensor]()
        for seed in range(30):
            reward._draw(generators)  # pyright: ignore[reportPrivateUsage]
            both = normal_rows(0.0, seed, 128).joined(normal_rows(shift, 100 + seed, 128))
            reward.updates += 1
            levels = list(reward._gaps(both))  # pyright: ignore[reportPrivateUsage]
            reward._set_level_sizes(levels)  # pyright: ignore[reportPrivateUsage]
            values.append(reward.scores(normal_rows(0.0, 200 + seed, 256)).mean())
        found.append(float(torch.stack(values[10:]).mean()))
        reward.updates.zero_()
    assert found[0] == 0
    assert found == sorted(found)
    assert found[1] > 0.1
    assert found[-1] > 0.35  # of at most tanh(1 / 2), where all differences are alike


def test_learned_predictors_of_the_same_rows_have_nothing_to_say() -> None:
    """Two that were taught apart err alike: less than a tenth of what a shift by 1.5 makes."""
    said: list[float] = []
    for shift in (0.0, 1.5):
        reward, generators = make(expert_updates=600, learning_rate=5e-3, standardise="none"), Generators([0, 1])
        for step in range(600):
            reward.update(normal_rows(0, step), normal_rows(shift, 1000 + step), shares(0.01, 0.01), generators)
        scores: list[Tensor] = []
        for seed in range(40):
            reward._draw(generators)  # pyright: ignore[reportPrivateUsage]
            scores.append(reward.scores(normal_rows(0.0, 5000 + seed, 256)).detach().mean())
        said.append(float(torch.stack(scores).mean()))
    assert abs(said[0]) < 0.1 * said[1]


def test_learned_predictors_reward_the_expert_and_move_with_the_learner() -> None:
    reward, generators = make(expert_updates=400, learning_rate=5e-3), Generators([0, 1])
    for step in range(300):
        metrics = reward.update(normal_rows(0, step), normal_rows(1.5, 1000 + step), shares(0.01, 0.2), generators)
    apart = metrics["score_expert"] - metrics["score_learner"]
    assert (apart > 0.3).all()
    for step in range(300):  # the learner becomes the expert, and there is nothing left to say
        metrics = reward.update(normal_rows(0, step), normal_rows(0, 2000 + step), shares(0.01, 0.2), generators)
    assert ((metrics["score_expert"] - metrics["score_learner"]).abs() < 0.15 * apart).all()


def test_the_experts_predictor_is_fitted_once() -> None:
    reward, generators = make(), Generators([0, 1])
    reward.update(normal_rows(0, 1), normal_rows(1, 2), shares(0.1, 0.1), generators)
    before = [p.detach().clone() for stack in reward.expert.stacks() for p in stack.master()]
    learner = [p.detach().clone() for stack in reward.learner.stacks() for p in stack.master()]
    reward.update(normal_rows(5, 3), normal_rows(1, 4), shares(0.1, 0.1), generators)
    after = [p for stack in reward.expert.stacks() for p in stack.master()]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    moved = [p for stack in reward.learner.stacks() for p in stack.master()]
    assert not any(torch.equal(one, two) for one, two in zip(learner, moved, strict=True))


def test_equal_predictors_are_indifferent_to_everything_and_to_ending() -> None:
    reward = make()
    reward.update(normal_rows(0, 1), normal_rows(1, 2), shares(0.1, 0.4), Generators([0, 1]))
    reward.learner.load_state_dict(reward.expert.state_dict())
    reward._set_scale(reward.scores(normal_rows(0, 1)).detach(), shares(0.1, 0.4))  # pyright: ignore[reportPrivateUsage]
    assert (reward.relabel(normal_rows(3.0, 5)) == 0).all()


@pytest.mark.parametrize(("expert", "learner", "share"), [(0.1, 0.1, 0.5), (0.1, 0.3, 0.25), (0.3, 0.1, 0.75)])
def test_an_end_is_worth_an_extreme_of_the_scores(expert: float, learner: float, share: float) -> None:
    """Between the 5 % and the 95 % quantile, in proportion to the shares of time after ends; rewards are relative."""
    reward, batch = make(), normal_rows(0.0, 3)
    reward.update(normal_rows(0, 1), normal_rows(1, 2), shares(expert, learner), Generators([0, 1]))
    scores = torch.arange(101.0).expand(RUNS, 101)
    plain = dataclasses.replace(reward.config, standardise="none")
    reward._set_scale(scores, shares(expert, learner))  # pyright: ignore[reportPrivateUsage]
    torch.testing.assert_close(reward.absorbing, torch.full((RUNS,), 5 + 90 * share))
    reward.config = plain
    reward.spread.fill_(1)
    torch.testing.assert_close(reward.relabel(batch), (reward.scores(batch) - reward.absorbing[:, None]).detach())


def test_bent_it_is_the_softplus_of_the_scores_relative_to_that_of_an_end() -> None:
    reward, batch = make(form="softplus", sharpness=4.0), normal_rows(0.5, 3)
    reward.update(normal_rows(0, 1), normal_rows(1, 2), shares(0.01, 0.3), Generators([0, 1]))
    scores, spread = reward.scores(batch).detach().double(), reward.spread[:, None].double()
    expected = (1 + (4 * scores / spread).exp()).log() - (1 + (4 * reward.absorbing[:, None] / spread).exp()).log()
    torch.testing.assert_close(reward.relabel(batch).double(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"add reward\.form=linear"):
        ScoreConfig(standardise="batch", absorbing=False, form="softplus")


def test_each_level_has_a_vote_of_the_same_weight() -> None:
    """tanh(d / 2m) of each level's difference d, by hand, and no more than 1 however far from all data a row is."""
    reward = make(levels=3, absorbing=False)
    plain = make(levels=3, absorbing=False, standardise="none")
    expert, learner = normal_rows(0.0, 1), normal_rows(1.0, 2)
    for each in (reward, plain):
        each.update(expert, learner, shares(0.0, 0.0), Generators(range(RUNS)))
    shown = expert.first(128).joined(learner.first(128))
    gaps = torch.cat([gaps for _, gaps in plain._gaps(shown)], 1).detach()  # pyright: ignore[reportPrivateUsage]
    sizes = gaps.abs().median(-1).values
    torch.testing.assert_close(reward.level_size, sizes)  # the first update sets them whole
    torch.testing.assert_close(reward.scores(shown).detach(), (gaps / (2 * sizes[..., None])).tanh().mean(1))
    far = normal_rows(50.0, 3)
    assert plain.scores(far).abs().max() > 10
    assert reward.scores(far).abs().max() <= 1


def test_standardised_by_its_batch_a_reward_does_not_see_a_constant_and_by_its_spread_it_does() -> None:
    """So the released way makes falling free: what follows an end is worth as much as an average state."""
    for how, moves in (("batch", False), ("spread", True)):
        reward, batch = make(standardise=how, absorbing=False), normal_rows(0.5, 3)
        reward.update(normal_rows(0, 1), normal_rows(1, 2), shares(0.1, 0.1), Generators([0, 1]))
        before, scores = reward.relabel(batch), reward.scores
        reward.scores = lambda batch, scores=scores: scores(batch) + 3.0  # pyright: ignore
        after = reward.relabel(batch)
        assert torch.allclose(before, after, atol=1e-4) != moves
        if not moves:
            torch.testing.assert_close(after.mean(-1), torch.zeros(RUNS), atol=1e-4, rtol=0)


def test_the_same_noise_until_the_next_update() -> None:
    reward, batch, generators = make(), normal_rows(0.0, 3), Generators([0, 1])
    reward.update(normal_rows(0, 1), normal_rows(1, 2), shares(0.1, 0.1), generators)
    assert torch.equal(reward.relabel(batch), reward.relabel(batch))
    noise = reward.noise.clone()
    reward.update(normal_rows(0, 1), normal_rows(1, 2), shares(0.1, 0.1), generators)
    assert not torch.equal(noise, reward.noise)


@pytest.mark.parametrize("inputs", ["state", "state-action", "state-next-state", "all"])
def test_it_depends_on_what_it_sees_alone(inputs: str) -> None:
    reward = make(inputs=inputs, expert=rows(0.0, 9))
    batch = rows(0.0, 0)
    reward.update(rows(0.6, 1), rows(-0.6, 2), shares(0.1, 0.1), Generators([0, 1]))
    before = reward.relabel(batch)
    for column, word in (("actions", "action"), ("next_observations", "next")):
        changed = reward.relabel(dataclasses.replace(batch, **{column: getattr(batch, column) + 0.5}))
        assert torch.equal(changed, before) != (inputs == "all" or word in inputs)
    assert reward.sees_actions == (inputs in ("state-action", "all"))


def test_without_activations_a_predictor_is_linear_in_the_rows() -> None:
    reward = make(activation="none")
    one, two = torch.randn(2, RUNS, 5, SIZE, generator=torch.Generator().manual_seed(0))
    when = torch.full((RUNS, 5), 100)
    middle = reward.expert((one + two) / 2, when)
    torch.testing.assert_close(middle, (reward.expert(one, when) + reward.expert(two, when)) / 2)
    bent = make().expert
    assert not torch.allclose(bent((one + two) / 2, when), (bent(one, when) + bent(two, when)) / 2, atol=1e-3)


def test_on_a_grid_the_times_are_the_released_ones_and_many_levels_are_taken_in_parts() -> None:
    reward = make(levels=40, last_time=600, grid=True, absorbing=False, standardise="none")
    reward.update(normal_rows(0, 1), normal_rows(1, 2), shares(0.1, 0.1), Generators([0, 1]))
    assert torch.equal(reward.when[0, :, 0], 15 * torch.arange(40))
    batch = normal_rows(0.5, 3, 20)
    by_level = [
        reward.learner.squares(batch.observations, reward.noise[:, k, :20], reward.when[:, k, :20])
        - reward.expert.squares(batch.observations, reward.noise[:, k, :20], reward.when[:, k, :20])
        for k in range(40)
    ]
    torch.testing.assert_close(reward.relabel(batch), torch.stack(by_level).mean((0, -1)).detach())


def test_an_absorbing_state_that_the_batch_would_take_off_again_is_refused() -> None:
    with pytest.raises(InputError, match=r"add reward\.absorbing=false"):
        ScoreConfig(standardise="batch")


@pytest.mark.parametrize("settings", [{"levels": 0}, {"levels": 700}, {"last_time": 2000}])
def test_impossible_levels_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"reward\.levels"):
        ScoreConfig(**settings)
