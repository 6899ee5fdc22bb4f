"""The demonstrations that come with the suite."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

_SUFFIX = ".hdf5"


def bundled() -> dict[str, Path]:
    """The demonstrations that come with the suite: name (``hopper-expert``) to file."""
    folder = importlib.resources.files("understudy.assets.demonstrations")
    files = sorted((Path(str(item)) for item in folder.iterdir() if item.name.endswith(_SUFFIX)), key=str)
    return {file.stem: file for file in files}
