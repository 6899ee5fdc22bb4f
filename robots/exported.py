"""Runs a policy that `understudy export` wrote: of all packages it needs NumPy and onnxruntime, and never torch.

This file alone says how: a robot's computer needs it, the folder and those two packages.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from .errors import InputError

FORMAT, VERSION, METADATA = "understudy-export", 1, "metadata.json"


class ExportedPolicy:
    """A policy from its folder. ``metadata`` is what its `metadata.json` says."""

    def __init__(self, session: Any, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self._session = session
        self.observation_size = len(metadata["observation"])
        self.action_size = len(metadata["action"])
        self._history, self._chunk, self._acts, self._noise = (
            int(metadata["memory"][name]) for name in ("history", "chunk", "acts", "noise")
        )
        self.plans = self._history * self._chunk > 1 or self._noise > 0
        window = (1, self._history, self.observation_size) if self.plans else (1, self.observation_size)
        said = (1, self._chunk, self.action_size) if self.plans else (1, self.action_size)
        self._window, self._said = np.zeros(window, np.float32), np.zeros(said, np.float32)
        self._draws = np.zeros((1, self._noise), np.float32)
        self._bound = self._bind()
        self.reset(0)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that `understudy export … format=onnx` wrote.

        Errors: :class:`InputError` when it is missing, damaged or of another kind, or onnxruntime is not installed.
        """
        folder = Path(folder)
        metadata = read_metadata(folder)
        file = folder / str(metadata["file"])
        if metadata["graph"] != "onnx":
            raise InputError(
                f"{folder} holds a graph for torch.export.load: export with format=onnx to run it without torch"
            )
        try:
            graph = file.read_bytes()
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror}; export the policy again") from error
        if hashlib.sha256(graph).hexdigest() != metadata["sha256"]:
            raise InputError(f"{file} is not the graph that {METADATA} describes: export the policy again")
        return cls(_session(graph, file), metadata)

    def reset(self, seed: int) -> None:
        """An episode begins; ``seed`` decides what a policy draws in it."""
        self._random = np.random.default_rng(seed)
        self._taken, self._begun = self._acts, False

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action (A,) float32 for the newest observation (O,), in the environment's units and within its bounds."""
        if not self.plans:
            self._window[0] = observation
            self._session.run_with_iobinding(self._bound)
            return self._said[0].copy()
        window = self._window[0]
        window[:-1] = window[1:] if self._begun else observation
        window[-1] = observation
        self._begun = True
        if self._taken >= self._acts:
            self._draws[:] = self._random.standard_normal(self._draws.shape)
            self._session.run_with_iobinding(self._bound)
            self._taken = 0
        self._taken += 1
        return self._said[0, self._taken - 1].copy()

    def run(self, *inputs: np.ndarray) -> np.ndarray:
        """The graph itself on a batch: observations (B, O) to actions (B, A), or windows (B, H, O) and the noise
        (B, K · A) of policies that draw to plans (B, K, A)."""
        names = [item.name for item in self._session.get_inputs()]
        return self._session.run(None, dict(zip(names, inputs, strict=True)))[0]

    def _bind(self) -> Any:
        """Inputs and outputs of one row, bound to arrays of our own: nothing is copied or allocated for a call."""
        bound = self._session.io_binding()
        arrays = {"observations": self._window, **({"noise": self._draws} if self._noise else {})}
        for name, array in arrays.items():
            bound.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        bound.bind_output("actions", "cpu", 0, np.float32, self._said.shape, self._said.ctypes.data)
        return bound


def read_metadata(folder: Path) -> dict[str, Any]:
    """What an exported policy's `metadata.json` says. Errors: :class:`InputError` when it is not one."""
    file = folder / METADATA
    try:
        values: Any = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is missing or damaged ({error}): export the policy again") from error
    if not isinstance(values, dict) or cast(dict[str, Any], values).get("format") != FORMAT:
        raise InputError(f"{file} does not describe an exported policy: name the folder that understudy export wrote")
    metadata = cast(dict[str, Any], values)
    if metadata.get("version") != VERSION:
        raise InputError(f"{file}: version {metadata.get('version')} of the format is not {VERSION}: update understudy")
    lacking = [name for name in _NEEDED if name not in metadata]
    if lacking:
        raise InputError(f"{file} is damaged: it has no {lacking[0]!r}; export the policy again")
    return metadata


_NEEDED = ("graph", "file", "sha256", "task", "control_rate", "observation", "action", "memory")


def _session(graph: bytes, file: Path) -> Any:
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise InputError(f"{file} needs onnxruntime ({error}): pip install 'understudy[export]'") from error
    options = runtime.SessionOptions()
    # A network of this size is done before a second thread has woken, and spinning threads take the robot's core.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        raise InputError(
            f"{file} cannot be run ({' '.join(str(error).split())[:200]}): export the policy again"
        ) from error
