"""DAgger: whose action is taken, whose is learned, and that it needs someone to ask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Make, run_to

from understudy.imitation import Policy
from understudy.imitation.dagger import DaggerTraining
from understudy.robots import InputError


def labelled(training: DaggerTraining) -> tuple[torch.Tensor, torch.Tensor]:
    """The pairs that the expert has labelled, of all runs (R, N, ·)."""
    first = training.row_count - training.steps
    rows = torch.arange(first, training.row_count).expand(len(training.seeds), -1)
    return training.pairs(rows)


@pytest.mark.parametrize("acts", [0, 1])
def test_every_label_is_the_experts_whoever_acted(make: Make, an_expert: Path, acts: int) -> None:
    training = run_to(make("dagger", f"loop.expert_acts={acts}"), 100)
    assert isinstance(training, DaggerTraining)
    expert = Policy.from_pretrained(an_expert)
    seen, labels = labelled(training)
    torch.testing.assert_close(labels, expert.act(seen))
    assert training.step_counts()["policy"].tolist() == [100, 100]
    # The states are those of whoever acted: the expert's own first episode starts alike and goes where it goes.
    alone = training.tasks.__class__(training.task, training.seeds)
    observations, same = torch.from_numpy(alone.reset()), True
    for index in range(20):
        same = same and torch.equal(seen[:, index], observations)
        observations = torch.from_numpy(alone.step(expert.act(observations).numpy(), "policy").next_observations)
    alone.close()
    assert same == bool(acts)
    training.close()


def test_the_demonstrations_stay_among_the_rows(make: Make) -> None:
    training = run_to(make("dagger"), 50)
    assert isinstance(training, DaggerTraining)
    begun = training.row_count - 50
    everything = torch.arange(begun).expand(2, -1)
    seen, _ = training.pairs(everything)
    assert torch.equal(seen[0], seen[1])
    drawn = training.generators.integers(training.row_count, (1, 4000))
    assert (drawn < begun).any()
    assert (drawn >= begun).any()
    training.close()


@pytest.mark.parametrize(
    ("learner", "options", "message"),
    [
        ("dagger", ("expert=null",), "give expert="),
        ("dagger", ("expert=nowhere",), "nowhere does not exist"),
        ("bc", ("expert=nowhere",), "only learner=dagger"),
        ("dagger", ("agent=sac",), "regresses on actions and has no agent"),
    ],
)
def test_what_it_cannot_use_is_refused(make: Make, learner: str, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(learner, *options)
