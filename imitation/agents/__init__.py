"""How the policy is improved: one file per policy optimiser."""

from .base import ActingAgent, ActorCritic, ActorCriticConfig, Agent, OnPolicyAgent
from .iq_learn import IQLearn, IQLearnConfig
from .ppo import PPO, PPOConfig
from .sac import SAC, SACConfig
from .td3 import TD3, TD3BC, TD3BCConfig, TD3Config

__all__ = [
    "PPO",
    "SAC",
    "TD3",
    "TD3BC",
    "ActingAgent",
    "ActorCritic",
    "ActorCriticConfig",
    "Agent",
    "IQLearn",
    "IQLearnConfig",
    "OnPolicyAgent",
    "PPOConfig",
    "SACConfig",
    "TD3BCConfig",
    "TD3Config",
]
