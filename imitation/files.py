"""Files that are written whole or not at all, and errors of the disk in one sentence."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from ..robots import InputError


def own_folder(path: str | os.PathLike[str], files: Iterable[str], what: str) -> Path:
    """The absolute path of a folder that ``what`` may take for itself: none is there, or one with such ``files`` alone.

    Errors: :class:`InputError` when it holds anything else, or is a file.
    """
    try:
        whole = Path(path).resolve()
        others = sorted({item.name for item in whole.iterdir()} - set(files)) if whole.is_dir() else []
    except OSError as error:
        raise InputError(f"cannot write {path}: {_reason(error)}") from error
    if others or whole.is_file():
        holds = f"holds {others[0]}" if others else "is a file"
        raise InputError(f"{path} {holds}: {what} is saved in a folder of its own, so name another")
    return whole


@contextlib.contextmanager
def new_directory(path: Path) -> Generator[Path]:
    """A temporary folder beside ``path`` that takes its name, synced, when the block succeeds.

    A folder already at ``path`` is replaced. On any error the temporary one is removed and ``path`` is as it was.
    Errors: :class:`InputError` when the disk refuses (full, read-only, no permission).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        readable = temporary.stat().st_mode & 0o666  # what the user's mask leaves; safetensors keeps its files private
        for file in temporary.rglob("*"):
            if file.is_file():
                file.chmod(readable)
                _sync(file)
        _sync(temporary)
        if path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            temporary.rename(path)
            shutil.rmtree(old)
        else:
            temporary.rename(path)
        _sync(path.parent)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(f"cannot write {path}: {_reason(error)}") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all. Errors: :class:`InputError` when the disk refuses."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Errors: :class:`InputError` when the disk refuses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        if temporary.exists():
            temporary.unlink()
        raise InputError(f"cannot write {path}: {_reason(error)}") from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Errors: :class:`InputError` when it is missing or damaged."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged or unreadable ({error}): restore it from a copy") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: a JSON object is expected")
    return value  # pyright: ignore[reportUnknownVariableType]


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors (from the CPU, contiguous, each with its own memory)."""
    safetensors.torch.save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors. Errors: :class:`InputError` when the file is missing or damaged."""
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} is damaged or not a safetensors file: {error}") from error


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
