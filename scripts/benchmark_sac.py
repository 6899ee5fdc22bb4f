"""Our stacked SAC against stable-baselines3's, as blocks of updates to be timed in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .paired import ROWS, Block, Comparison, block_of

if TYPE_CHECKING:
    import torch


def sac_comparison(runs: int, device: torch.device, precision: torch.dtype) -> Comparison:
    """Indices, rows, noise, relabelling and the update itself, on both sides; the ratio is ours to the peer's."""
    blocks = (_peer(device), _ours(runs, device, precision))
    return Comparison("sac", ("sb3", "ours"), blocks, (1, runs), lambda peer, ours: ours / peer)


def _ours(runs: int, device: torch.device, precision: torch.dtype) -> Block:
    """Updates of the stack."""
    from ..imitation.agents import SAC, SACConfig
    from ..imitation.interactive import InteractiveConfig, InteractiveTraining
    from ..imitation.networks import Normaliser
    from ..imitation.resets import InitialResets
    from ..imitation.rewards import TaskReward
    from ..robots import find_task

    task = find_task("hopper")
    spaces = task.spaces
    normaliser = Normaliser.identity(spaces.observation_size)
    agent = SAC(SACConfig(), runs, spaces.observation_size, spaces.action_size, normaliser, precision)
    config = InteractiveConfig(steps=ROWS)
    training = InteractiveTraining(config, task, agent, TaskReward(), InitialResets(), None, list(range(runs)), device)
    return block_of(training)


def _peer(device: torch.device) -> Block:
    """The same of stable-baselines3's SAC."""
    import gymnasium
    import numpy as np
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import configure

    model = SAC(
        "MlpPolicy", gymnasium.make("Hopper-v5"), batch_size=256, buffer_size=ROWS, device=device,
        policy_kwargs={"net_arch": [256, 256]}, verbose=0,
    )  # fmt: skip
    model.set_logger(configure(None, []))
    generator = np.random.default_rng(0)
    assert model.replay_buffer is not None
    for _ in range(ROWS):
        rows = generator.standard_normal((2, 1, 11))
        action = generator.uniform(-1, 1, (1, 3))
        model.replay_buffer.add(rows[0], rows[1], action, np.ones(1), np.zeros(1), [{}])
    return lambda count: model.train(gradient_steps=count, batch_size=256)
