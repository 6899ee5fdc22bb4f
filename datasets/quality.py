"""What demonstrations will teach, by their numbers alone: how good, how wide, how consistent they are.

Trajectory quality and coverage: Schweighofer et al. 2022 (arXiv 2111.04714). Consistency of actions and diversity of
transitions: Belkhale et al. 2023 (arXiv 2306.02437), here by nearest neighbours instead of a fitted model, so that one
number says what share of the actions' variance the state does not explain.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.spatial as _untyped_spatial  # pyright: ignore[reportMissingTypeStubs]

from .demonstrations import Demonstrations

# SciPy's compiled trees come without types.
_spatial: Any = _untyped_spatial
_ASKED = 1_000  # rows that are compared with the others
_KEPT = 20_000  # rows that they are compared with
_NEIGHBOURS, _NEAR_IN = 12, 24
_DIRECTIONS, _BINS = 3, 12  # of the grid that coverage is counted on
_APART = 20  # rows of one episode that are too near in time to be neighbours
# One Gaussian cut in two in the middle keeps 1 − 2/π = 0.36 of its variance; a dozen numbers of it, cut best, less.
_TWO = 0.12
_SAME_STATES = 1.0  # how far the states of the two halves may be apart, in their own deviations
_SHARED = 0.3  # of the actions' deviation: less spread is one action, not two


@dataclasses.dataclass(frozen=True)
class Quality:
    """Measures of demonstrations, each without unit.

    ``trajectory_quality`` is the mean return between random (0) and expert (1), none without references or rewards.
    ``coverage`` (SACo) is the share of cells of a grid over states and actions that are visited, in the directions of
    most variance, relative to what as many rows spread evenly over a cube would. ``action_noise`` is the share of the
    actions' variance among rows in nearly the same state: 0 if the state decides the action, 1 if it says nothing of
    it.
    ``transition_diversity`` is the same of the changes of state after nearly the same state and action.
    ``multimodality`` is the share of states in which the actions fall into two groups. ``episodes`` and ``rows`` are
    how many there are, ``reached_end`` the share of episodes that did not end early.
    """

    rows: int
    episodes: int
    trajectory_quality: float | None
    coverage: float
    action_noise: float | None
    transition_diversity: float | None
    multimodality: float | None
    reached_end: float

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)


def measure(
    demonstrations: Demonstrations, random_return: float | None, expert_return: float | None, *, seed: int = 0
) -> Quality:
    """All measures; the sample of rows is by ``seed``."""
    random = np.random.default_rng([seed, 6])
    quality = None
    known = bool(np.isfinite(demonstrations.episode_returns).all())
    if known and random_return is not None and expert_return is not None and random_return != expert_return:
        quality = float((demonstrations.episode_returns.mean() - random_return) / (expert_return - random_return))
    states = _standard(demonstrations.observations)
    noise = diversity = modes = None
    coverage_of = states
    if demonstrations.acted:
        actions = demonstrations.actions.astype(np.float64)
        coverage_of = np.concatenate((states, actions), axis=1)
        found = _neighbours(states, demonstrations, random)
        if found is not None:
            noise = _unexplained(actions, found)
            deviation = actions.std(0)
            modes = float(np.mean([_two_ways(actions[rows], states[rows], deviation) for rows in found]))
        changes = _standard(demonstrations.next_observations - demonstrations.observations)
        found = _neighbours(coverage_of, demonstrations, random)
        if found is not None:
            diversity = _unexplained(changes, found)
    return Quality(
        len(demonstrations),
        len(demonstrations.starts),
        quality,
        _coverage(coverage_of, random),
        noise,
        diversity,
        modes,
        float(1 - demonstrations.episode_terminated.mean()),
    )


def _standard(rows: np.ndarray) -> np.ndarray:
    """Standardised columns (N, X), those that never change left out."""
    rows = rows.astype(np.float64)
    std = rows.std(0)
    moving = std > 1e-6 * (1 + np.abs(rows).max(0))
    return (rows[:, moving] - rows[:, moving].mean(0)) / std[moving]


def _neighbours(points: np.ndarray, demonstrations: Demonstrations, random: np.random.Generator) -> np.ndarray | None:
    """For some rows the nearest ones of other times (Q, K); none when there are too few rows."""
    count = len(points)
    if points.shape[1] == 0:
        return None  # nothing changes, so nothing is near or far
    kept = np.sort(random.choice(count, min(count, _KEPT), replace=False))
    asked = random.choice(kept, min(len(kept), _ASKED), replace=False)
    wanted = min(len(kept) - 1, _NEIGHBOURS + 2 * _APART)
    if wanted < _NEIGHBOURS:
        return None
    # A tree is of no use in hundreds of dimensions: the directions of most variance tell near from far.
    directions = np.linalg.svd(points[asked], full_matrices=False)[2][:_NEAR_IN].T
    near = kept[
        np.asarray(_spatial.KDTree(points[kept] @ directions).query(points[asked] @ directions, k=wanted + 1)[1])
    ]
    episode = np.repeat(np.arange(len(demonstrations.starts)), np.diff(np.append(demonstrations.starts, count)))
    beside = (episode[near] == episode[asked][:, None]) & (np.abs(near - asked[:, None]) < _APART)
    enough = (~beside).sum(1) >= _NEIGHBOURS
    if not enough.any():
        return None
    order = np.argsort(beside[enough], axis=1, kind="stable")[:, :_NEIGHBOURS]
    return np.take_along_axis(near[enough], order, axis=1)


def _unexplained(values: np.ndarray, near: np.ndarray) -> float:
    """The share of variance that is left among neighbours (Q, K), over columns that vary at all."""
    total = values.var(0)
    moving = total > 1e-12
    if not moving.any():
        return 0.0
    within = values[near].var(1, ddof=1).mean(0)
    return float(np.minimum(within[moving] / total[moving], 1).mean())


def _two_ways(actions: np.ndarray, states: np.ndarray, deviation: np.ndarray) -> bool:
    """Whether actions (K, A) in like states (K, X) fall into two groups that the states do not tell apart."""
    centred = actions - actions.mean(0)
    spread = np.sqrt((centred**2).mean(0))
    if (spread <= _SHARED * deviation + 1e-9).all():
        return False
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    along = np.sort(centred @ direction)
    order = np.argsort(centred @ direction)
    cuts = range(3, len(along) - 2)
    left = [along[:cut].var() * cut + along[cut:].var() * (len(along) - cut) for cut in cuts]
    best = int(np.argmin(left))
    if left[best] > _TWO * along.var() * len(along):
        return False
    cut = cuts[best]
    one, other = states[order[:cut]], states[order[cut:]]
    apart = np.linalg.norm(one.mean(0) - other.mean(0))
    within = np.sqrt(np.concatenate((one - one.mean(0), other - other.mean(0))).var(0).sum())
    return bool(apart <= _SAME_STATES * within + 1e-9)


def _coverage(points: np.ndarray, random: np.random.Generator) -> float:
    """Cells visited, relative to those that as many rows spread evenly over the same cube would visit."""
    centred = points - points.mean(0)
    sample = centred[random.choice(len(centred), min(len(centred), _ASKED), replace=False)]
    directions = np.linalg.svd(sample, full_matrices=False)[2][:_DIRECTIONS]
    seen = centred @ directions.T
    low, high = seen.min(0), seen.max(0)
    middle, half = (low + high) / 2, (high - low).max() / 2  # a cube, so that what hardly varies is not spread out
    low, high = middle - half, middle + half
    even = random.uniform(low, high, seen.shape)

    def cells(values: np.ndarray) -> int:
        index = np.clip(((values - low) / (high - low + 1e-12) * _BINS).astype(int), 0, _BINS - 1)
        return len(np.unique(index, axis=0))

    return cells(seen) / cells(even)


_NOISY, _FEW_ROWS, _AIMLESS, _SEVERAL_WAYS = 0.3, 2_000, 0.4, 0.05
_NOTHING, _RANDOM = 0.1, 0.9  # quality below which, and, where it is not known, noise above which nothing is shown
_CLONED = 0.9  # share of the demonstrations' score


def recommend(
    quality: Quality, *, acted: bool, states: bool, goal: bool, cloned: float | None = None
) -> tuple[str, str]:
    """A learner for data of this quality, and the reason as a clause.

    ``acted`` says whether there are actions, ``states`` whether episodes can start in recorded states, ``goal`` whether
    the task is about going somewhere, ``cloned`` the score of a small cloning that was tried (0 random, 1 expert). The
    thresholds are ours, from the tables in docs/results.
    """
    value, noise = quality.trajectory_quality, quality.action_noise
    if acted and goal and value is not None and value < _AIMLESS:
        return "diffusion_policy loop.goals=true", "the players did not go for the goal, but came to many places"
    own = "learner=sac makes an expert from the task's own reward, if you have none to record"
    if value is not None and value < _NOTHING:
        return "sac", f"they score {value:.2f} between random and expert, so there is nothing to imitate; {own}"
    if value is None and noise is not None and noise > _RANDOM:
        return "sac", f"the state says next to nothing of the action, so there is nothing to imitate; {own}"
    if not acted:
        return "mm reward.inputs=state", "there are no actions, so only states can be matched"
    share = None if value is None or cloned is None else cloned / value
    if share is not None and share >= _CLONED:
        return "bc", f"a small cloning of them already scores {share:.0%} of what they do"
    if quality.multimodality is not None and quality.multimodality > _SEVERAL_WAYS:
        return (
            "diffusion_policy",
            f"in {quality.multimodality:.0%} of the states the demonstrators went either of two ways",
        )
    if quality.rows < _FEW_ROWS:
        chosen = "hype_filter" if states else "hype"
        return chosen, f"{quality.rows} rows are too few to clone, and the simulator can fill in the rest"
    if noise is not None and noise > _NOISY:
        return (
            "hype",
            f"{noise:.0%} of the actions' variance is not explained by the state, and cloning would repeat it",
        )
    if share is not None:
        return (
            "hype",
            f"a small cloning of them scores {share:.0%} of what they do, and the simulator can teach the rest",
        )
    return "bc", "there are many rows, and the state decides the action; hype is the next to try"
