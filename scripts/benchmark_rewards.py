"""What a learned reward costs, in updates of the agent that it teaches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .paired import ROWS, Block, Comparison, block_of

if TYPE_CHECKING:
    import torch

_EXPERT_ONCE = "reward.expert_updates=1"  # its updates come before the first batch, and are part of none
REWARDS = {
    "gan": ("reward=gan",),
    "wasserstein": ("reward=wasserstein",),
    "score": ("reward=score", _EXPERT_ONCE),
    "score at 4 levels": ("reward=score", _EXPERT_ONCE, "reward.levels=4"),
    "score at 32 levels": ("reward=score", _EXPERT_ONCE, "reward.levels=32"),
    "diffusion": ("reward=diffusion",),
}


def reward_comparisons(runs: int, device: torch.device, precision: str) -> Iterator[Comparison]:
    """For each reward: SAC with the task's reward against the same with the learned one, at the defaults.

    The ratio is the learned reward's relabelling and its own updates, per update of the agent.
    """
    for name, options in REWARDS.items():
        blocks = (_updates(None, runs, device, precision), _updates(options, runs, device, precision))
        yield Comparison(name, ("task", "learned"), blocks, (runs, runs), lambda task, learned: task / learned - 1)


def _updates(reward: tuple[str, ...] | None, runs: int, device: torch.device, precision: str) -> Block:
    """Updates of moment matching's agent under a reward, or under the task's; nothing acts."""
    from omegaconf import OmegaConf

    from ..datasets import load
    from ..imitation.interactive import InteractiveTraining
    from ..imitation.rewards import TaskReward
    from .build import build
    from .settings import compose

    config, _ = compose(
        [
            "task=hopper", "learner=mm", f"runs={runs}", f"device={device}", f"precision={precision}",
            "loop.select_by=none", f"steps={ROWS}", *(reward or ()),
        ]
    )  # fmt: skip
    values: Any = OmegaConf.to_container(config, resolve=True)
    training = build(values, load("hopper-expert", episodes=4)).training
    assert isinstance(training, InteractiveTraining)
    if reward is None:
        training.reward = TaskReward()
    return block_of(training)
