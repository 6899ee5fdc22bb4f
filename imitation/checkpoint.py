"""Checkpoints: written to a temporary name, synced, hashed and renamed; a damaged one is refused.

<run>/checkpoints/000050000/
    training.safetensors   every tensor of the training
    training.json          everything else
    manifest.json          format, versions, and the SHA-256 of the two files
<run>/checkpoints/last     a link to the newest
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ..robots import InputError
from .files import new_directory, read_json, read_tensors, sha256, write_json, write_tensors
from .training import State

FORMAT_VERSION = 2
_FILES = ("training.safetensors", "training.json")


def save_checkpoint(run: Path, step: int, state: State, *, keep: int = 2) -> Path:
    """Write ``<run>/checkpoints/<step>`` and point ``last`` to it; the ``keep`` newest stay.

    Errors: :class:`InputError` when the disk refuses; then the earlier checkpoints are as they were.
    """
    folder = run / "checkpoints"
    path = folder / f"{step:09d}"
    with new_directory(path) as temporary:
        write_tensors(temporary / "training.safetensors", state.tensors)
        write_json(temporary / "training.json", state.values)
        hashes = {name: sha256(temporary / name) for name in _FILES}
        write_json(
            temporary / "manifest.json",
            {"format": "understudy-checkpoint", "version": FORMAT_VERSION, "step": step, "sha256": hashes},
        )
    _point(folder / "last", path.name)
    # Those of a later step belong to a branch that was left when an earlier checkpoint was resumed.
    kept = [p for p in _checkpoints(folder) if p.name <= path.name][-max(keep, 1) :]
    for old in set(_checkpoints(folder)) - set(kept):
        shutil.rmtree(old)
    return path


def load_checkpoint(path: Path) -> State:
    """Read a checkpoint directory, or the last one of a run directory.

    Errors: :class:`InputError` when there is none, or when a file is missing or differs from its hash.
    """
    if (path / "checkpoints").is_dir():
        folder = path / "checkpoints"
        found = _checkpoints(folder)
        if not found:
            raise InputError(f"{folder} is empty: the run stopped before its first checkpoint; start it anew")
        path = folder / "last" if (folder / "last").exists() else found[-1]
    elif (path / "config.yaml").is_file():
        raise InputError(f"{path} has no checkpoint: the run stopped before its first; start it anew elsewhere")
    if not (path / "manifest.json").is_file():
        raise InputError(f"{path} is not a checkpoint: give a run directory, or one of its checkpoints/<step>")
    path = path.resolve()
    manifest = read_json(path / "manifest.json")
    if manifest.get("format") != "understudy-checkpoint" or manifest.get("version") != FORMAT_VERSION:
        raise InputError(f"{path / 'manifest.json'} is not of checkpoint format version {FORMAT_VERSION}")
    hashes = manifest.get("sha256")
    for name in _FILES:
        file = path / name
        if not file.is_file() or not isinstance(hashes, dict) or sha256(file) != hashes.get(name):
            raise InputError(f"{file} is missing or damaged (its SHA-256 differs){_others(path)}")
    values: dict[str, Any] = read_json(path / "training.json")
    return State(read_tensors(path / "training.safetensors"), values)


def _others(path: Path) -> str:
    others = [str(p) for p in _checkpoints(path.parent) if p != path]
    return f": resume from {others[-1]} instead" if others else " and the run has no other checkpoint"


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.isdigit() and not p.is_symlink())


def _point(link: Path, target: str) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target)
        temporary.replace(link)
    except OSError as error:
        raise InputError(f"cannot write {link}: {error.strerror}") from error
