"""How the policy is improved: one file per policy optimiser."""

from .base import ActorCritic, ActorCriticConfig, Agent
from .iq_learn import IQLearn, IQLearnConfig
from .sac import SAC, SACConfig
from .td3 import TD3, TD3BC, TD3BCConfig, TD3Config

__all__ = [
    "SAC",
    "TD3",
    "TD3BC",
    "ActorCritic",
    "ActorCriticConfig",
    "Agent",
    "IQLearn",
    "IQLearnConfig",
    "SACConfig",
    "TD3BCConfig",
    "TD3Config",
]
