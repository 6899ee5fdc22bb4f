"""Films of a learner's median and worst run, small enough to be part of a page."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch

from ...robots import InputError
from ..evaluation import FIRST_SEED
from ..loading import load_policy
from ..video import write_video
from .document import Block, Paragraph, Video, without_folders
from .results import LearnerResult

_SECONDS, _WIDTH, _RATE = 10, 240, 20


def films(results: Sequence[LearnerResult]) -> Iterator[Block]:
    """The first seconds of the evaluation's first episode, played by the run in the middle and by the last one.

    Where nothing can be rendered, a sentence that says why.
    """
    for result in results:
        order = np.argsort(result.final)
        chosen = {"median": int(order[(len(order) - 1) // 2]), "worst": int(order[0])}
        for which, index in chosen.items():
            if which == "worst" and len(order) == 1:
                continue
            try:
                content = _film(result, index)
            except InputError as error:
                yield Paragraph(f"No videos: {without_folders(str(error))}.")
                return
            score = f"{result.final[index]:.3f}"
            caption = (
                f"{result.learner} on {result.task}, {which} run: seed {result.seeds[index]}, final score {score}."
            )
            name = f"{result.cells[0].name.replace('/', '-')}-{which}"
            yield Video(caption, content, name)


def _film(result: LearnerResult, index: int) -> bytes:
    cell, run = result.run(index)
    if not (cell.path / "policies").is_dir():
        raise InputError(f"the policies of {cell.name} are not kept here")
    torch.set_num_threads(1)
    policy = load_policy(str(cell.path / "policies" / f"run-{run}"), None)
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "whole.mp4", Path(folder) / "small.mp4"
        write_video(policy.controller([FIRST_SEED]), policy.task, whole, seed=FIRST_SEED)
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-t", str(_SECONDS), "-i", str(whole),
            "-vf", f"scale={_WIDTH}:-2,fps={_RATE}", "-codec:v", "libx264", "-crf", "30", "-pix_fmt", "yuv420p",
            "-movflags", "+faststart", "-an", str(small),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"ffmpeg ended with code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        return small.read_bytes()
