"""Small demonstrations and the tests' way of building a training from command-line options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from understudy.datasets import write_d4rl
from understudy.imitation.recording import record_policy
from understudy.robots import find_task
from understudy.scripts.build import Built, build
from understudy.scripts.settings import compose

SMALL = (
    "task=hopper", "device=cpu", "threads=1", "precision=float32", "steps=240", "agent.hidden=[16,16]",
    "loop.batch_size=16", "loop.random_steps=60", "loop.update_every=20", "evaluation.every=80",
    "evaluation.episodes=2", "checkpoint.every=120", "log_every=40", "quiet=true",
)  # fmt: skip
