"""A policy as one graph that runs without this suite: normaliser, network, head and action scale inside, no memory.

What is written is a folder: the graph (``policy.onnx``, or ``policy.pt2`` of ``torch.export``) and ``metadata.json``,
which says what goes in and out. Nothing in it is pickled code: ONNX is protocol buffers, and a ``.pt2`` holds its
program as JSON and its weights as plain arrays. :mod:`understudy.robots.exported` runs the ONNX folder.

A policy that plans chunks remembers observations and its plan between steps. That memory stays outside the graph, which
makes a plan (B, K, A) of a window (B, H, O): the runner keeps it. A diffusion policy's noise is an input of the graph,
too, so that whoever runs it decides how it is drawn.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import io
import logging
import time
import warnings
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..robots import InputError, TaskBatch, features_of
from ..robots.exported import FORMAT, METADATA, VERSION, ExportedPolicy
from .chunk_policy import ChunkPolicy
from .chunks import ChunkDiffusion
from .evaluation import play
from .files import new_directory, own_folder, sha256, write_json
from .networks import StackedMLP, activation_of
from .policy import Policy

Kind = Literal["onnx", "torch"]
FILES: Mapping[Kind, str] = {"onnx": "policy.onnx", "torch": "policy.pt2"}
_ONNX = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-5  # in the environment's units
_RANDOM_ROWS, _WIDTH = 1000, 2.0  # of the random observations, and how many deviations they go
_WIDEST = 1e3  # deviations are at most this: a column that a policy must not see has 1e30
_CALLS, _WARM_UP = 2000, 200


class Graph(nn.Module):
    """What is exported: observations (B, O) to actions (B, A), or windows (B, H, O) to plans (B, K, A); in the
    environment's units, within its bounds. ``noise`` (B, K · A) is for policies that draw."""

    low: Tensor
    high: Tensor

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        # A sampler's first steps divide by almost nothing. In float32 their roundings reach 1e-4 of an action, so that
        # a policy differs from itself from one batch size to another; inside the graph they are float64.
        self.draws = policy.config.head == "chunk-diffusion"
        self.policy = copy.deepcopy(policy)
        if self.draws:
            self.policy.double()
        if isinstance(self.policy.net, ChunkDiffusion):
            self.policy.net.times()
        if isinstance(policy.net, StackedMLP):
            self.policy.net = _Layers(policy.net)
        self.register_buffer("low", torch.tensor(policy.config.action_low))
        self.register_buffer("high", torch.tensor(policy.config.action_high))

    def forward(self, observations: Tensor, noise: Tensor | None = None) -> Tensor:
        """Deterministic, but for the noise that is given."""
        policy = self.policy
        if isinstance(policy, ChunkPolicy):
            exact = observations.double() if self.draws else observations
            actions = policy.plan_of(exact, None if noise is None else noise.double()).float()
        else:
            actions = policy.act(observations)
        scaled = actions * ((self.high - self.low) / 2) + (self.high + self.low) / 2
        return torch.minimum(torch.maximum(scaled, self.low), self.high)


class _Layers(nn.Module):
    """The perceptron of a stack of one run, in products of plain matrices, which run a third faster."""

    def __init__(self, stack: StackedMLP) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weight[0].detach().clone() for weight in stack.weights)
        self.biases = nn.ParameterList(bias[0, 0].detach().clone() for bias in stack.biases)
        self.activation = activation_of(stack.activation)

    def forward(self, inputs: Tensor, *, exact: bool = True) -> Tensor:
        """(1, B, in) -> (1, B, out)."""
        hidden, last = inputs[0], len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.addmm(bias, hidden, weight)
            hidden = self.activation(hidden) if layer < last else hidden
        return hidden.unsqueeze(0)


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export came to: the largest differences to the policy, and latencies in microseconds."""

    folder: Path
    parity: Mapping[str, float]
    latency: Mapping[str, float]


def export_policy(policy: Policy, kind: Kind, out: Path, observations: Mapping[str, np.ndarray]) -> Exported:
    """Write a policy's graph to the folder ``out``, if it says what the policy says.

    ``observations`` are sets of rows (N, O) by name on which that is checked, beside random ones, one by one and as a
    batch.

    Errors: :class:`InputError` when the graph differs by more than 1e-5 from the policy (nothing is written then), when
    the packages of the extra ``export`` are missing, when the folder holds anything but an export, and when the disk
    refuses.
    """
    lacking = [name for name in _ONNX if kind == "onnx" and importlib.util.find_spec(name) is None]
    if lacking:
        raise InputError(f"format=onnx needs {lacking[0]}: pip install 'understudy[export]', or choose format=torch")
    whole = own_folder(out, (*FILES.values(), METADATA), "an exported policy")
    graph, reference = Graph(policy).eval(), _reference(policy)
    with new_directory(whole) as folder:
        file = folder / FILES[kind]
        _write(graph, kind, file)
        values = about(policy, kind, file)
        write_json(folder / METADATA, values)
        act = _runner(folder, kind)
        sets = {"random": random_observations(policy), **observations}
        parity = {name: _difference(policy, reference, act, rows) for name, rows in sets.items()}
        worst = max(parity, key=lambda name: parity[name])
        if not parity[worst] <= TOLERANCE:
            raise InputError(
                f"the exported graph differs from the policy by {parity[worst]:.2g} on {worst} observations, more than "
                f"{TOLERANCE:g}: nothing is written; try another version of torch or onnxruntime"
            )
        latency = _latency(graph, act)
        write_json(folder / METADATA, {**values, "parity": parity, "latency_microseconds": latency})
    return Exported(out, parity, latency)


def about(policy: Policy, kind: Kind, file: Path) -> dict[str, Any]:
    """What `metadata.json` says of a policy and its graph."""
    config, task = policy.config, policy.task
    said, done = features_of(task)
    memory, goal = {"history": 1, "chunk": 1, "acts": 1, "noise": 0}, None
    if isinstance(policy, ChunkPolicy):
        shape = policy.shape
        noise = shape.said if config.head == "chunk-diffusion" else 0
        memory = {"history": shape.history, "chunk": shape.chunk, "acts": shape.acts, "noise": noise}
        goal = policy.goal and dataclasses.asdict(policy.goal)
    packages = ("understudy", "torch", "numpy", "mujoco", "gymnasium", *(("onnx",) if kind == "onnx" else ()))
    return {
        "format": FORMAT,
        "version": VERSION,
        "graph": kind,
        "file": file.name,
        "sha256": sha256(file),
        "task": task.name,
        "environment": {"id": task.environment_id, "keywords": dict(task.keywords)},
        "disturbances": task.disturbances.to_values(),
        "control_rate": config.control_rate,
        "observation": [dataclasses.asdict(feature) for feature in said],
        "action": [dataclasses.asdict(feature) for feature in done],
        "action_low": list(config.action_low),
        "action_high": list(config.action_high),
        "memory": memory,
        "goal": goal,  # what the graph has in it: numbers, and the place, or none where observations end with it
        "head": config.head,
        "policy_sha256": digest(policy),
        "training": dict(config.training),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def digest(policy: Policy) -> str:
    """SHA-256 of a policy's weights, normaliser and all, whatever file they came from."""
    whole = hashlib.sha256()
    for name, tensor in sorted(policy.state_dict().items()):
        whole.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def random_observations(policy: Policy) -> np.ndarray:
    """Rows (N, O) about what the policy was trained on, and beyond."""
    normaliser, generator = policy.normaliser, np.random.default_rng(0)
    mean, std = normaliser.mean.cpu().numpy(), normaliser.std.cpu().numpy().clip(max=_WIDEST)
    drawn = generator.standard_normal((_RANDOM_ROWS, len(mean)))
    return (mean + _WIDTH * std * drawn).astype(np.float32)


def visited_observations(policy: Policy, *, seed: int = 0) -> np.ndarray:
    """The observations (N, O) of one episode that the policy plays: for tasks that no data are at hand of."""
    tasks = TaskBatch(policy.task, [seed])
    try:
        act = policy.controller([seed])
        return np.concatenate([row for row, _, _ in play(act, tasks, 1, "evaluation", np.ones(1, bool))])
    finally:
        tasks.close()


def _write(graph: Graph, kind: Kind, file: Path) -> None:
    example = _example(graph.policy, 2)
    batch = torch.export.Dim("batch")
    dynamic: Any = tuple({0: batch} for _ in example)
    with _quietly():
        if kind == "torch":
            program = torch.export.export(graph, example, dynamic_shapes=dynamic, strict=False)
            torch.export.save(program, file)
            return
        program = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=["observations", "noise"][: len(example)],
            output_names=["actions"],
            # Its rules take a factor of 1 - 1e-7 for 1, which a sampler does not forgive.
            optimize=not graph.draws,
            verbose=False,
        )
        assert program is not None
        program.save(str(file), external_data=False)


def _example(policy: Policy, rows: int) -> tuple[Tensor, ...]:
    size = policy.config.observation_size
    if not isinstance(policy, ChunkPolicy):
        return (torch.zeros(rows, size),)
    shape = policy.shape
    windows = torch.zeros(rows, shape.history, size)
    return (windows, torch.zeros(rows, shape.said)) if policy.config.head == "chunk-diffusion" else (windows,)


Run = Callable[..., np.ndarray]


def _runner(folder: Path, kind: Kind) -> Run:
    """What evaluates the graph that was written, from its file."""
    if kind == "onnx":
        return ExportedPolicy.load(folder).run
    module = torch.export.load(folder / FILES[kind]).module()

    @torch.no_grad()
    def run(*inputs: np.ndarray) -> np.ndarray:
        return module(*(torch.from_numpy(each) for each in inputs)).numpy()

    return run


def _reference(policy: Policy) -> Run:
    """What the policy itself says; of one that plans its plans, with the noise given and in the graph's precision."""
    if not isinstance(policy, ChunkPolicy):
        return lambda *inputs: policy.predict(*inputs)[0]
    graph = Graph(policy)
    return lambda *inputs: graph(*(torch.from_numpy(each) for each in inputs)).detach().numpy()


def _difference(policy: Policy, reference: Run, run: Run, rows: np.ndarray) -> float:
    """The largest difference of any action, in a batch and one by one."""
    inputs = _inputs(policy, rows)
    expected = reference(*(each.numpy() for each in inputs))
    arrays = [each.numpy() for each in inputs]
    together = run(*arrays)
    few = min(len(rows), 100)
    alone = np.concatenate([run(*(each[k : k + 1] for each in arrays)) for k in range(few)])
    differences = (np.abs(together - expected).max(), np.abs(alone - expected[:few]).max())
    return float(np.max(differences))  # NaN if there is any


def _inputs(policy: Policy, rows: np.ndarray) -> tuple[Tensor, ...]:
    example, observed = _example(policy, len(rows)), torch.from_numpy(np.ascontiguousarray(rows, np.float32))
    if not isinstance(policy, ChunkPolicy):
        return (observed,)
    windows = torch.stack([observed.roll(back, 0) for back in reversed(range(policy.shape.history))], 1)
    noise = [torch.randn(each.shape, generator=torch.Generator().manual_seed(0)) for each in example[1:]]
    return (windows, *noise)


def _latency(graph: Graph, run: Run) -> dict[str, float]:
    """Microseconds of a call for one observation, on one thread."""
    arrays = [each.numpy() for each in _example(graph.policy, 1)]
    taken = np.empty(_CALLS)
    for call in range(-_WARM_UP, _CALLS):
        begun = time.perf_counter_ns()
        run(*arrays)
        if call >= 0:
            taken[call] = (time.perf_counter_ns() - begun) / 1000
    p50, p99, most = np.quantile(taken, (0.5, 0.99, 1.0))
    return {"p50": round(p50, 1), "p99": round(p99, 1), "max": round(most, 1)}


@contextlib.contextmanager
def _quietly() -> Generator[None]:
    """Without what the exporters say on the way: what matters here is whether the graph says the same."""
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in noisy]
    try:
        for logger in noisy:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)
