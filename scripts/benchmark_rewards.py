"""What a learned reward costs, in updates of the agent that it teaches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .paired import ROWS, Block, Comparison, block_of

if TYPE_CHECKING:
    import torch

REWARDS = ("gan", "wasserstein", "score", "diffusion")


def reward_comparisons(runs: int, device: torch.device, precision: str) -> Iterator[Comparison]:
    """For each reward: SAC with the task's reward against the same with the learned one, at the defaults.

    The ratio is the learned reward's relabelling and its own updates, per update of the agent.
    """
    for reward in REWARDS:
        blocks = (_updates(None, runs, device, precision), _updates(reward, runs, device, precision))
        yield Comparison(reward, ("task", "learned"), blocks, (runs, runs), lambda task, learned: task / learned - 1)


def _updates(reward: str | None, runs: int, device: torch.device, precision: str) -> Block:
    """Updates of moment matching's agent under a reward, or under the task's; nothing acts."""
    from omegaconf import OmegaConf

    from ..datasets import load
    from ..imitation.interactive import InteractiveTraining
    from ..imitation.rewards import TaskReward
    from .build import build
    from .settings import compose

    once = ["reward.expert_updates=1"] if reward == "score" else []  # before the first update, not part of any
    config, _ = compose(
        [
            "task=hopper", "learner=mm", f"reward={reward or 'gan'}", f"runs={runs}", f"device={device}",
            f"precision={precision}", "loop.select_by=none", f"steps={ROWS}", *once,
        ]
    )  # fmt: skip
    values: Any = OmegaConf.to_container(config, resolve=True)
    training = build(values, load("hopper-expert", episodes=4)).training
    assert isinstance(training, InteractiveTraining)
    if reward is None:
        training.reward = TaskReward()
    return block_of(training)
