"""What a learned reward sees of a transition."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..networks import Normaliser
from ..replay import Batch

Inputs = Literal["state-action", "state", "state-next-state", "all"]


def input_size(which: Inputs, observation_size: int, action_size: int) -> int:
    """How many numbers there are of a transition with O observations and A actions."""
    return {
        "state-action": observation_size + action_size,
        "state": observation_size,
        "state-next-state": 2 * observation_size,
        "all": 2 * observation_size + action_size,
    }[which]


def sees_actions(which: Inputs) -> bool:
    """Whether actions are among them."""
    return which in ("state-action", "all")


def network_inputs(which: Inputs, batch: Batch, normaliser: Normaliser) -> Tensor:
    """They (..., B, X), observations standardised."""
    states = normaliser(batch.observations)
    if which == "state":
        return states
    if which == "state-action":
        return torch.cat((states, batch.actions), -1)
    next_states = normaliser(batch.next_observations)
    parts = (states, next_states) if which == "state-next-state" else (states, batch.actions, next_states)
    return torch.cat(parts, -1)
