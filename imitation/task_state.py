"""The state of a batch of environments as tensors and JSON, for checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..robots import SimulatorState, TaskBatch
from .training import State


def tasks_state(tasks: TaskBatch) -> State:
    """Every environment's full state, and the steps counted so far."""
    tensors: dict[str, Tensor] = {f"counts.{name}": torch.from_numpy(v) for name, v in tasks.counts.items()}
    environments: list[Any] = []
    for index, captured in enumerate(tasks.capture()):
        arrays, rest = _split(captured)
        tensors |= {f"environment.{index}.{k}": torch.from_numpy(v) for k, v in arrays.items()}
        environments.append(rest)
    return State(tensors, {"environments": environments})


def set_tasks_state(tasks: TaskBatch, state: State) -> None:
    """Continue from :func:`tasks_state`, bit for bit."""
    for name, counts in tasks.counts.items():
        counts[:] = state.tensors[f"counts.{name}"].numpy()
    captured = [
        _joined({k: v.numpy() for k, v in state.part(f"environment.{index}").items()}, rest)
        for index, rest in enumerate(state.values["environments"])
    ]
    tasks.restore(captured)


def _split(state: SimulatorState) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A simulator state as arrays and JSON. Python floats survive JSON bit for bit."""
    arrays = {"physics": state.physics} | {f"derived.{k}": v for k, v in state.derived.items()}
    arrays |= {f"place.{k}": v for k, v in state.places.items()}
    scalars: dict[str, Any] = {}
    for name, value in state.attributes.items():
        if isinstance(value, np.ndarray):
            arrays[f"attribute.{name}"] = value
        else:
            scalars[name] = value.item() if isinstance(value, np.generic) else value
    return arrays, {
        "attributes": scalars,
        "elapsed": state.elapsed,
        "random": json.dumps(state.random),
        "hand": json.dumps(state.hand),
        "signals": json.dumps(state.signals),
    }


def _joined(arrays: dict[str, np.ndarray], rest: Mapping[str, Any]) -> SimulatorState:
    def part(prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    return SimulatorState(
        physics=arrays["physics"],
        derived=part("derived."),
        attributes={**rest["attributes"], **part("attribute.")},
        elapsed=rest["elapsed"],
        random=json.loads(rest["random"]),
        hand=json.loads(rest["hand"]),
        signals=json.loads(rest.get("signals", "null")),
        places=part("place."),
    )
