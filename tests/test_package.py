"""The distribution: every package and data file is in it, and the code keeps the house rules."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("robots", "datasets", "imitation", "scripts", "assets")


def project() -> dict[str, dict[str, dict[str, object]]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_every_package_is_listed() -> None:
    found = {
        "understudy." + ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert set(project()["tool"]["setuptools"]["packages"]) == found  # pyright: ignore


def test_every_data_file_is_listed() -> None:
    patterns: dict[str, list[str]] = project()["tool"]["setuptools"]["package-data"]  # pyright: ignore
    data = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".yaml", ".hdf5", ".xml", ".typed", ".png", ".html", ".json", ".safetensors")
    ]
    assert data
    for path in data:
        relative = path.relative_to(ROOT)
        covered = any(
            relative.match(str(Path(*package.split(".")[1:]) / pattern))
            for package, names in patterns.items()
            for pattern in names
        )
        assert covered, relative


def test_a_wheel_holds_what_the_folders_hold(tmp_path: Path) -> None:
    copy, ignored = tmp_path / "copy", shutil.ignore_patterns("__pycache__", "*.egg-info")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    built = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, copy]
    subprocess.run(built, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("understudy-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    suffixes = (".py", ".yaml", ".hdf5", ".xml", ".typed", ".html", ".json", ".safetensors")
    there = {
        f"understudy/{path.relative_to(ROOT).as_posix()}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in suffixes or path.name == "py.typed"
    }
    assert held == there


@pytest.mark.parametrize(
    ("rule", "pattern"),
    [
        ("nothing is unpickled", r"\bpickle\b(?!d|s)|allow_pickle=True|weights_only=False|joblib\.load"),
        ("no global random state", r"np\.random\.seed|torch\.manual_seed\(|\brandom\.seed\("),
        ("no device in the code", r"\.cuda\(\)|\"cuda:0\""),
        ("no bare except", r"except:"),
    ],
)
def test_house_rules(rule: str, pattern: str) -> None:
    broken = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line.split("#")[0]) and not line.strip().startswith(('"""', "``"))
    ]
    assert not broken, rule


def test_arrows_point_down() -> None:
    order = ("robots", "datasets", "imitation", "scripts")
    for path in sources():
        package = path.relative_to(ROOT).parts[0]
        if package not in order:
            continue
        for found in re.findall(r"^\s*from \.\.+(\w+)", path.read_text(), re.MULTILINE):
            if found in order and found != package:
                assert order.index(found) < order.index(package), f"{path}: {found}"


def test_hydra_stays_in_scripts() -> None:
    assert not [
        p for p in sources() if "scripts" not in p.parts and re.search(r"import (hydra|omegaconf)", p.read_text())
    ]


def test_files_are_of_a_readable_size() -> None:
    assert not [str(p) for p in sources() if len(p.read_text().splitlines()) > 400]
