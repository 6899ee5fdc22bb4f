"""A policy of this suite as a controller's: one robot, in its own units, as it acts in evaluations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .policy import Policy


class Driver:
    """Acts with a policy, by the same numbers to the bit as an evaluation of a single episode."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        low, high = np.array(policy.config.action_low), np.array(policy.config.action_high)
        self._low, self._high, self._scale, self._offset = low, high, (high - low) / 2, (high + low) / 2
        self._act: Callable[[Tensor], Tensor] = policy.controller([0])

    def reset(self, seed: int) -> None:
        """An episode begins."""
        self._policy.seed(seed)
        self._act = self._policy.controller([seed])

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action (A,) in the environment's units for the newest observation (O,)."""
        with torch.no_grad():
            said = self._act(torch.from_numpy(observation).view(1, 1, -1)).view(-1).cpu().numpy()
        return np.clip(said.astype(np.float64) * self._scale + self._offset, self._low, self._high)
