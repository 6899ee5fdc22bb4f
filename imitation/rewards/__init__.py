"""What is good? One file per reward."""

from .airl import AirlConfig, AirlReward
from .base import ConstantReward, FixedReward, ImplicitReward, LogProb, Reward, TaskReward, gradient_penalty, slopes
from .diffusion import DiffusionConfig, DiffusionReward
from .discriminator import DiscriminatorConfig, DiscriminatorReward
from .gan import GanConfig, GanReward
from .score import ScoreConfig, ScoreReward
from .wasserstein import WassersteinReward

__all__ = [
    "AirlConfig",
    "AirlReward",
    "ConstantReward",
    "DiffusionConfig",
    "DiffusionReward",
    "DiscriminatorConfig",
    "DiscriminatorReward",
    "FixedReward",
    "GanConfig",
    "GanReward",
    "ImplicitReward",
    "LogProb",
    "Reward",
    "ScoreConfig",
    "ScoreReward",
    "TaskReward",
    "WassersteinReward",
    "gradient_penalty",
    "slopes",
]
