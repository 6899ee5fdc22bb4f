"""SMILING: a reward by score matching. Two noise predictors, fitted by regression, and no classifier anywhere."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...robots import InputError, view_mask
from ..diffusion import NOISE_ROWS, NoisePredictor, signal_levels, stratified_times
from ..networks import Activation, Normaliser
from ..optimisers import Adam
from ..parts import Setting
from ..randomness import Generators
from ..replay import Batch, RowLayout
from .base import LogProb, between_extremes, early_ends_in_words, module_state, set_module_state, steady, told_apart
from .inputs import Inputs, input_size, network_inputs, sees_actions

_log = logging.getLogger(__name__)
_TAIL = 0.05  # of the scores on either side are left out of their range: errors far from all data have no bound
_TOGETHER = 16  # noise levels: their rows are in memory at once
_TRACKED = 128  # rows of each side that tell how the scores lie
_SPREAD_RATE = 0.02


@dataclasses.dataclass(frozen=True)
class ScoreConfig:
    """Sizes and schedule of the two noise predictors.

    ``inputs`` is what is diffused of a transition, ``view`` the parts of states that count (all when empty); states are
    standardised by the demonstrations', unless ``normalise`` is false.
    ``times`` are those of the noise schedule, of which the first ``last_time`` are used (the rest are all but pure
    noise), and ``levels`` how many of them a row meets in its reward, one in each of as many strata: a random one, or
    with ``grid`` the first. ``tiled`` repeats rows and levels side by side, as the released code does: row b of B meets
    b, b + B, b + 2B and so on modulo their number, only some of them where B and it have a divisor in common.
    The expert's predictor takes ``expert_updates`` steps at the start, at a rate that falls to 0 unless
    ``expert_anneal`` is false. The learner's goes on from where it stood, one step per ``update_every`` agent updates
    on ``batch_size`` of the newest ``recent_rows``.

    ``standardise`` says how the reward gets its size: ``spread`` divides it by a slow average of its deviation, and
    keeps its zero; ``levels`` does so when each noise level has had a vote between −1 and 1 (:class:`ScoreReward`);
    ``batch`` takes the batch's mean off, too, as the released code does, which makes an early end free;
    ``none`` leaves it. ``absorbing`` treats an early end as a state that lasts for ever, worth an extreme of the scores
    seen (see :class:`ScoreReward`). ``form`` bends the reward, or not: ``softplus`` of ``sharpness`` times it is next
    to nothing for whatever the learner does more than the expert, as a classifier's is. ``scale`` multiplies the
    reward.
    """

    inputs: Inputs = "state"
    view: tuple[str, ...] = ()
    normalise: bool = True
    hidden: tuple[int, ...] = (256,)
    activation: Activation = "leaky_relu"
    times: int = 1_000
    last_time: int = 600
    levels: int = 8
    grid: bool = False
    tiled: bool = False
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    expert_updates: int = 5_000
    expert_anneal: bool = True
    batch_size: int = 512
    update_every: int = 10
    recent_rows: int | None = 200_000
    standardise: Literal["levels", "spread", "batch", "none"] = "levels"
    absorbing: bool = True
    form: Literal["linear", "softplus"] = "linear"
    sharpness: float = 4.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.standardise == "batch" and self.absorbing:
            raise InputError(
                "reward.standardise=batch takes every constant off the reward, the absorbing state's with it: add "
                "reward.absorbing=false, or choose another"
            )
        if self.standardise == "batch" and self.form != "linear":
            raise InputError("reward.standardise=batch keeps no zero to bend the reward at: add reward.form=linear")
        if self.tiled and self.standardise == "levels":
            raise InputError(
                "reward.tiled=true gives rows other levels each, so none has a vote of its own: add "
                "reward.standardise=batch (as released) or spread"
            )
        if not 1 <= self.levels <= self.last_time <= self.times:
            raise InputError(
                f"reward.levels={self.levels} noise levels among the first reward.last_time={self.last_time} of "
                f"reward.times={self.times}: give them in this order of size"
            )


class ScoreReward(nn.Module):
    """r(s) = E_{t,ε}[‖ε_L(s_t, t) − ε‖² − ‖ε_E(s_t, t) − ε‖²], the learner's error less the expert's (Wu et al. 2024,
    "Diffusing States and Matching Scores", arXiv 2410.13855). Its mean is 0 where both distributions are the same.

    The expectation is over ``levels`` stratified times a row, with the same noise for both predictors. The noise is
    drawn anew with each update of the reward, and not with each batch: what a batch is worth is a function of it.

    Where neither predictor was ever taught, errors have no bound and grow fastest at the lowest noise levels. Summed as
    they are, these drown the high levels, which alone reach from where the learner is to where the expert is, and the
    learner stands still near the expert's mean. With ``levels`` each level's difference d becomes tanh(d / 2m), where m
    is a slow average of the median |d| of that level, so that all levels count alike.

    A score does not say how often a state far from all others is visited, so an absorbing state (where an early end
    leads, for ever) has no score of its own here. As with moment matching, it lies between the extremes of the scores
    seen (:func:`~.base.between_extremes`), the outermost 5 % left out. Rewards are relative to it, so that an ended
    episode is worth 0 and a reward that is the same everywhere leaves the learner indifferent to ending.
    """

    Config: ClassVar[type[Any] | None] = ScoreConfig
    learned = True
    needs_log_prob = False
    noise: Tensor
    when: Tensor
    spread: Tensor
    level_size: Tensor
    absorbing: Tensor
    reach: Tensor
    updates: Tensor

    def __init__(
        self,
        config: ScoreConfig,
        runs: int,
        observation_size: int,
        action_size: int,
        normaliser: Normaliser,
        expert_rows: Batch,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config, self.normaliser, self.precision = config, normaliser, precision
        self.update_every, self.batch_size = config.update_every, config.batch_size
        self.recent_rows = config.recent_rows
        size = input_size(config.inputs, observation_size, action_size)
        signal = signal_levels(config.times)
        self.expert = NoisePredictor((runs,), size, config.hidden, signal, config.activation)
        self.learner = NoisePredictor((runs,), size, config.hidden, signal, config.activation)
        self.register_buffer("noise", torch.zeros(runs, config.levels, NOISE_ROWS, size))
        self.register_buffer("when", torch.zeros(runs, config.levels, NOISE_ROWS, dtype=torch.int64))
        self.register_buffer("spread", torch.ones(runs))
        self.register_buffer("level_size", torch.ones(runs, config.levels))
        self.register_buffer("absorbing", torch.zeros(runs))
        self.register_buffer("reach", torch.zeros(runs, 2))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("_expert_rows", self.inputs(expert_rows), persistent=False)

    @classmethod
    def create(cls, config: ScoreConfig, setting: Setting) -> Self:
        """For a setting. Errors: :class:`InputError` without demonstrations."""
        if setting.demonstrations is None:
            raise InputError("reward=score fits a predictor to demonstrations: give data=<bundled name or file>")
        if not setting.task.terminates:
            config = dataclasses.replace(config, absorbing=False)
        runs, observation_size, action_size, _, precision = setting.sizes
        layout = RowLayout(observation_size, action_size)
        # Where the noise drowns what depends on the expert's own spread; other recordings do not count.
        known = setting.demonstrations.observations
        own = Normaliser.of(known) if config.normalise else Normaliser.identity(observation_size)
        own = own.showing(view_mask(setting.task, config.view, "reward.view"))
        rows = layout.batch(layout.demonstrations(setting.demonstrations))
        return cls(config, runs, len(own.mean), action_size, own, rows, precision)

    @property
    def sees_actions(self) -> bool:
        """Unless it sees states alone."""
        return sees_actions(self.config.inputs)

    @property
    def early_ends(self) -> str:
        """What an early end is worth, in words."""
        return early_ends_in_words(self.config.absorbing)

    def inputs(self, batch: Batch) -> Tensor:
        """What is diffused (..., B, X), observations standardised."""
        return network_inputs(self.config.inputs, batch, self.normaliser)

    def initialise(self, generators: Generators) -> None:
        """Draw the parameters and make the optimisers."""
        for predictor in (self.expert, self.learner):
            predictor.initialise(generators)
            for stack in predictor.stacks():
                stack.set_precision(self.precision)
        self.optimiser = self._adam(self.learner)

    def _adam(self, predictor: NoisePredictor) -> Adam:
        return Adam(predictor.stacks(), self.config.learning_rate, weight_decay=self.config.weight_decay)

    def scores(self, batch: Batch) -> Tensor:
        """The learner's error less the expert's (R, B) of a batch, by each level as it is or by its vote."""
        return self._combined(self._gaps(batch))

    def _combined(self, levels: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """One score (R, B) from what :meth:`_gaps` gives."""
        every = torch.cat([gaps for _, gaps in levels], 1)
        if self.config.standardise == "levels":
            every = (every / (2 * self.level_size[..., None])).tanh()
        return every.mean(1)

    def _gaps(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """Some levels (L,) after others, and the learner's error less the expert's (R, L, B) at each."""
        rows = self.inputs(batch)
        numbers = torch.arange(rows.shape[-2], device=rows.device)
        which = numbers % NOISE_ROWS
        for some in torch.arange(self.config.levels, device=rows.device).split(_TOGETHER):
            every = rows.repeat(1, len(some), 1)  # level after level, each with all rows
            noise = self.noise[:, some][:, :, which].flatten(1, 2)
            if self.config.tiled:
                place = some[:, None] * len(numbers) + numbers
                when = self.when[:, place % self.config.levels, which].flatten(1, 2)
            else:
                when = self.when[:, some][:, :, which].flatten(1, 2)
            gap = self.learner.squares(every, noise, when) - self.expert.squares(every, noise, when)
            yield some, gap.mean(-1).unflatten(1, (len(some), -1))

    @torch.no_grad()
    def relabel(self, batch: Batch) -> Tensor:
        """Rewards (R, B) under the present predictors."""
        scores = self.scores(batch)
        if self.config.standardise == "batch":
            mean, deviation = scores.mean(-1, keepdim=True), scores.std(-1, keepdim=True)
            return self.config.scale * (scores - mean) / (deviation + 1e-6)
        rewards = self._form(scores, self.spread[:, None])
        if self.config.absorbing:
            rewards = rewards - self._form(self.absorbing, self.spread)[:, None]
        return self.config.scale * rewards

    def _form(self, scores: Tensor, spread: Tensor) -> Tensor:
        """The reward of scores (R, B) or (R,) that deviate by ``spread`` (R, 1) or (R,)."""
        if self.config.form == "linear":
            return scores / spread
        return functional.softplus(self.config.sharpness * scores / spread)

    def update(
        self,
        expert: Batch,
        learner: Batch,
        ended: tuple[Tensor, Tensor],
        generators: Generators,
        log_prob: LogProb | None = None,
    ) -> Mapping[str, Tensor]:
        """One step of the learner's predictor on its rows (R, B); before the first, all of the expert's.

        Returns health metrics (R,): the learner's error, and the scores on both sides. ``ended`` are the shares of time
        that expert and learner spend after an early end, each (R,).
        """
        if not self.updates:
            self._fit_expert(generators)
        loss = self._regress(self.learner, self.optimiser, self.inputs(learner), generators)
        self._draw(generators)
        self.updates += 1
        with torch.no_grad():
            shown = expert.first(_TRACKED)
            levels, size = list(self._gaps(shown.joined(learner.first(_TRACKED)))), shown.rewards.shape[1]
            if self.config.standardise == "levels":
                self._set_level_sizes(levels)
            both = self._combined(levels)
            of_expert, of_learner = both[:, :size], both[:, size:]
            self._set_scale(both, ended)
        low, high = both.aminmax(dim=-1)
        return {
            "learner_error": loss,
            "score_expert": of_expert.mean(-1),
            "score_learner": of_learner.mean(-1),
            "score_spread": self.spread.clone(),
            "score_absorbing": self.absorbing.clone(),
            "reward_low": low,
            "reward_high": high,
            **told_apart(of_expert, of_learner),
        }

    def _fit_expert(self, generators: Generators) -> None:
        optimiser, updates = self._adam(self.expert), self.config.expert_updates
        loss, rows = torch.zeros(()), self.get_buffer("_expert_rows")
        for index in range(updates):
            if self.config.expert_anneal:
                optimiser.set_learning_rate(self.config.learning_rate * (1 - index / updates))
            picked = rows[generators.integers(len(rows), (self.batch_size,))]
            loss = self._regress(self.expert, optimiser, picked, generators)
        _log.info("noise predictor of the expert after %d updates: error %.3f", updates, float(loss.mean()))

    def _regress(self, predictor: NoisePredictor, optimiser: Adam, rows: Tensor, generators: Generators) -> Tensor:
        """One step on rows (R, B, X), at a noise and a time of each row's own; returns the loss (R,)."""
        noise = generators.normal(tuple(rows.shape[1:]))
        times = generators.integers(self.config.last_time, (rows.shape[1],))
        loss = predictor.squares(rows, noise, times).mean((-1, -2))
        optimiser.step(loss.sum())
        return loss.detach()

    def _draw(self, generators: Generators) -> None:
        """New noise and times for the batches until the next update."""
        self.noise.copy_(generators.normal(tuple(self.noise.shape[1:])))
        uniform = generators.uniform(tuple(self.when.shape[1:]))
        uniform = torch.zeros_like(uniform) if self.config.grid else uniform
        self.when.copy_(stratified_times(uniform, self.config.last_time))

    def _set_level_sizes(self, levels: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Follow how large each level's differences are."""
        rate = max(_SPREAD_RATE, 1 / float(self.updates))
        for some, gaps in levels:
            sizes = gaps.abs().median(-1).values.clamp(min=1e-6)
            self.level_size[:, some] = self.level_size[:, some].lerp(sizes, rate)

    def _set_scale(self, scores: Tensor, ended: tuple[Tensor, Tensor]) -> None:
        """Follow the scores' (R, B) deviation and range."""
        rate = max(_SPREAD_RATE, 1 / float(self.updates))
        if self.config.standardise in ("levels", "spread"):
            self.spread.lerp_(scores.std(-1).clamp(min=1e-6), rate)
        low, high = (scores.quantile(share, -1) for share in (_TAIL, 1 - _TAIL))
        self.absorbing.copy_(between_extremes(*steady(self.reach, low, high, scores, rate), *ended))

    def training_state(self) -> dict[str, Tensor]:
        """Parameters, noise, scale and optimiser moments."""
        return module_state(self, self.optimiser)

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`training_state`."""
        stacks = [*self.expert.stacks(), *self.learner.stacks()]
        kept = {f"network.{name}": getattr(self, name) for name in ("reach", "level_size")}
        set_module_state(self, self.optimiser, stacks, {**kept, **state})
