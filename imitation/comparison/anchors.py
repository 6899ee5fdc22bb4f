"""What the literature reports on the same tasks: shown beside our numbers, never mixed with them.

Versions of tasks, experts, disturbances, numbers of demonstrations and ways of counting steps differ from ours and from
each other's. ``read`` says how a number came here: from text, or by eye from a figure.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Anchor:
    """Published returns on a task: under what conditions, by how many policy steps, and the expert's."""

    task: str
    source: str
    conditions: str
    steps: str
    expert: str
    values: str
    read: str


_HYPE, _DIFFAIL = "HyPE (arXiv 2402.08848)", "DiffAIL (arXiv 2312.06348)"
_IQ = "IQ-Learn (arXiv 2106.12142), as listed by Papers with Code"
_EYE, _TEXT = "by eye, from a figure", "text"
_TREMBLING = "64 trajectories, a hand that trembles in 1 % of steps"

ANCHORS = (
    Anchor(
        "hopper", _HYPE, f"Hopper-v3, {_TREMBLING}", "1M (HyPER 150k)", "3550",
        "BC 2850, BC-Reg 2900, MM 2450, FILTER 3200, HyPE 3050, HyPER 3200", _EYE,
    ),
    Anchor(
        "walker2d", _HYPE, f"Walker2d-v3, {_TREMBLING}", "1M (HyPER 150k)", "4500",
        "BC 2750, BC-Reg 3950, MM 3950, FILTER 3800, HyPE 4550, HyPER 4050", _EYE,
    ),
    Anchor(
        "ant", _HYPE, f"Ant-v3, {_TREMBLING}", "1M (HyPER 150k)", "4600",
        "BC 3600, BC-Reg 3300, MM 3700, FILTER 4250, HyPE 4600, HyPER 4650", _EYE,
    ),
    Anchor(
        "humanoid", _HYPE, "Humanoid-v3, 64 trajectories, a hand that trembles in 2.5 % of steps",
        "1M (HyPER 150k)", "5500",
        "BC 350 (suspect), BC-Reg 5000, MM 5050, FILTER 5150, HyPE 5400, HyPER 5600", _EYE,
    ),
    Anchor(
        "antmaze", _HYPE, "antmaze-large-diverse, D4RL's data", "500k (HyPER 150k)", "",
        "success: BC 29 %, MM, BC-Reg, FILTER, HyPE about 0, HyPE+FILTER 30 to 44 %, HyPER 44 %", _EYE,
    ),
    Anchor("ant", _IQ, "1 trajectory", "500k", "4700", "IQ-Learn 4362.9", _TEXT),
    Anchor("walker2d", _IQ, "1 trajectory", "500k", "5274", "IQ-Learn 5134.0", _TEXT),
    Anchor("humanoid", _IQ, "1 trajectory", "500k", "5313", "IQ-Learn 5227.1", _TEXT),
    Anchor("hopper", _DIFFAIL, "1 trajectory", "500k to 750k", "3400", "DiffAIL 3400", _EYE),
    Anchor("halfcheetah", _DIFFAIL, "1 trajectory", "500k to 750k", "4460", "DiffAIL 5250", _EYE),
    Anchor("walker2d", _DIFFAIL, "1 trajectory", "500k to 750k", "6700", "DiffAIL 5500 to 6300", _EYE),
    Anchor("ant", _DIFFAIL, "1 trajectory", "500k to 750k", "4230", "DiffAIL 5050", _EYE),
)  # fmt: skip


def of_tasks(tasks: tuple[str, ...]) -> list[Anchor]:
    """Those on the tasks, in the order of the table."""
    return [anchor for anchor in ANCHORS if anchor.task in tasks]
