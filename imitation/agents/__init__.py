"""How the policy is improved: one file per policy optimiser."""

from .base import ActorCritic, Agent
from .sac import SAC, SACConfig

__all__ = ["SAC", "ActorCritic", "Agent", "SACConfig"]
