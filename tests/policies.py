"""Small policies for tests, made without any training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from understudy.imitation import ChunkPolicy
from understudy.imitation.chunk_policy import ChunkPolicyConfig
from understudy.imitation.chunks import ChunkDiffusion
from understudy.imitation.diffusion import signal_levels
from understudy.imitation.policy import Head, Policy, PolicyConfig
from understudy.robots import find_task


def make_policy(task_name: str = "hopper", head: Head = "squashed-gaussian", seed: int = 0, **changes: Any) -> Policy:
    """A policy with random weights for a task; ``changes`` are other values of its config."""
    task = find_task(task_name)
    spaces = task.spaces
    values: dict[str, Any] = {
        "head": head,
        "observation_size": spaces.observation_size,
        "action_size": spaces.action_size,
        "hidden": (16, 16),
        "action_low": tuple(spaces.action_low.tolist()),
        "action_high": tuple(spaces.action_high.tolist()),
        "task": task.name,
        "control_rate": spaces.control_rate,
    }
    policy = Policy(PolicyConfig(**{**values, **changes}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return policy


def make_chunk_policy(**how: Any) -> ChunkPolicy:
    """One that plans six actions and takes three, for two observations; ``how`` are other values of its config."""
    plain = make_policy().config
    own = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    own |= {"head": "chunk-diffusion", "activation": "silu", "hidden": (32, 32), "times": 50, "samples": 4, **how}
    policy = ChunkPolicy(ChunkPolicyConfig(**own, history=2, chunk=6, acts=3))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        if isinstance(policy.model, ChunkDiffusion):
            policy.model.predictor.signal.copy_(signal_levels(50, "squaredcos_cap_v2"))
    return policy


def make_run(directory: Path, runs: int, **training: Any) -> Path:
    """A run directory as a training leaves it: the policies of its runs, and the last of them as the chosen one."""
    for run in range(runs):
        policy = make_policy(seed=run, training=training)
        policy.save_pretrained(directory / "policies" / f"run-{run}")
        if run == runs - 1:
            policy.save_pretrained(directory / "policy")
    return directory


def assert_sentence(message: object) -> None:
    """One short line, as the commands print it."""
    text = str(message)
    assert "\n" not in text
    assert 10 < len(text) < 400, text
