"""What is good? One file per reward."""

from .airl import AirlConfig, AirlReward
from .base import ConstantReward, FixedReward, ImplicitReward, LogProb, Reward, TaskReward, gradient_penalty, slopes
from .discriminator import DiscriminatorConfig, DiscriminatorReward
from .gan import GanConfig, GanReward
from .wasserstein import WassersteinReward

__all__ = [
    "AirlConfig",
    "AirlReward",
    "ConstantReward",
    "DiscriminatorConfig",
    "DiscriminatorReward",
    "FixedReward",
    "GanConfig",
    "GanReward",
    "ImplicitReward",
    "LogProb",
    "Reward",
    "TaskReward",
    "WassersteinReward",
    "gradient_penalty",
    "slopes",
]
