"""How the policy is improved: one file per policy optimiser."""

from .sac import SAC, SACConfig

__all__ = ["SAC", "SACConfig"]
