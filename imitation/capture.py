"""CUDA graphs: on a GPU an update of small networks is bound by its launches, so it is recorded and replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Update = Callable[..., Mapping[str, Tensor]]


class CapturedUpdate:
    """A pure function of tensors, recorded as one CUDA graph and replayed on new inputs.

    ``update`` must read nothing but its arguments and tensors that stay at their place in memory, and change
    tensors only in place; the agents' updates are written so. Recording runs it a few times first, which
    changes parameters and moments: ``snapshot`` gives them and ``put_back`` takes them back, so that recording
    leaves no trace. The results are overwritten by the next call.
    """

    _WARM_UP = 3

    def __init__(
        self,
        update: Update,
        inputs: tuple[Tensor, ...],
        snapshot: Callable[[], dict[str, Tensor]],
        put_back: Callable[[dict[str, Tensor]], None],
    ) -> None:
        self._inputs = tuple(value.clone() for value in inputs)
        before = {name: value.clone() for name, value in snapshot().items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(self._WARM_UP):
                update(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._results = update(*self._inputs)
        put_back(before)

    def __call__(self, *inputs: Tensor) -> Mapping[str, Tensor]:
        """Replay on inputs of the recorded shapes."""
        for mine, theirs in zip(self._inputs, inputs, strict=True):
            mine.copy_(theirs)
        self._graph.replay()
        return self._results
