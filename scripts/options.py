"""Options of the commands: typed `key=value` arguments whose help is written once, beside each option.

A command declares a frozen dataclass whose fields are made with :func:`option`, reads it from its arguments
with :func:`parse_options`, and does its work inside :func:`run_command`, which turns errors of the user's
making into one line and an exit code.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..robots import Disturbances, InputError, Task, nearest

OptionsT = TypeVar("OptionsT")
_LARGEST = 2**53  # of whole numbers: larger ones are mistakes, and overflow as seeds


def option(
    help: str, default: Any = dataclasses.MISSING, *, at_least: float | None = None, at_most: float | None = None
) -> Any:
    """A field of an options dataclass: what it means in a few words, and its default if it has one.

    ``at_least`` is the smallest number allowed (of every item, for a tuple), ``at_most`` the largest.
    """
    metadata = {"help": help, "at_least": at_least, "at_most": at_most}
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


def parse_options(
    options: type[OptionsT],
    argv: Sequence[str],
    *,
    command: str,
    positional: str | None = None,
    examples: Iterable[str] = (),
) -> OptionsT:
    """Read `key=value` arguments into the dataclass ``options``, whose docstring describes the command.

    The first argument that is not `key=value` is the value of the option named ``positional``, whose name may stand
    before others' (`data.keys=` for `keys=`). Types
    understood are int, float, bool, str, Path, literals, tuples of one of these (`1,2` or `[1,2]`) and any of
    them or None (`null`). `--help` prints the help and exits with code 0.
    Errors: :class:`InputError` for an unknown, repeated or missing option and a value of the wrong type.
    """
    if any(argument in ("-h", "--help") for argument in argv):
        print(_help(options, command, positional, examples))
        raise SystemExit(0)
    fields = {field.name: field for field in dataclasses.fields(options)}  # pyright: ignore[reportArgumentType]
    kinds = typing.get_type_hints(options)
    values: dict[str, Any] = {}
    for argument in argv:
        key, text = _split(argument, fields, positional, command)
        if key in values:
            raise InputError(f"{key}= is given twice: give it once")
        values[key] = _checked(key, text, kinds[key], fields[key].metadata["at_least"], fields[key].metadata["at_most"])
    for key, field in fields.items():
        if key not in values and field.default is dataclasses.MISSING:
            what = field.metadata["help"]
            raise InputError(f"{key}= is missing: {what} (understudy {command} --help says more)")
    return options(**values)


def disturbed(task: Task, given: str | None) -> Task:
    """The task under the disturbances of a YAML file, under none, or as it is. Errors: :class:`InputError`."""
    if given is None:
        return task
    values = Disturbances() if given == "off" else Disturbances.of_file(Path(given))
    return dataclasses.replace(task, disturbances=values)


def run_command(body: Callable[[], object]) -> int:
    """Run a command and return its exit code.

    0 when it succeeds; 2 (or the error's own ``code``) and one line on stderr for an :class:`InputError`; 130
    when interrupted; 141 when the reader of its output went away; 2 when the memory is too small for what was asked
    for. Any other exception is our own mistake and keeps its traceback.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        body()
        sys.stdout.flush()
    except InputError as error:
        print(f"understudy: {' '.join(str(error).split())}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("understudy: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it exits, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (MemoryError, RuntimeError) as error:
        if not _wants_memory(error):
            raise
        print(f"understudy: not enough memory ({_first_line(error)}): {_SMALLER}", file=sys.stderr)
        return 2
    return 0


_SMALLER = "ask for less at a time (train: fewer runs=, smaller batches or networks, a smaller loop.buffer_size=)"


def _wants_memory(error: Exception) -> bool:
    """Whether it says that there is no memory: torch has no kind of its own for that on the processor."""
    said = str(error)
    return isinstance(error, MemoryError) or any(
        words in said for words in ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _split(
    argument: str, fields: dict[str, dataclasses.Field[Any]], positional: str | None, command: str
) -> tuple[str, str]:
    """The option that an argument sets, and the text of its value."""
    key, equals, text = argument.partition("=")
    if positional is not None and key.startswith(f"{positional}."):
        key = key.removeprefix(f"{positional}.")  # as `train` has it: data.keys=
    if equals and key in fields:
        return key, text
    if argument.startswith("--") and argument[2:] in fields and fields[argument[2:]].default is False:
        return argument[2:], "true"  # --json is what people write for json=true
    # A path can have an equals sign of its own: sweeps name their directories after options.
    if positional is not None and not argument.startswith("-") and (not equals or Path(argument).exists()):
        return positional, argument
    if equals and key.replace(".", "_").isidentifier():
        raise InputError(f"{command} has no option {key!r}: {nearest(key, fields)}")
    plain = key.lstrip("-").replace("-", "_")
    known = plain in fields
    hint = f"write {plain}={text or 'VALUE'}" if known else f"understudy {command} --help lists them"
    raise InputError(f"{argument!r} is not an option: options are written key=value without dashes, {hint}")


def _checked(key: str, text: str, kind: Any, at_least: float | None, at_most: float | None) -> Any:
    value = _converted(key, text, kind)
    numbers = value if isinstance(value, tuple) else (value,)
    if at_least is not None and any(number is not None and number < at_least for number in numbers):
        raise InputError(f"{key}={text}: it must be at least {at_least:g}")
    if at_most is not None and any(number is not None and number > at_most for number in numbers):
        raise InputError(f"{key}={text}: it must be at most {at_most}")
    if any(isinstance(number, int) and number > _LARGEST for number in numbers):
        raise InputError(f"{key}={text}: it must be at most {_LARGEST}")
    return value


def _converted(key: str, text: str, kind: Any) -> Any:
    """The value of a text as a type, see :func:`parse_options` for the types."""
    arguments = typing.get_args(kind)
    if _is_union(kind):
        if text.lower() in ("null", "none"):
            return None
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return _converted(key, text, inner)
    if typing.get_origin(kind) is tuple:
        items = text.removeprefix("[").removesuffix("]").split(",")
        return tuple(_converted(key, item.strip(), arguments[0]) for item in items)
    wrong = InputError(f"{key}={text}: {_kind_in_words(kind)} is expected")
    if not text:
        raise wrong
    if typing.get_origin(kind) is Literal:
        if text not in arguments:
            raise InputError(f"{key}={text}: {nearest(text, arguments)}")
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise wrong
        return text.lower() == "true"
    try:
        value = kind(text)
    except ValueError:
        raise wrong from None
    if kind is float and not math.isfinite(value):
        raise wrong
    return value


def _is_union(kind: Any) -> bool:
    """`int | None`, and what a literal and none make, which Python has as another type."""
    return isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union


def _kind_in_words(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    return words[kind]


def _placeholder(kind: Any) -> str:
    """What stands for a value in the help: N, NUMBER, true|false, TEXT, PATH; A,… for several."""
    arguments = typing.get_args(kind)
    if _is_union(kind):
        return _placeholder(next(argument for argument in arguments if argument is not types.NoneType))
    if typing.get_origin(kind) is tuple:
        return f"{_placeholder(arguments[0])},…"
    if typing.get_origin(kind) is Literal:
        return "|".join(arguments)
    return {int: "N", float: "NUMBER", bool: "true|false", str: "TEXT", Path: "PATH"}[kind]


def _help(options: type[Any], command: str, positional: str | None, examples: Iterable[str]) -> str:
    width = min(shutil.get_terminal_size().columns, 100)
    kinds = typing.get_type_hints(options)
    usage = f"understudy {command}" + (f" {positional.upper()}" if positional else "")
    fields = dataclasses.fields(options)
    lines = [f"usage: {usage} [key=value ...]" if fields else f"usage: {usage}", ""]
    for paragraph in (options.__doc__ or "").split("\n\n"):
        lines += [*textwrap.wrap(" ".join(paragraph.split()), width), ""]
    if fields:
        lines.append("options:")
    for field in fields:
        lines.append(f"  {field.name}={_placeholder(kinds[field.name])}")
        text = f"{field.metadata['help']} ({_default_in_words(field)})"
        lines += textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    if examples:
        lines += ["", "examples:", *(f"  {example}" for example in examples)]
    return "\n".join(lines).rstrip()


def _default_in_words(field: dataclasses.Field[Any]) -> str:
    value = field.default
    if value is dataclasses.MISSING:
        return "required"
    if value is None:
        return "optional"
    if isinstance(value, bool):
        return f"default: {str(value).lower()}"
    return f"default: {','.join(map(str, value)) if isinstance(value, tuple) else value}"
