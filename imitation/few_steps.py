"""Few steps that go as far as many: a diffusion model of chunks taught by one that takes its time."""

from __future__ import annotations

import torch
from torch import Tensor

from .chunks import ChunkDiffusion
from .diffusion import clean_to_reach, denoised, sampling_times
from .randomness import Generators

_AROUND = 0.1  # deviations of what is seen: the teacher can be asked anywhere; it is asked near the expert's states
_NOTHING = 1e-20  # what a policy may not see is divided by 1e30, and stays nothing


def errors_in_going_as_far(
    model: ChunkDiffusion, teacher: ChunkDiffusion, seen: Tensor, said: Tensor, generators: Generators
) -> Tensor:
    """Squared errors (R, B, K · A) of one step of the model's against the several of the teacher's that make it up.

    From what is seen (R, B, S), moved a little, and the expert's chunks (R, B, K · A), each noised to one of the times
    that the model goes through. Both name the chunk, and the teacher's ``samples`` are a multiple of the model's. An
    error weighs as the signal does over the noise, at least 1 (progressive distillation: Salimans and Ho 2022, arXiv
    2202.00512, its halvings at once).
    """
    signal, noise = model.predictor.signal, generators.normal(tuple(said.shape[1:]))
    observed = seen[..., : seen.shape[-1] - model.shape.told]
    visible = observed.abs() > _NOTHING
    moved = observed + _AROUND * generators.normal(tuple(observed.shape[1:])) * visible
    seen = torch.cat((moved, seen[..., observed.shape[-1] :]), -1)
    begins = torch.tensor(sampling_times(len(signal), model.samples), device=signal.device)
    which = generators.integers(model.samples, (said.shape[1],))
    rows = model.predictor.noised(said, noise, begins[which])
    after, less = _way_of_the_teacher(teacher, seen, rows, which, teacher.samples // model.samples)
    now = signal[begins[which]].unsqueeze(-1)
    named = model.predictor(rows, begins[which], given=seen)
    return (now / (1 - now)).clamp(min=1) * (named - clean_to_reach(rows, after, now, less)).square()


@torch.no_grad()
def _way_of_the_teacher(
    teacher: ChunkDiffusion, seen: Tensor, rows: Tensor, which: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Where the teacher gets to from rows (R, B, K · A) that are at the beginning of the ``which``-th (R, B) part of
    its way, in the ``steps`` of that part, and ᾱ there (R, B, 1)."""
    signal = teacher.predictor.signal
    times = torch.tensor(sampling_times(len(signal), teacher.samples), device=signal.device)
    signals = torch.cat((signal[times], torch.ones_like(signal[:1])))
    less = rows
    for step in range(steps):
        index = which * steps + step
        now, less = signals[index].unsqueeze(-1), signals[index + 1].unsqueeze(-1)
        rows = denoised(rows, teacher.clean(rows, times[index], seen), now, less)
    return rows, less
