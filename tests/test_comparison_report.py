"""The report of a comparison: its words, its numbers, its files, and what it costs to make."""

from __future__ import annotations

import base64
import csv
import html.parser
import json
import math
import re
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import a_browser, call
from finished import EXPERT, LEVELS, RANDOM, finished_matrix, write_run

from understudy.imitation.comparison import results as results_module
from understudy.imitation.comparison.analysis import analyse
from understudy.imitation.comparison.document import Code, Figure, Heading, Items, Paragraph, Table, without_folders
from understudy.imitation.comparison.html import render
from understudy.imitation.comparison.matrix import Matrix
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
    diagnoses["command"] = ["understudy", "diagnose", "drift", "/home/me/it"]
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
    for said in ("What others report", "Learned rewards", "Demonstrations", "To repeat it", "None &lt;moves&gt;.",
                 "understudy diagnose drift it"):  # fmt: skip
        assert said in page


def test_a_phone_shows_all_of_it_and_it_can_be_printed(compared: Path) -> None:
    page = (compared / "report" / "report.html").as_uri()
    beyond = """
        const inside = element => element.closest('.wide, pre, svg') !== null;
        return [...document.querySelectorAll('body *')].filter(
            element => !inside(element) || element.matches('.wide, pre')
        ).filter(element => element.getBoundingClientRect().right > innerWidth + 0.5).map(element => element.outerHTML)
    """
    with a_browser() as session:

        def run(script: str) -> Any:
            return call(f"{session}/execute/sync", {"script": script, "args": []})["value"]

        def tools(command: str, **given: object) -> Any:
            return call(f"{session}/goog/cdp/execute", {"cmd": command, "params": given})["value"]

        # A window of Chromium's is never as narrow as a phone, but the screen it believes to have can be.
        tools("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
        call(f"{session}/url", {"url": page})
        assert run("return innerWidth") == 390
        assert run("return document.documentElement.scrollWidth") == 390
        assert run(beyond) == []
        # What is wider than the page is there to be moved within its own frame.
        assert run("return [...document.querySelectorAll('.wide')].some(e => e.scrollWidth > e.clientWidth)")
        tools("Emulation.clearDeviceMetricsOverride")
        printed = base64.b64decode(tools("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") > 3


def test_tasks_with_other_learners_and_trainings_that_were_stopped(tmp_path: Path) -> None:
    learners = {"best": (1.0, 1.0), "good": (0.8, 1.0), "bad": (0.2, 1.0)}
    matrix = finished_matrix(tmp_path / "c", ("hopper", "walker2d", "ant"), learners)
    (absent,) = matrix.of("ant", "good")
    del matrix.cells[absent.name]
    (cell,) = matrix.of("walker2d", "bad")
    path = matrix.path(cell) / "result.json"
    path.write_text(json.dumps({**read_json(path), "stopped": {"step": 60_000, "of": 100_000}}))
    (cell,) = matrix.of("ant", "bad")
    shutil.rmtree(matrix.path(cell))
    write_run(matrix.path(cell), "ant", "bad", level=0.2, speed=1, points=7)
    resumed = {"step": 50_000, "commit": "another", "command": ["understudy", "train", "resume=it", "steps=70000"]}
    path = matrix.path(cell) / "run.json"
    path.write_text(json.dumps({**read_json(path), "resumed": [resumed]}))
    report = write_report(matrix)
    text = (report.page.parent / "report.md").read_text()
    assert "ant/bad/seeds-0-4 from step 50,000:  understudy train resume=it steps=70000" in text
    assert "| ant/bad/seeds-0-4 | 0123456789ab, then another |" in text
    lengths = "those of best of 100,000 steps and those of bad of 70,000 steps"
    said = [each for each in report.verdict if "lengths" in each]
    assert said == [f"On ant trainings were of different lengths: {lengths}. Each is judged at its own end."]
    assert report.verdict[0].startswith(
        "Over 3 tasks best has the highest score of the 2 learners that were trained on all of them, IQM "
    )
    assert report.verdict[1].startswith("Over hopper and walker2d best has the highest score, IQM ")
    order = "the order is best; good; {}: each is better than all after it."
    assert f"On hopper {order.format('bad')}" in report.verdict
    assert f"On walker2d {order.format('bad†')}" in report.verdict
    assert any("trainings were stopped: bad† after 60,000 of 100,000 steps" in each for each in report.verdict)
    tables = report.page.parent / "tables"
    with (tables / "at-a-glance.csv").open() as file:
        rows = {row["learner"]: row for row in csv.DictReader(file)}
    assert rows["good"]["ant"] == ""
    assert rows["bad"]["walker2d"].endswith("†") and not rows["bad"]["hopper"].endswith("†")
    assert "bad†" in (tables / "scores-walker2d.csv").read_text()
    assert (tables / "over-all-tasks-hopper-walker2d.csv").read_text().count("\n") == 4


def other_references(matrix: Matrix, learner: str, level: float, expert: float | None, data: str | None) -> None:
    (cell,) = matrix.of("hopper", learner)
    shutil.rmtree(matrix.path(cell))
    write_run(matrix.path(cell), "hopper", learner, level=level, speed=1, expert=expert, data=data)


@pytest.mark.parametrize("expert", [4000.0, None])
def test_all_trainings_of_a_task_are_scored_by_the_demonstrations(expert: float | None, tmp_path: Path) -> None:
    """`sac` has none, and scores by the table of tasks or not at all: its returns are the better ones here."""
    matrix = finished_matrix(tmp_path / "c", ("hopper",), {"sac": (0.95, 1.0), "bc": (0.9, 1.0)})
    other_references(matrix, "sac", 0.95, expert, None)
    other_references(matrix, "bc", 0.85, 3500.0, "hopper-expert")
    own = read_cell("sac", matrix.path(matrix.of("hopper", "sac")[0]))
    sac, bc = read_results(matrix)
    assert sac.final == pytest.approx((own.returns - RANDOM) / (EXPERT - RANDOM))
    assert sac.cells[0].scores == pytest.approx((own.mean_returns - RANDOM) / (EXPERT - RANDOM))
    assert own.mean_returns[-3:].mean(0) == pytest.approx(own.returns, rel=1e-4)
    assert sac.cells[0].references == bc.cells[0].references == (RANDOM, EXPERT)
    assert sac.cells[0].scored
    analysis = analyse(matrix, [sac, bc])
    assert analysis.tasks[0].scored
    (pair,) = analysis.tasks[0].pairs
    assert (pair.first, pair.decision) == ("sac", "larger")
    assert matrix.final_returns("hopper", "sac") == own.returns.tolist()
    text = (write_report(matrix).page.parent / "report.md").read_text()
    before = "had none" if expert is None else "scored itself from 20 to 4000"
    assert f"hopper/sac/seeds-0-4: scored from 20 to 3500; the training {before}." in text
    assert "hopper/bc/seeds-0-4: scored from" not in text


def test_demonstrations_that_disagree_on_the_expert_are_no_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = finished_matrix(tmp_path / "c", ("hopper",), {"mm": (0.95, 1.0), "bc": (0.9, 1.0)})
    other_references(matrix, "mm", 0.95, 4000.0, "another.hdf5")
    other_references(matrix, "bc", 0.9, 3500.0, "hopper-expert")
    assert main(["report", str(tmp_path / "c")]) == 2
    said = capsys.readouterr().err
    assert "hopper/mm/seeds-0-4 from 20 to 4000 and hopper/bc/seeds-0-4 from 20 to 3500" in said
    assert len(said.strip().splitlines()) == 1


def test_without_policies_there_is_a_sentence_and_no_video(tmp_path: Path) -> None:
    matrix = finished_matrix(tmp_path / "c", ("hopper",), {"a": (0.5, 1.0)})
    page = write_report(matrix, videos=True).page.read_text()
    assert "No videos: the policies of hopper/a/seeds-0-4 are not kept here." in page


def test_no_folder_of_a_machine_is_in_a_report(tmp_path: Path) -> None:
    matrix = finished_matrix(tmp_path / "c", ("hopper",), {"a": (0.5, 1.0), "b": (0.6, 1.0)})
    path = matrix.path(matrix.of("hopper", "a")[0]) / "run.json"
    command = ["/home/somebody/bin/understudy", "train", "data=/home/somebody/demos/mine.hdf5", "task=hopper"]
    path.write_text(json.dumps({**read_json(path), "command": command}))
    (cell,) = matrix.of("hopper", "b")
    (matrix.path(cell) / "result.json").unlink()
    matrix.notes[cell.name]["error"] = "cannot write /home/somebody/runs/b: no space left"
    folder = write_report(matrix).page.parent
    for file in folder.rglob("*.*"):
        assert "somebody" not in file.read_text(), file
    assert "understudy train data=mine.hdf5 task=hopper" in (folder / "report.md").read_text()
    for text in ("https://example.org/a/b", "steps a/b", "(1 - x) / (y - z)", "demos/mine.hdf5"):
        assert without_folders(text) == text


def test_words_numbers_and_files_agree(compared: Path) -> None:
    text = (compared / "report" / "report.md").read_text()
    with (compared / "report" / "tables" / "scores-hopper.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert f"\n### hopper\n\n* {rows[0]['learner']} comes first: IQM {rows[0]['IQM']}" in text
    with (compared / "report" / "tables" / "at-a-glance.csv").open() as file:
        glance = {row["learner"]: row["hopper"] for row in csv.DictReader(file)}
    assert [row["learner"] for row in rows if not glance[row["learner"]].startswith(row["IQM"][:3])] == []
    for link in re.findall(r"\((figures/[^)]+)\)", text):
        assert (compared / "report" / link).read_text().startswith("<svg")
    assert (compared / "report" / "tables" / "scores-hopper.tex").read_text().count(r"\\") == len(rows) + 1
    # The literature's returns stand under ours.
    ours, anchor = (text.index(f"| hopper | {source}") for source in ("this comparison", "HyPE (arXiv"))
    assert ours < anchor
    best = read_json(compared / "cells" / "hopper" / rows[0]["learner"] / "seeds-0-4" / "result.json")["return"]["runs"]
    assert f"{np.mean(best):.0f}, " in text[ours:anchor]
    assert "bc" in [row["learner"] for row in rows if row["steps to 0.9"] == "takes none"]
    assert f"understudy compare 'tasks=[hopper,walker2d]' 'learners=[{','.join(LEVELS)}]'" in text


def test_numbers_are_those_of_the_runs(compared: Path) -> None:
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
