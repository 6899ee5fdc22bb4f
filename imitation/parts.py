"""The seam between the axes: what a part may know of the training that it is made for.

A part (a reward, an agent, a reset distribution) is a class with ``create(config, setting)``, and, when it has
settings, a frozen dataclass ``Config`` of them. It knows nothing of the other parts. A part from outside is used
by its import path, ``reward=my_module:MyReward``, with its settings as ``reward.name=value``.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol

import torch

from ..datasets import Demonstrations
from ..robots import Spaces, Task
from .networks import Normaliser


@dataclasses.dataclass(frozen=True)
class Setting:
    """What parts are made for: a task, R runs by their seeds, and the data.

    ``demonstrations`` are the expert's; ``offline`` other recordings of the task, by whomever. ``normaliser``
    standardises observations for every network. ``precision`` is that of the matrix products. ``imagined`` says that
    the starts to be made are of roll-outs in a learned world, which can begin in any observation.
    """

    task: Task
    spaces: Spaces
    seeds: tuple[int, ...]
    normaliser: Normaliser
    precision: torch.dtype
    device: torch.device
    demonstrations: Demonstrations | None = None
    offline: Demonstrations | None = None
    imagined: bool = False

    @property
    def sizes(self) -> tuple[int, int, int, Normaliser, torch.dtype]:
        """What most networks are made from: R, O, A, the normaliser and the precision."""
        return len(self.seeds), self.spaces.observation_size, self.spaces.action_size, self.normaliser, self.precision


class Part(Protocol):
    """A class that the command line can make a part with."""

    Config: ClassVar[type[Any] | None]

    @classmethod
    def create(cls, config: Any, setting: Setting) -> Any:
        """The part, from its settings.

        Errors: :class:`~understudy.robots.InputError` when it does not fit the setting.
        """
        ...
