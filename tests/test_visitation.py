"""On a small task solved exactly, learned rewards lead a soft-optimal policy to the expert's visitation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_rewards import make, shares

from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Batch

STATES, ACTIONS, DISCOUNT, TEMPERATURE = 6, 3, 0.9, 0.3


def soft_optimal(rewards: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """The policy π(a|s) (S, A) that is optimal under rewards (S, A) and an entropy bonus, by soft value iteration."""
    values = np.zeros(STATES)
    for _ in range(300):
        action_values = rewards + DISCOUNT * transitions @ values
        highest = action_values.max(1, keepdims=True)
        weights = np.exp((action_values - highest) / TEMPERATURE)
        values = highest[:, 0] + TEMPERATURE * np.log(weights.sum(1))
    return weights / weights.sum(1, keepdims=True)


def visitation(policy: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """The discounted share of time (S, A) that a policy spends in each pair, from a uniform start."""
    moves = np.einsum("sa,sat->st", policy, transitions)
    states = np.linalg.solve(np.eye(STATES) - DISCOUNT * moves.T, (1 - DISCOUNT) * np.full(STATES, 1 / STATES))
    return states[:, None] * policy


def rows(pairs: np.ndarray) -> Batch:
    """Pairs by number (B,) as one-hot states and actions, one run."""
    states, actions = np.divmod(pairs, ACTIONS)
    one_hot = torch.eye(STATES)[states][None], torch.eye(ACTIONS)[actions][None]
    nothing = torch.zeros(1, len(pairs))
    return Batch(*one_hot, one_hot[0], nothing, nothing, nothing)


@pytest.mark.parametrize("form", ["wasserstein", "logit"])
def test_the_experts_visitation_is_recovered(form: str) -> None:
    """Moment matching, and maximum-entropy inverse RL in its adversarial form: the mean visitation of all iterates."""
    random = np.random.default_rng(1)
    transitions = random.dirichlet(np.full(STATES, 0.3), (STATES, ACTIONS))
    expert = visitation(soft_optimal(random.normal(0, 1, (STATES, ACTIONS)), transitions), transitions)
    reward = make(
        form, 1, observation_size=STATES, action_size=ACTIONS, absorbing=False, learning_rate=3e-3, penalty_weight=1.0
    )
    generators, visited = Generators([0]), np.zeros_like(expert)
    everything = rows(np.arange(STATES * ACTIONS))
    for turn in range(150):
        table = reward.relabel(everything).double().numpy().reshape(STATES, ACTIONS)
        now = visitation(soft_optimal(table, transitions), transitions)
        visited = now if turn == 0 else visited + (now - visited) / (turn + 1)  # no regret: all of history
        for _ in range(5):
            of_expert, of_learner = (
                rows(random.choice(expert.size, 256, p=shown.ravel() / shown.sum())) for shown in (expert, visited)
            )
            reward.update(of_expert, of_learner, shares(0.0, 0.0, 1), generators, None)
    uniform = visitation(np.full((STATES, ACTIONS), 1 / ACTIONS), transitions)

    def apart(other: np.ndarray) -> float:
        return 0.5 * float(np.abs(other - expert).sum())

    assert apart(uniform) > 0.5
    assert apart(visited) < 0.1
