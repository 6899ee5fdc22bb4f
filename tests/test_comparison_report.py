"""The report of a comparison: its words, its numbers, its files, and what it costs to make."""

from __future__ import annotations

import csv
import html.parser
import json
import math
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from finished import LEVELS, finished_matrix, write_run

from understudy.imitation.comparison import results as results_module
from understudy.imitation.comparison.analysis import analyse
from understudy.imitation.comparison.document import Code, Figure, Heading, Items, Paragraph, Table
from understudy.imitation.comparison.html import render
from understudy.imitation.comparison.report import write_report
from understudy.imitation.comparison.results import read_cell, read_results
from understudy.imitation.comparison.texts import comma_separated, latex, markdown
from understudy.imitation.comparison.verdict import interval, listed, verdict
from understudy.imitation.files import read_json
from understudy.imitation.statistics import Estimate
from understudy.robots import InputError
from understudy.scripts.compare import main


class Elements(html.parser.HTMLParser):
    """Names and attributes of everything in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report") / "comparison"
    matrix = finished_matrix(directory, ("hopper", "walker2d"))
    diagnoses = {"title": "Drift", "verdict": "None <moves>.", "caption": "c", "columns": ["a"], "rows": [["1"]]}
    (directory / "diagnoses" / "drift").mkdir(parents=True)
    (directory / "diagnoses" / "drift" / "diagnosis.json").write_text(json.dumps(diagnoses))
    write_report(matrix)
    return directory


def test_the_page_needs_nothing_else(compared: Path) -> None:
    page = (compared / "report" / "report.html").read_text()
    elements = Elements(page).found
    assert not {tag for tag, _ in elements} & {"script", "link", "iframe", "img", "object"}
    # Drawings refer to their own shapes; nothing is fetched.
    for _, attributes in elements:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), value
    assert "url(http" not in page and "@import" not in page
    identifiers = [attributes["id"] for _, attributes in elements if attributes.get("id")]
    assert len(identifiers) == len(set(identifiers))
    assert 'name="viewport"' in page and "@media print" in page
    for said in ("What others report", "Learned rewards", "Demonstrations", "To repeat it", "None &lt;moves&gt;."):
        assert said in page


def test_words_numbers_and_files_agree(compared: Path) -> None:
    text = (compared / "report" / "report.md").read_text()
    with (compared / "report" / "tables" / "scores-hopper.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert f"On hopper {rows[0]['learner']} comes first: IQM {rows[0]['IQM']}" in text
    for link in re.findall(r"\((figures/[^)]+)\)", text):
        assert (compared / "report" / link).read_text().startswith("<svg")
    assert (compared / "report" / "tables" / "scores-hopper.tex").read_text().count(r"\\") == len(rows) + 1
    assert "bc" in [row["learner"] for row in rows if row["steps to 0.9"] == "takes none"]
    assert f"understudy compare 'tasks=[hopper,walker2d]' 'learners=[{','.join(LEVELS)}]'" in text


def test_numbers_are_those_of_the_runs(compared: Path) -> None:
    from understudy.imitation.comparison.matrix import Matrix

    matrix = Matrix.read(compared)
    found = read_results(matrix)
    analysis = analyse(matrix, found)
    (hype,) = [r for r in found if (r.task, r.learner) == ("hopper", "hype")]
    stored = read_json(matrix.path(matrix.of("hopper", "hype")[0]) / "result.json")["score"]["runs"]
    assert hype.final.tolist() == stored
    steps, scores = hype.curve()
    assert steps.tolist() == [12_000 * k for k in range(1, 11)]
    # Files have scores to six digits, results to five.
    assert scores[-3:].mean(0) == pytest.approx(hype.final, abs=1e-4)
    task = analysis.tasks[0]
    values = [float(np.sort(r.final)[1:-1].mean()) for r in task.results]  # the middle three of five
    assert [float(s.iqm.value) for s in task.summaries] == pytest.approx(values)
    assert values == sorted(values, reverse=True)
    pair = next(pair for pair in task.pairs if {pair.first, pair.second} == {"hype", "bc"})
    assert (pair.first, pair.decision) == ("hype", "larger")
    assert float(pair.improvement.value) == 1
    assert pair.ratio is None, "bc takes no steps"


def test_the_verdict_says_how_many_times_fewer_steps(tmp_path: Path) -> None:
    learners = {"fast": (1.0, 0.5), "slow": (1.0, 2.5)}
    matrix = finished_matrix(tmp_path / "c", ("hopper",), learners, points=20)
    said = verdict(analyse(matrix, read_results(matrix)))
    (sentence,) = [s for s in said if "times fewer steps" in s]
    matched = re.fullmatch(
        r"On hopper fast needs ([\d.]+) \[([\d.]+), ([\d.]+)\] times fewer steps than slow to 0.9 of the expert.",
        sentence,
    )
    assert matched is not None, sentence
    value, low, high = map(float, matched.groups())
    assert 1 < low <= value <= high
    assert any("no difference is shown between" in s and "fast" in s and "slow" in s for s in said)


def test_what_is_not_finished_is_named(tmp_path: Path) -> None:
    matrix = finished_matrix(tmp_path / "c", ("hopper",), {"a": (0.5, 1.0), "b": (0.6, 1.0)})
    cell = matrix.of("hopper", "b")[0]
    (matrix.path(cell) / "result.json").unlink()
    matrix.notes[cell.name]["error"] = "exit code 1: it diverged"
    report = write_report(matrix)
    assert "hopper/b/seeds-0-4: failed. exit code 1: it diverged" in (report.page.parent / "report.md").read_text()
    (matrix.path(matrix.of("hopper", "a")[0]) / "result.json").unlink()
    assert write_report(matrix).verdict == ["Nothing is finished yet."]


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    matrix = finished_matrix(tmp_path / "c", ("hopper",), {"a": (0.5, 1.0)})
    path = matrix.path(matrix.of("hopper", "a")[0])
    (path / "evaluations.csv").write_text("step,run\n1,0\n")
    with pytest.raises(InputError, match=re.escape(str(path))):
        write_report(matrix)
    (tmp_path / "c" / "compare.json").write_text('{"format": "understudy-comparison", "version": 1, "cells": []}')
    assert main(["report", str(tmp_path / "c")]) == 2


def test_memory_does_not_grow_with_the_runs(tmp_path: Path) -> None:
    """A cell is read and forgotten: what stays of it is far less than what was read."""
    sizes: list[int] = []
    for count in (1, 4):
        paths = [tmp_path / f"{count}-{k}" for k in range(count)]
        for path in paths:
            write_run(path, "hopper", "hype", level=0.9, speed=2, points=40, episodes=10)
        tracemalloc.start()
        kept = [read_cell(path.name, path) for path in paths]
        sizes.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(kept) == count
    read = sum((tmp_path / "1-0" / name).stat().st_size for name in ("evaluations.csv", "metrics.csv"))
    assert (sizes[1] - sizes[0]) / 3 < 0.25 * read


def test_every_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = finished_matrix(tmp_path / "c", tuple(f"task{k}" for k in range(5)), {"a": (0.5, 1.0), "b": (0.6, 1.0)})
    opened: list[Path] = []
    rows = results_module._rows  # pyright: ignore[reportPrivateUsage]

    def counted(path: Path) -> object:
        opened.append(path)
        return rows(path)

    monkeypatch.setattr(results_module, "_rows", counted)
    write_report(matrix)
    assert len(opened) == len(set(opened)) == 2 * 10


@pytest.mark.slow
def test_a_hundred_cells(tmp_path: Path) -> None:
    learners = {f"learner{k}": (0.3 + 0.06 * k, 1.0 + 0.3 * k) for k in range(10)}
    matrix = finished_matrix(tmp_path / "c", tuple(f"task{k}" for k in range(10)), learners)
    assert len(write_report(matrix).verdict) > 10


def test_blocks_are_written_down_in_every_form() -> None:
    table = Table("A & B", ("a_b", "share"), [("x|<y>", "5 %"), ("∞", "")], "t")
    blocks = [
        Heading("T", 1),
        Paragraph("p", lead=True),
        Items(["i"]),
        table,
        Figure("f", "<svg></svg>", "n"),
        Code("c"),
    ]
    assert "| x\\|<y> | 5 % |" in markdown(blocks)
    page = render("T", blocks)
    assert "<td>x|&lt;y&gt;</td>" in page
    assert comma_separated(table) == "a_b,share\nx|<y>,5 %\n∞,\n"
    assert r"x|$<$y$>$ & 5 \% \\" in latex(table)
    assert r"a\_b & share \\" in latex(table)


def test_intervals_in_words() -> None:
    assert interval(Estimate(0.9651, 0.8894, 0.9676)) == "0.965 [0.889, 0.968]"
    assert interval(Estimate(60_000.0, 36_000.0, math.inf), 0) == "60,000 [36,000, ∞]"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
