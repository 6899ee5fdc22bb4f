"""Values of a configuration, checked against the dataclass that they are for."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ..robots import InputError, nearest

ConfigT = TypeVar("ConfigT")


def settings_of(kind: type[ConfigT], values: Mapping[str, Any], where: str, **more: Any) -> ConfigT:
    """The frozen dataclass ``kind`` from a group's values; types are checked.

    Errors: :class:`InputError` that names the option for a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    checked = {
        name: _checked(value, hints[name], f"{where}.{name}")
        for name, value in values.items()
        if name != "kind" and name in fields
    }
    for name, value in checked.items():
        _check_range(name, value, f"{where}.{name}={value}")
    return kind(**checked, **more)


def expert_share(value: Any) -> tuple[tuple[int, float], ...]:
    """A share, or a schedule [[batch number, share], …], as points. Errors: :class:`InputError`."""
    points: Any = [[0, value]] if isinstance(value, (int, float)) and not isinstance(value, bool) else value
    try:
        shares = tuple((int(batch), float(share)) for batch, share in points)
    except (TypeError, ValueError):
        shares = ()
    ascending = [batch for batch, _ in shares] == sorted({batch for batch, _ in shares})
    if not shares or not ascending or not all(0 <= share <= 1 for _, share in shares):
        raise InputError(
            f"mixture.expert_share={value}: a share between 0 and 1, or ascending points [[batch,share],…]"
        )
    return shares


# What may be zero; every other number has to be above it. What may be at most one; target_entropy has no bounds.
_MAY_BE_ZERO = (
    "random_steps", "weight_decay", "cloning_weight", "input_noise", "penalty_weight", "penalty_target", "discount",
    "exploration_noise", "target_noise", "target_clip", "averaging", "expert_acts", "entropy_weight", "value_weight",
    "initial", "expert", "offline", "roll_in", "gae_lambda", "goal_dropout", "guidance", "done_mode",
    "real_share", "distil", "demonstrated",
)  # fmt: skip
_AT_MOST_ONE = (
    "share", "expert_acts", "shaping_discount", "discount", "target_rate", "gae_lambda", "goal_dropout",
    "demonstrated",
)  # fmt: skip


def _check_range(name: str, value: Any, option: str) -> None:
    """Refuse numbers that no training can use. Errors: :class:`InputError`."""
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, bool) or not isinstance(number, (int, float)) or name == "target_entropy":
            continue
        if number < 0 or (number == 0 and name not in _MAY_BE_ZERO):
            raise InputError(f"{option}: a number {'of at least' if name in _MAY_BE_ZERO else 'above'} 0 is expected")
        if name in _AT_MOST_ONE and number > 1:
            raise InputError(f"{option}: a number of at most 1 is expected")


def _checked(value: Any, hint: Any, option: str) -> Any:
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        return _checked(value, next(a for a in arguments if a is not types.NoneType), option)
    if typing.get_origin(hint) is typing.Literal:
        if value not in arguments:
            raise InputError(f"{option}={value}: {nearest(str(value), arguments)}")
        return value
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            points = typing.get_origin(arguments[0]) is tuple
            like = "[[20,1],[100,5]]" if points else "[256,256]" if arguments[0] is int else "[positions]"
            raise InputError(f"{option}={value}: a list like {like} is expected")
        return tuple(_checked(item, arguments[0], option) for item in value)
    if hint is bool and isinstance(value, bool):
        return value
    if hint in (int, float) and not isinstance(value, bool) and isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise InputError(f"{option}={value}: a finite number is expected")
        if hint is int and value != int(value):
            raise InputError(f"{option}={value}: a whole number is expected")
        return hint(value)
    if hint is str and isinstance(value, str):
        return value
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text (in quotes)"}
    raise InputError(f"{option}={value}: {words[hint]} is expected")
