"""The learners: networks, rewards, agents, the interactive loop, behaviour cloning, policies, evaluation."""

from .chunk_policy import ChunkPolicy
from .evaluation import Evaluation, evaluate
from .policy import Policy, PolicyConfig

__all__ = ["ChunkPolicy", "Evaluation", "Policy", "PolicyConfig", "evaluate"]
