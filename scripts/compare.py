"""`understudy compare`: many learners on many tasks, trained, tested against each other and reported. Wiring only."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import shutil
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Literal

from ..imitation.adastop import AdaStopConfig
from ..imitation.comparison.locks import lock
from ..imitation.comparison.matrix import Matrix, Plan, check_same
from ..robots import InputError
from .options import option, parse_options, run_command

EXAMPLES = (
    "understudy compare tasks=hopper learners=bc,mm,hype runs=10 data.episodes=4 data.every=20",
    "understudy compare tasks=[hopper,walker2d] learners=[hype,mm+mixture=hybrid] data=demos/{task}.hdf5 runs=auto",
    "understudy compare status comparisons/3f0c2a91",
    "understudy compare report comparisons/3f0c2a91 videos=true",
    "understudy compare import runs/hopper/hype/2026-11-20_12-00-00 runs/hopper/mm/… directory=comparisons/mine",
)


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Train learners on tasks, several runs each, test which differ, and write a report.

    The runs of a cell (a learner on a task) are trained together as one process, several cells side by side. The same
    command goes on where it was stopped or broke: finished cells are not trained again. Options of `understudy train`
    (steps=, data.episodes=, evaluation.every= …) hold for all cells; a learner's own are added to its name,
    mm+mixture=hybrid, and half:mm+mixture=hybrid calls that half. Learners that never act keep their own number of
    updates, unless told: bc+steps=50000.

    `compare status DIRECTORY` shows how it goes, `compare report DIRECTORY` writes the report anew, `compare import
    RUN… directory=DIRECTORY` takes in finished trainings whose settings still hold. The last line is JSON.
    """

    tasks: str = option("the tasks, like hopper or [hopper,walker2d]")
    learners: str = option("the learners, like hype,mm or [hype,mm+mixture=hybrid+mixture.expert_share=0.2]")
    data: str = option("the demonstrations; {task} in it stands for the task's name", "auto")
    runs: str = option("how many runs of each, or auto: as many as the test needs to tell learners apart", "10")
    seed: int = option("seed of the first run; each further one has the next", 0, at_least=0)
    level: float = option("probability of saying of any pair of a task that it differs when it does not", 0.05)
    group: int = option("with runs=auto, how many runs are added at a time", 5, at_least=2)
    stages: int = option("with runs=auto, how many times at most", 5, at_least=1)
    directory: Path | None = option(  # noqa: RUF009 (option() is dataclasses.field())
        "where it goes; comparisons/<hash of what is compared> when left out", None
    )
    launcher: Literal["local", "slurm", "ray"] = option("where cells are trained; slurm and ray need [sweep]", "local")
    settings: str = option("for slurm, of its jobs (slurm_partition=long,timeout_min=600); for ray, address=…", "")
    processes: int | None = option(
        "how many cells at once; as many as there are cores for their threads when left out", None, at_least=1
    )
    threads: int = option("processor threads of each cell", 1, at_least=1)
    videos: bool = option("put videos of the median and the worst run of each cell into the report", False)
    quiet: bool = option("print nothing but the line of JSON", False)


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Write the report of a comparison anew, of the cells that are finished."""

    directory: Path = option("the directory of the comparison")  # noqa: RUF009 (option() is dataclasses.field())
    videos: bool = option("put videos of the median and the worst run of each cell into the report", False)
    quiet: bool = option("print nothing but the line of JSON", False)


@dataclasses.dataclass(frozen=True)
class StatusOptions:
    """Show how the cells of a comparison stand. It may be at work, in another terminal or on another machine."""

    directory: Path = option("the directory of the comparison")  # noqa: RUF009 (option() is dataclasses.field())
    json: bool = option("print one line of JSON instead of a table", False)


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """Take trainings into a comparison, new or old, and write its report.

    Their settings have to be what today's presets make of their commands, and data and episodes of evaluation those of
    the task's other learners. A training at another commit than this one is refused unless told otherwise, and so is
    one that is not finished: with unfinished=true it is taken as far as its last checkpoint, and the report says how
    far that was. It may be taken again when it has gone further.
    """

    directory: Path = option("the directory of the comparison; made when it is not there")  # noqa: RUF009 (option() is dataclasses.field())
    any_commit: bool = option("also those of another or an unknown commit; the report says which", False)
    unfinished: bool = option("also those that were stopped; the report says how far each went", False)
    publish: bool = option(
        "for a repository: names instead of folders of this machine, and only what the report needs (no policies, so "
        "no videos); what is imported there later is taken in the same way",
        False,
    )
    level: float = option("as for compare", 0.05)
    videos: bool = option("put videos of the median and the worst run of each cell into the report", False)
    quiet: bool = option("print nothing but the line of JSON", False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    bodies = {"status": _status, "report": _report, "import": _import}
    if name in bodies:
        return run_command(lambda: bodies[name](rest))
    return run_command(lambda: _compare(arguments))


def _compare(arguments: list[str]) -> None:
    own = {field.name for field in dataclasses.fields(CompareOptions)}
    asked = [a for a in arguments if a.lstrip("-").partition("=")[0] in own or "=" not in a]
    options = parse_options(CompareOptions, asked, command="compare", examples=EXAMPLES)
    common = [argument for argument in arguments if argument not in asked]
    compare(options, common)


def compare(options: CompareOptions, common: Sequence[str] = ()) -> Path:
    """Train, test and report as the options say; returns the report's path.

    Errors: :class:`InputError` for anything that does not fit, before anything is trained; when cells failed, after
    everything else is done.
    """
    from .launchers import make_launcher  # these load torch, which takes seconds
    from .planning import check_cells, directory_of, make_plan, settings_of_launcher
    from .scheduling import run_cells
    from .standing import Display

    directory = (directory_of(options, common) if options.directory is None else options.directory).resolve()
    settings = settings_of_launcher(options.settings)
    with _alone_in(directory):
        old = Matrix.read(directory) if (directory / "compare.json").is_file() else None
        if old is not None and old.about.get("published"):
            raise InputError(f"{directory} is for publishing and trains nothing: train elsewhere, and import it there")
        plan = make_plan(options, common, None if old is None else old.plan)
        matrix = _matrix(directory, plan, old)
        check_cells(matrix)
        launcher = make_launcher(
            options.launcher, directory / "jobs", threads=options.threads, processes=options.processes,
            settings=settings,
        )  # fmt: skip
        try:
            with Display(matrix, quiet=options.quiet) as show:
                run_cells(matrix, launcher, show)
        finally:
            launcher.close()
        page = _write_report(matrix, videos=options.videos, quiet=options.quiet)
        failed = [cell.name for cell in matrix.cells.values() if matrix.state(cell) == "failed"]
        if failed:
            raise FailedCellsError(failed, directory)
        return page


@contextlib.contextmanager
def _alone_in(directory: Path) -> Generator[None]:
    """Hold the directory of a comparison, and leave no trace there, nor of its folders, of one that never began."""
    lock_file = directory / ".lock"
    try:
        made = [path for path in (directory, *directory.parents) if not path.exists()]
        ours = [path for path in (lock_file, directory / "jobs") if not path.exists()]
    except OSError as error:
        raise InputError(f"directory={directory}: {error.strerror}: name another") from error
    try:
        with lock(lock_file, f"another comparison is at work in {directory}"):
            try:
                yield
            except BaseException:
                if not (directory / "compare.json").exists():
                    if made:
                        shutil.rmtree(directory)
                    elif lock_file in ours:
                        lock_file.unlink()
                raise
    except BaseException:
        for path in (*ours, *made):  # folders that are empty; what has begun is not
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


class FailedCellsError(InputError):
    """Some cells failed; the others are finished and reported."""

    code = 1

    def __init__(self, failed: Sequence[str], directory: Path) -> None:
        super().__init__(
            f"{len(failed)} of the cells failed ({', '.join(failed)}): understudy compare status {directory} says why; "
            "the same command tries them again"
        )


def _matrix(directory: Path, plan: Plan, old: Matrix | None) -> Matrix:
    from ..imitation.run_log import commit, versions

    command = ["understudy", *sys.argv[1:]]
    if old is not None:
        check_same(old.plan, plan)
        old.plan = plan
        old.note_command(command)
        return old
    about = {
        "command": command,
        "versions": versions(),
        "commit": commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return Matrix(directory, plan, about)


def _write_report(matrix: Matrix, *, videos: bool, quiet: bool) -> Path:
    """Write it, and print where it is and what it says."""
    from ..imitation.comparison.report import write_report

    report = write_report(matrix, videos=videos)
    if not quiet:
        print()
        for sentence in report.verdict:
            print(sentence)
        print(f"report {report.page}")
    line = {"verdict": report.verdict, "report": str(report.page), "directory": str(matrix.directory)}
    print(json.dumps(line), flush=True)
    return report.page


def _report(arguments: list[str]) -> None:
    examples = ("understudy compare report comparisons/3f0c2a91",)
    options = parse_options(
        ReportOptions, arguments, command="compare report", positional="directory", examples=examples
    )
    _write_report(Matrix.read(options.directory), videos=options.videos, quiet=options.quiet)


def _status(arguments: list[str]) -> None:
    from .standing import print_status

    examples = ("understudy compare status comparisons/3f0c2a91", "understudy compare status comparisons/mine --json")
    options = parse_options(
        StatusOptions, arguments, command="compare status", positional="directory", examples=examples
    )
    print_status(Matrix.read(options.directory), as_json=options.json)


def _import(arguments: list[str]) -> None:
    from .importing import ImportRules, import_runs

    runs = [Path(argument) for argument in arguments if "=" not in argument and not argument.startswith("-")]
    rest = [argument for argument in arguments if Path(argument) not in runs]
    examples = ("understudy compare import runs/hopper/*/2026-11-* directory=comparisons/mine",)
    options = parse_options(ImportOptions, rest, command="compare import RUN…", examples=examples)
    if not runs:
        raise InputError("compare import: name run directories, like runs/hopper/hype/2026-11-20_12-00-00")
    directory = options.directory.resolve()
    with _alone_in(directory):
        old = Matrix.read(directory) if (directory / "compare.json").is_file() else None
        test = AdaStopConfig(level=options.level)
        rules = ImportRules(options.any_commit, options.unfinished, options.publish)
        matrix = import_runs(directory, runs, old, test, rules, _matrix)
        _write_report(matrix, videos=options.videos, quiet=options.quiet)


if __name__ == "__main__":
    raise SystemExit(main())
