"""A learned world: a probabilistic ensemble that predicts how a transition changes the state.

Each of M members of each of R runs is a network that gives a Gaussian of the change Δ = s' − s (Chua et al. 2018, PETS,
arXiv 1805.12114), as HyPER has it (arXiv 2402.08848; reference/algorithms.md 3.8):

    p_m(Δ | s, a) = N(μ_m(s, a), diag σ_m²(s, a)),   loss = ½ mean over dimensions of (Δ − μ)² / σ² + log σ²

Inputs and changes are standardised by the run's own rows, and log σ² is held softly between −10 and 0.5 in these units.
Departures from the released code: changes are standardised too (there inputs alone), the rows held out are the same at
every fit (there they are drawn anew, so that most have been trained on before), what decides when to stop is their
likelihood (there the squared error, which says nothing of σ), and what is drawn stays within the box of states seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .networks import StackedMLP
from .optimisers import Adam
from .randomness import Generators
from .replay import Batch

_LOG_VARIANCE = (-10.0, 0.5)  # as released, in standardised units
_HELD_OUT = 10  # every so many rows one is held out
_LEAST = 1e-3  # a dimension that deviates by less is standardised as if by this
_BETTER = 0.01  # nats a dimension by which held-out rows must be likelier for an epoch to count as progress


@dataclasses.dataclass(frozen=True)
class DynamicsConfig:
    """Sizes and schedule of the ensemble.

    ``members`` networks of ``hidden`` layers, of which the ``elites`` that predict held-out rows best are used. A fit
    takes up to ``epochs`` epochs of Adam steps on ``batch_size`` rows that each member draws for itself, and ends, for
    each run by itself, after ``patience`` of them without progress on held-out rows; the best parameters are kept.
    ``demonstrated`` is the share of expert rows in these batches, if there are any.

    ``draw`` is what comes next in the world: a ``sample`` of one elite's Gaussian (PETS: trajectory sampling 1),
    or the ``mean`` of the elites' means, for a task that has no noise of its own.
    """

    members: int = 5
    elites: int = 3
    hidden: tuple[int, ...] = (200, 200)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    batch_size: int = 256
    epochs: int = 15
    patience: int = 3
    demonstrated: float = 0.1
    draw: Literal["sample", "mean"] = "sample"


class Dynamics(nn.Module):
    """The ensembles of R runs. Prediction is a pure function of tensors; :meth:`fit` looks at losses on the way.

    ``typical`` (R,) is the elites' disagreement that 95 % of the learner's held-out rows stay below.
    """

    mean: Tensor
    std: Tensor
    change_mean: Tensor
    change_std: Tensor
    low: Tensor
    high: Tensor
    elites: Tensor
    typical: Tensor

    def __init__(self, config: DynamicsConfig, runs: int, observation_size: int, action_size: int) -> None:
        super().__init__()
        self.config = config
        width = observation_size + action_size
        sizes = (width, *config.hidden, 2 * observation_size)
        self.net = StackedMLP((runs, config.members), sizes, activation="silu")
        shapes = {
            "mean": (runs, 1, width), "std": (runs, 1, width), "change_mean": (runs, 1, observation_size),
            "change_std": (runs, 1, observation_size), "low": (runs, 1, observation_size),
            "high": (runs, 1, observation_size),
        }  # fmt: skip
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("elites", torch.arange(config.elites).repeat(runs, 1))
        self.register_buffer("typical", torch.ones(runs))

    def initialise(self, generators: Generators) -> None:
        """Draw the parameters."""
        self.net.initialise(generators)

    def standardised(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (R, M, B, O) of the standardised change, for (R, B, O) and (R, B, A)."""
        return self._gaussians(((torch.cat((observations, actions), -1) - self.mean) / self.std).unsqueeze(1))

    def _gaussians(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """From standardised inputs (R, 1 or M, B, O + A)."""
        mean, log_variance = self.net(inputs).chunk(2, -1)
        low, high = _LOG_VARIANCE
        log_variance = high - functional.softplus(high - log_variance)
        return mean, low + functional.softplus(log_variance - low)

    @torch.no_grad()
    def predict(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (R, E, B, O) of the next observation by each elite, for (R, B, O) and (R, B, A)."""
        mean, log_variance = (_pick(value, self.elites) for value in self.standardised(observations, actions))
        scale = self.change_std.unsqueeze(1)
        after = observations.unsqueeze(1) + self.change_mean.unsqueeze(1) + mean * scale
        return after, log_variance.exp() * scale.square()

    @torch.no_grad()
    def step(self, observations: Tensor, actions: Tensor, which: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Next observations (R, B, O) and the elites' disagreement (R, B), for (R, B, O) and (R, B, A).

        Where ``draw`` is ``sample``, ``which`` (R, B), uniform in [0, 1), says from which elite's Gaussian to draw,
        and standard normal ``noise`` (R, B, O) what of it. What is drawn stays within the box of states seen.
        """
        means, variances = self.predict(observations, actions)
        if self.config.draw == "mean":
            drawn = means.mean(1)
        else:
            elites = means.shape[1]
            chosen = (which * elites).long().clamp(max=elites - 1)[:, None, :, None].expand(-1, -1, -1, means.shape[-1])
            mean, variance = means.gather(1, chosen).squeeze(1), variances.gather(1, chosen).squeeze(1)
            drawn = mean + variance.sqrt() * noise
        return drawn.maximum(self.low).minimum(self.high), self.disagreement(means)

    def disagreement(self, means: Tensor) -> Tensor:
        """The deviation (R, B) between elites' means (R, E, B, O), root mean square over dimensions, in those of Δ."""
        return (means.var(1, correction=0) / self.change_std.square()).mean(-1).sqrt()

    def fit(self, expert: Batch | None, learner: Batch, generators: Generators) -> dict[str, Tensor]:
        """Fit to expert rows (R, N, …) and the learner's; returns metrics (R,).

        One draw is taken from ``generators``, whatever happens inside: how long a run's fit lasts is nothing to others.
        """
        seeds = generators.integers(2**62, ())
        generators = Generators(seeds.tolist(), seeds.device)
        parts = [learner] if expert is None else [expert, learner]
        rows = [_Rows.of(part) for part in parts]
        self._measure([part.training() for part in rows])
        parts_in = [self._scaled(part) for part in rows]
        training, held_out = [part.training() for part in parts_in], [part.held_out() for part in parts_in]
        shares = [1.0] if len(parts) == 1 else [self.config.demonstrated, 1 - self.config.demonstrated]
        optimiser = Adam([self.net], self.config.learning_rate, weight_decay=self.config.weight_decay)
        best = self._losses(held_out, shares)
        kept = [parameter.detach().clone() for parameter in self.net.master()]
        idle = torch.zeros(len(best), dtype=torch.int64, device=best.device)
        epochs = torch.zeros_like(idle)
        steps = -(-max(part.inputs.shape[1] for part in training) // self.config.batch_size)
        for _ in range(self.config.epochs):
            running = idle < self.config.patience
            if not running.any():
                break
            epochs += running
            for inputs, changes in self._batches(training, shares, steps, generators):
                mean, log_variance = self._gaussians(inputs)
                optimiser.step(_negative_log_likelihood(mean, log_variance, changes).mean((2, 3)).sum())
            losses = self._losses(held_out, shares)
            # A run that is done goes on with the others, and nothing of it is kept.
            better = (losses < best) & running[:, None]
            progress = ((best - losses > _BETTER) & better).any(1)
            idle = torch.where(progress, 0, idle + 1)
            best = torch.where(better, losses, best)
            with torch.no_grad():
                for mine, theirs in zip(kept, self.net.master(), strict=True):
                    mine[better] = theirs[better]
        with torch.no_grad():
            for mine, theirs in zip(self.net.master(), kept, strict=True):
                mine.copy_(theirs)
        self.elites.copy_(best.argsort(1)[:, : self.config.elites])
        unseen = learner.where(_held_out(learner.observations, True))
        means, _ = self.predict(unseen.observations, unseen.actions)
        self.typical.copy_(self.disagreement(means).quantile(0.95, dim=1).clamp(min=1e-6))
        metrics = self._calibration(rows[-1].held_out())
        return {"model_loss": best.gather(1, self.elites).mean(1), "model_epochs": epochs.float(), **metrics}

    def _measure(self, parts: list[_Rows]) -> None:
        """Set what standardises to these rows', and the box of states to what they came to."""
        inputs, changes, after = (
            torch.cat([getattr(part, name) for part in parts], 1) for name in ("inputs", "changes", "after")
        )
        for name, values in (("", inputs), ("change_", changes)):
            getattr(self, f"{name}mean").copy_(values.mean(1, keepdim=True))
            getattr(self, f"{name}std").copy_(values.std(1, keepdim=True, correction=0).clamp(min=_LEAST))
        self.low.copy_(after.amin(1, keepdim=True))
        self.high.copy_(after.amax(1, keepdim=True))

    def _scaled(self, rows: _Rows) -> _Rows:
        return _Rows(
            (rows.inputs - self.mean) / self.std, (rows.changes - self.change_mean) / self.change_std, rows.after
        )

    def _batches(
        self, parts: list[_Rows], shares: list[float], steps: int, generators: Generators
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """``steps`` batches of inputs and changes (R, M, batch_size, ·), drawn for each member apart."""
        members, size = self.config.members, self.config.batch_size
        counts = [round(share * size) for share in shares[:-1]]
        counts.append(size - sum(counts))
        picks = [
            generators.integers(part.inputs.shape[1], (steps, members, count)).unbind(1)
            for part, count in zip(parts, counts, strict=True)
        ]
        for step in range(steps):
            drawn = [(part, each[step]) for part, each in zip(parts, picks, strict=True)]
            inputs = torch.cat([_gather(part.inputs, rows) for part, rows in drawn], 2)
            yield inputs, torch.cat([_gather(part.changes, rows) for part, rows in drawn], 2)

    @torch.no_grad()
    def _losses(self, parts: list[_Rows], shares: list[float]) -> Tensor:
        """The negative log likelihood a dimension of standardised rows (R, M), parts weighted by their shares."""
        losses = [
            _negative_log_likelihood(*self._gaussians(part.inputs.unsqueeze(1)), part.changes.unsqueeze(1)).mean((2, 3))
            for part in parts
        ]
        return sum((share * loss for share, loss in zip(shares, losses, strict=True)), torch.zeros_like(losses[0]))

    def _calibration(self, rows: _Rows) -> dict[str, Tensor]:
        """How the predicted Gaussians stand to the learner's held-out rows (R,).

        ``model_coverage``: the share of changes within the 95 % interval of an elite's Gaussian (0.95 if calibrated);
        ``model_variance_ratio``: the mean squared error over the mean predicted variance, in standardised units (1 if
        calibrated, above it if too certain); ``model_error``: the root mean square error of the elites' mean in
        deviations of the change, so that 1 is no better than the mean change.
        """
        scaled = self._scaled(rows)
        with torch.no_grad():
            mean, log_variance = (_pick(v, self.elites) for v in self._gaussians(scaled.inputs.unsqueeze(1)))
        errors = (scaled.changes.unsqueeze(1) - mean).square()
        inside = errors < 1.959964**2 * log_variance.exp()
        return {
            "model_coverage": inside.float().mean((1, 2, 3)),
            "model_variance_ratio": errors.mean((1, 2, 3)) / log_variance.exp().mean((1, 2, 3)),
            "model_error": (scaled.changes - mean.mean(1)).square().mean((1, 2)).sqrt(),
        }


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Inputs (R, N, O + A), changes of the state (R, N, O) and what it came to (R, N, O)."""

    inputs: Tensor
    changes: Tensor
    after: Tensor

    @classmethod
    def of(cls, batch: Batch) -> _Rows:
        changes = batch.next_observations - batch.observations
        return cls(torch.cat((batch.observations, batch.actions), -1), changes, batch.next_observations)

    def training(self) -> _Rows:
        """The rows to fit to."""
        return self._where(False)

    def held_out(self) -> _Rows:
        """The others: always the same, as rows are only ever added."""
        return self._where(True)

    def _where(self, held_out: bool) -> _Rows:
        picked = _held_out(self.inputs, held_out)
        return _Rows(self.inputs[:, picked], self.changes[:, picked], self.after[:, picked])


def _held_out(rows: Tensor, held_out: bool) -> Tensor:
    """The numbers (N,) of the rows (R, ·, …) that are held out, or of the others; all where there are too few."""
    numbers = torch.arange(rows.shape[1], device=rows.device)
    picked = numbers[(numbers % _HELD_OUT == _HELD_OUT - 1) == held_out]
    return picked if len(picked) else numbers


def _negative_log_likelihood(mean: Tensor, log_variance: Tensor, changes: Tensor) -> Tensor:
    """½ ((Δ − μ)² / σ² + log σ²), elementwise and without the constant."""
    return 0.5 * ((changes - mean).square() * (-log_variance).exp() + log_variance)


def _pick(values: Tensor, members: Tensor) -> Tensor:
    """The members (R, E) of values (R, M, …), (R, E, …)."""
    return values[torch.arange(len(values), device=values.device)[:, None], members]


def _gather(values: Tensor, picks: Tensor) -> Tensor:
    """Rows (R, M, B, X) of values (R, N, X) at (R, M, B)."""
    return values[torch.arange(len(values), device=values.device)[:, None, None], picks]
