"""`understudy inspect`: whether demonstrations are what they say. Wiring only."""

from __future__ import annotations

import dataclasses
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..datasets.doctor import diagnose
from ..datasets.findings import Finding, Report
from ..datasets.hdf5 import check_target
from ..datasets.names import open_data
from ..robots import find_task
from .lesson import learn, show, write_page
from .options import option, parse_options, run_command
from .terminal import fetching

EXAMPLES = (
    "understudy inspect hopper-expert",
    "understudy inspect mine.hdf5 task=hopper --all",
    "understudy inspect mine.hdf5 --json | jq .findings",
)
_WIDTH = 110


@dataclasses.dataclass(frozen=True)
class InspectOptions:
    """Look through demonstrations and say what is wrong with them, what may be, and what training does about it.

    Compares them with the task's own simulator where they have its states. Exit code 1 when there are errors. With
    quality, says how good, wide and consistent they are, tries a small cloning of them, and recommends a learner.
    """

    data: str = option("a bundled name, or a file or folder of any format that training reads")
    task: str | None = option("the task they are for; without it what they say themselves", None)
    all: bool = option("try every recorded state in the simulator, not a sample", False)
    quality: bool = option("measure what they will teach, too (some seconds)", False)
    page: Path | None = option(  # noqa: RUF009 (option() is dataclasses.field())
        "write a page with plots to this HTML file, and the plots beside it as PNG (with quality)", None
    )
    strict: bool = option("exit code 1 for warnings, too", False)
    json: bool = option("print the whole report as JSON, and nothing else", False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    code = 0

    def body() -> None:
        nonlocal code
        options = parse_options(InspectOptions, arguments, command="inspect", positional="data", examples=EXAMPLES)
        report = inspect(options)
        code = int(bool(report.of("error") or (options.strict and report.of("warning"))))

    return run_command(body) or code


def inspect(options: InspectOptions) -> Report:
    """Inspect as the options say, print it, and return the report.

    Errors: :class:`InputError` for data that cannot be opened at all, and for an unknown task.
    """
    task = None if options.task is None else find_task(options.task)
    if options.page is not None:
        check_target(options.page, overwrite=True)
    with open_data(options.data, task, progress=fetching(quiet=options.json)) as table:
        report = diagnose(table, task, name=options.data, every_row=options.all)
    lesson = None
    if (options.quality or options.page is not None) and not report.of("error"):
        lesson = learn(options.data, task, quiet=options.json)
    values = report.to_json() | ({} if lesson is None else lesson.to_json())
    if not options.json:
        _show(report)
        if lesson is not None:
            show(lesson)
        elif options.quality or options.page is not None:
            print("quality is not measured while there are errors")
    if options.page is not None and lesson is not None:
        write_page(options.page, report, lesson)
        values["page"] = str(options.page)
    if options.json:
        print(json.dumps(values), flush=True)
    return report


def _show(report: Report) -> None:
    print(f"{report.source} ({report.format})")
    facts = report.facts
    if "rows" in facts:
        print(f"  task {facts['task'] or 'unknown'}, {facts['rows']:,} rows in {facts['episodes']:,} episodes")
        for what in ("lengths", "returns"):
            if what in facts:
                print(f"  {what} {_spread(facts[what])}")
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
