"""The components of MuJoCo's integration state: where each one lies, and what it is after a reset."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportAttributeAccessIssue=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (MuJoCo's bindings bring no types.)

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

_INTEGRATION = int(mujoco.mjtState.mjSTATE_INTEGRATION)
_PREFIX = "mjSTATE_"
# Components are called as the fields of mjData; where the enumeration calls one otherwise, it stands here.
_FIELDS = {"warmstart": "qacc_warmstart", "plugin": "plugin_state"}


def _components() -> dict[str, int]:
    """The elementary components of the integration state by name, as bits, in the order of their bits."""
    bits: dict[str, int] = {}
    for name, member in mujoco.mjtState.__members__.items():
        bit = int(member)
        if name.startswith(_PREFIX) and bit.bit_count() == 1 and bit & _INTEGRATION:
            short = str(name).removeprefix(_PREFIX).lower()
            bits[_FIELDS.get(short, short)] = bit
    return dict(sorted(bits.items(), key=lambda item: item[1]))


@dataclasses.dataclass(frozen=True)
class StateLayout:
    """How a model's integration state (S numbers) is made up.

    ``columns`` has the place of each component that is not empty, ``fresh`` (S,) is the state of freshly
    reset data. Components and their order are MuJoCo's and differ between its versions: files go by name.
    """

    columns: Mapping[str, slice]
    fresh: np.ndarray

    @classmethod
    def of(cls, model: Any) -> StateLayout:
        """Read from a model (an ``MjModel``), and checked against MuJoCo's own concatenation."""
        data = mujoco.MjData(model)
        fresh = _state(model, data, _INTEGRATION)
        # Distinct numbers show that the parts in the order of their bits are the whole.
        mujoco.mj_setState(model, data, np.arange(1.0, len(fresh) + 1), _INTEGRATION)
        parts = {name: _state(model, data, bit) for name, bit in _components().items()}
        if not np.array_equal(np.concatenate([*parts.values()]), _state(model, data, _INTEGRATION)):
            raise RuntimeError(f"MuJoCo {mujoco.__version__} orders its integration state in an unknown way")
        columns: dict[str, slice] = {}
        begin = 0
        for name, part in parts.items():
            if len(part):
                columns[name] = slice(begin, begin + len(part))
            begin += len(part)
        return cls(columns, fresh)

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each component that is not empty."""
        return {name: place.stop - place.start for name, place in self.columns.items()}

    def split(self, states: np.ndarray) -> dict[str, np.ndarray]:
        """The components (N, size) of states (N, S)."""
        return {name: states[:, place] for name, place in self.columns.items()}

    def join(self, components: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """States (N, S) from components (N, size); those that are missing are as after a reset."""
        states = np.tile(self.fresh, (count, 1))
        for name, values in components.items():
            states[:, self.columns[name]] = values
        return states


def _state(model: Any, data: Any, bits: int) -> np.ndarray:
    state = np.empty(mujoco.mj_stateSize(model, bits), np.float64)
    mujoco.mj_getState(model, data, state, bits)
    return state
