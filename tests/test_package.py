"""The distribution: every package and data file is in it, and the code keeps the house rules."""

from __future__ import annotations

import re
import tomllib
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
        if path.suffix in (".yaml", ".hdf5", ".xml", ".typed", ".png", ".html")
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
