"""Few steps taught by many: what a step is taught, and that it is learned."""

from __future__ import annotations

import copy

import torch
from test_chunks import SHAPE, drawn_after, left_or_right, models

from understudy.imitation.chunks import ChunkDiffusion
from understudy.imitation.diffusion import sampling_times, signal_levels
from understudy.imitation.few_steps import errors_in_going_as_far
from understudy.imitation.optimisers import Adam
from understudy.imitation.randomness import Generators


def test_one_step_that_heads_right_goes_as_far_as_several() -> None:
    """By the teacher's own path of the same rows, for a model that names exactly what it is taught."""
    signal = signal_levels(50, "squaredcos_cap_v2")
    student, teacher = (ChunkDiffusion(2, SHAPE, (8,), signal, samples=n, predicts="chunk") for n in (2, 10))
    generators = Generators([3, 4])
    for stack in teacher.stacks():
        stack.initialise(generators)
    seen, noise = generators.normal((7, 2)), generators.normal((7, 3))
    seen[..., 1] *= 1e-30  # hidden
    asked: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def answered(rows: torch.Tensor, at: torch.Tensor, *, given: torch.Tensor) -> torch.Tensor:
        asked.append((rows, at, given))
        return torch.zeros_like(rows)

    student.predictor.forward = answered  # pyright: ignore
    errors = errors_in_going_as_far(student, teacher, seen, 0.5 * noise.tanh(), generators)
    rows, at, windows = asked[0]
    assert 0 < (windows - seen)[..., 0].abs().max() < 0.5
    assert torch.equal(windows[..., 1], seen[..., 1])
    assert set(at.flatten().tolist()) == {49, 24}
    now = signal[at].unsqueeze(-1)
    weight = (now / (1 - now)).clamp(min=1)
    lengths = (errors / weight).sqrt()  # of what it should have named
    times = [*sampling_times(50, 10), -1]
    for run in range(2):
        for row in range(7):
            x, first = rows[run, row].double(), times.index(int(at[run, row]))
            for here, there in zip(times[first : first + 5], times[first + 1 : first + 6], strict=True):
                window = windows[run : run + 1, row : row + 1].expand(2, -1, -1)
                chunk = teacher.predictor(x.float().expand(2, 1, -1), torch.full((2, 1), here), given=window)
                clean = chunk[run, 0].clamp(-1, 1).double()
                a, b = (float(signal[t]) if t >= 0 else 1.0 for t in (here, there))
                x = b**0.5 * clean + ((1 - b) / (1 - a)) ** 0.5 * (x - a**0.5 * clean)
            a, b = float(signal[at[run, row]]), float(signal[times[first + 5]]) if times[first + 5] >= 0 else 1.0
            ratio = ((1 - b) / (1 - a)) ** 0.5
            wanted = (x - ratio * rows[run, row].double()) / (b**0.5 - ratio * a**0.5)
            torch.testing.assert_close(lengths[run, row], wanted.abs().float(), rtol=1e-3, atol=1e-4)


def test_two_steps_that_were_taught_are_nearer_to_twelve_than_two_that_were_not() -> None:
    teacher = models("chunk")[0]
    drawn_after(teacher, torch.zeros(1, 2), left_or_right)
    assert isinstance(teacher, ChunkDiffusion)
    student, untaught = copy.deepcopy(teacher), copy.deepcopy(teacher)
    teacher.samples, student.samples, untaught.samples = 12, 2, 2
    generators, optimiser = Generators([5]), Adam(student.stacks(), 1e-3)
    random = torch.Generator().manual_seed(2)
    for _ in range(400):
        said = left_or_right(torch.zeros(1, 128), random).unsqueeze(-1).expand(-1, -1, 3)
        optimiser.step(errors_in_going_as_far(student, teacher, torch.zeros(1, 128, 2), said, generators).mean())
    with torch.no_grad():
        noise, seen = generators.normal((500, 3)), torch.zeros(1, 500, 2)
        far, taught, coarse = (model.chunk(seen, noise) for model in (teacher, student, untaught))
    assert (taught - far).square().mean() < 0.5 * (coarse - far).square().mean()
    assert ((taught - far).abs().amax(-1) < 0.25).float().mean() > 0.85
