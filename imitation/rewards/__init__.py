"""What is good? One file per reward."""

from .base import Reward, TaskReward, gradient_penalty
from .discriminator import DiscriminatorConfig, DiscriminatorReward
from .gan import GanConfig, GanReward
from .wasserstein import WassersteinReward

__all__ = [
    "DiscriminatorConfig",
    "DiscriminatorReward",
    "GanConfig",
    "GanReward",
    "Reward",
    "TaskReward",
    "WassersteinReward",
    "gradient_penalty",
]
