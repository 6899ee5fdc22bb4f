"""`understudy inspect`: whether demonstrations are what they say. Wiring only."""

from __future__ import annotations

import dataclasses
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..datasets import Parts, open_data, sources
from ..datasets.doctor import diagnose
from ..datasets.findings import REFUSED, Finding, Report
from ..datasets.hdf5 import check_target
from ..datasets.names import is_there
from ..robots import InputError, Task, find_task
from .lesson import UNMEASURED, learn, show, write_page
from .options import option, parse_options, run_command
from .terminal import fetching

EXAMPLES = (
    "understudy inspect hopper-expert",
    "understudy inspect mine.hdf5 task=hopper --all",
    "understudy inspect mine.hdf5 --json | jq .findings",
    "understudy inspect low_dim.hdf5 task=hopper keys=[flat] mask=train --quality page=report.html",
)
_WIDTH = 110


@dataclasses.dataclass(frozen=True)
class InspectOptions:
    """Look through demonstrations and say what is wrong with them, what may be, and what training does about it.

    Compares them with the task's own simulator where they have its states. Exit code 1 when there are errors. With
    quality, says how good, wide and consistent they are, tries a small cloning of them, and recommends a learner.
    """

    data: str = option("a bundled name, a file or folder of any format that training reads, or several: [a,b]")
    task: str | None = option("the task they are for; without it what they say themselves", None)
    all: bool = option("try every recorded state in the simulator, not a sample", False)
    quality: bool = option("measure what they will teach, too (some seconds)", False)
    page: Path | None = option(  # noqa: RUF009 (option() is dataclasses.field())
        "write a page to this HTML file, with plots, and the plots beside it as PNG, unless there are errors", None
    )
    keys: tuple[str, ...] = option("robomimic, LeRobot: the parts of the observation, like [eef_pos,object]", ())
    mask: str | None = option("robomimic: the episodes of a list in the file, like train", None)
    done_mode: int | None = option("robomimic: the mode with which its dones were made, if known", None, at_least=0)
    strict: bool = option("exit code 1 for warnings, too", False)
    json: bool = option("print the whole report as JSON, and nothing else", False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    code = 0

    def body() -> None:
        nonlocal code
        options = parse_options(InspectOptions, arguments, command="inspect", positional="data", examples=EXAMPLES)
        reports = inspect(options)
        grave = [finding for report in reports for finding in report.of("error")]
        grave += [finding for report in reports if options.strict for finding in report.of("warning")]
        code = int(bool(grave))

    return run_command(body) or code


def inspect(options: InspectOptions) -> list[Report]:
    """Inspect as the options say, print it, and return the report of each source.

    Errors: :class:`InputError` for data that are not there, options that they do not have, and an unknown task.
    """
    task = None if options.task is None else find_task(options.task)
    page = options.page
    if page is not None:
        page = page if page.suffix.lower() in (".html", ".htm") else page.with_name(f"{page.name}.html")
        check_target(page, overwrite=True)
    parts, named = Parts(options.keys, options.mask, options.done_mode), sources(options.data)
    reports = [_report(name, task, parts, options) for _, name in named]
    sound, lesson = not any(report.of("error") for report in reports), None
    if (options.quality or page is not None) and sound:
        experts = [name for tag, name in named if tag == "expert"] or [name for _, name in named]
        lesson = learn(experts, task, parts, quiet=options.json)
    if not options.json:
        for report in reports:
            _show(report)
        if lesson is not None:
            show(lesson)
        elif options.quality or page is not None:
            print(UNMEASURED)
    if page is not None:
        write_page(page, reports, lesson)
    if options.json:
        values = _values(reports) | ({} if lesson is None else lesson.to_json())
        print(json.dumps(values | ({} if page is None else {"page": str(page)})), flush=True)
    return reports


def _report(name: str, task: Task | None, parts: Parts, options: InspectOptions) -> Report:
    """The report of a source; one that is there and cannot be opened has that for its finding."""
    try:
        with open_data(name, task, parts, progress=fetching(quiet=options.json)) as table:
            return diagnose(table, task, name=name, every_row=options.all)
    except InputError as error:
        if parts != Parts() or not is_there(name):
            raise
        return Report(name, "unreadable", {}, {}, (Finding("unreadable", "error", str(error), REFUSED),))


def _values(reports: Sequence[Report]) -> dict[str, Any]:
    """The report as plain values, or those of several sources."""
    each = [report.to_json() for report in reports]
    if len(each) == 1:
        return each[0]
    return {"sources": each, **{what: sum(values[what] for values in each) for what in ("errors", "warnings")}}


def _show(report: Report) -> None:
    print(f"{report.source} ({report.format})")
    facts = report.facts
    if "rows" in facts:
        print(f"  task {facts['task'] or 'unknown'}, {facts['rows']:,} rows in {facts['episodes']:,} episodes")
        for what in ("lengths", "returns"):
            if what in facts:
                print(f"  {what} {_spread(facts[what])}")
    for what, told in facts.get("units", {}).items():
        print(f"  {what}: {told}")
    width = max(map(len, report.schema), default=0)
    for name, what in report.schema.items():
        print(f"  {name:{width}}  {what}")
    print()
    for finding in report.findings:
        print(_sentence(finding))
    counts = ", ".join(f"{len(report.of(severity))} {severity}s" for severity in ("error", "warning", "note"))
    print(f"{counts}" if report.findings else "nothing was found")


def _spread(values: dict[str, Any]) -> str:
    return f"{values['mean']:.1f} ± {values['std']:.1f}, from {values['min']:.1f} to {values['max']:.1f}"


def _sentence(finding: Finding) -> str:
    text = f"{finding.severity.upper()} {finding.check}: {finding.message}; {finding.training}"
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ")


if __name__ == "__main__":
    raise SystemExit(main())
