"""On a GPU: the recorded update equals the eager one, and trainings and policies move between devices."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from conftest import Make, run_to, same_state

from understudy.imitation import Policy
from understudy.imitation.checkpoint import load_checkpoint, save_checkpoint
from understudy.imitation.interactive import InteractiveTraining

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU on this machine")


@pytest.mark.parametrize("learner", ["sac", "hype", "bc_reg"])
def test_the_recorded_update_equals_the_eager_one(make: Make, learner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = run_to(make(learner, "device=cuda"), 200)

    def eagerly(self: InteractiveTraining, inputs: tuple[torch.Tensor, ...]) -> object:
        return functools.partial(self._relabel_and_update, self.agent.phase(self.updates))

    monkeypatch.setattr(InteractiveTraining, "_agent_update", eagerly)
    eager = run_to(make(learner, "device=cuda"), 200)
    one, two = recorded.state().tensors, eager.state().tensors
    for name in one:
        if name.startswith("agent.network."):
            torch.testing.assert_close(one[name].cpu(), two[name].cpu(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("learner", ["bc", "sac", "hype"])
def test_a_run_on_the_gpu_resumes_there(make: Make, learner: str, tmp_path: Path) -> None:
    half = run_to(make(learner, "device=cuda"), 100)
    save_checkpoint(tmp_path, half.steps, half.state())
    resumed = make(learner, "device=cuda")
    resumed.set_state(load_checkpoint(tmp_path))
    assert resumed.steps == half.steps
    saved, loaded = half.state(), resumed.state()
    for state in (saved, loaded):
        state.tensors.update({name: value.cpu() for name, value in state.tensors.items()})
    assert same_state(saved, loaded)
    run_to(resumed, 200)


def test_a_policy_trained_on_the_gpu_acts_the_same_on_the_cpu(make: Make, tmp_path: Path) -> None:
    training = run_to(make("hype", "device=cuda"), 200)
    training.policy(0, {}).save_pretrained(tmp_path / "policy")
    policy = Policy.from_pretrained(tmp_path / "policy")
    seen = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(1))
    there = training.act(seen.to("cuda"))[0].cpu()
    torch.testing.assert_close(policy.act(seen[0]), there, rtol=1e-4, atol=1e-4)
