"""The learners: networks, rewards, agents, the interactive loop, behaviour cloning, policies, evaluation."""

from .evaluation import Evaluation, evaluate
from .policy import Policy, PolicyConfig

__all__ = ["Evaluation", "Policy", "PolicyConfig", "evaluate"]
