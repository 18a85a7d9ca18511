"""Values from files against the types that they should have; what is not of its kind is named with its place.

JSON has no end to what it may hold: a number where a table is meant, infinity, a key twice, lists ten thousand deep.
Every JSON text of ours is read by :func:`parse_json`, and its values by :func:`typed` or :func:`typed_table`.
"""

import json
import math
import types
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from rtil.errors import UserError, did_you_mean, unknown

WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
LONGEST_SHOWN = 60


def parse_json(text: str | bytes, where: str) -> Any:
    """Return what a JSON text holds.

    Args:
        text: The text, in UTF-8 where it is bytes.
        where: What holds it, for messages.

    Raises:
        UserError: It is no JSON, has a key twice, a number that is not finite, or is nested too deep.
    """
    try:
        return json.loads(text, object_pairs_hook=_keys_once, parse_constant=_refused, parse_float=_finite)
    except RecursionError as error:
        raise UserError(f"{where} is nested too deep") from error
    except ValueError as error:  # JSON's and Unicode's are such
        raise UserError(f"{where} is not JSON ({error})") from error


def json_table(text: str | bytes, where: str) -> dict[str, Any]:
    """Return the table that a JSON text holds.

    Raises:
        UserError: As :func:`parse_json`; it holds something else.
    """
    table = parse_json(text, where)
    if not isinstance(table, dict):
        raise UserError(f"{where} is {shown(table)}: valid is a table in braces")
    return table


def read_small_text(path: Path, most_bytes: int, instead: str) -> bytes:
    """Return the content of a text file, which may be a pipe, or a device without end.

    Args:
        path: The file.
        most_bytes: What such a file may have.
        instead: What to do, where it has more.

    Raises:
        OSError: It cannot be read.
        UserError: It is larger.
    """
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise UserError(f"{path} has over {most_bytes} bytes: {instead}")
    return content


def typed(value: Any, kind: Any, where: str) -> Any:
    """Return a value of JSON as a type has it: whole numbers as floats, texts of digits as whole keys.

    Args:
        value: The value.
        kind: int, float, str, bool, None, Any, Literal, unions, lists and tables of these.
        where: What it is, for messages.

    Raises:
        UserError: It is of no such type, or not finite.

    Example:
        >>> typed({"4": 64}, dict[int, int], "channels"), typed(3, float | None, "kimg")
        ({4: 64}, 3.0)
    """
    for alternative in alternatives(kind):
        found = _as(value, alternative)
        if found is not _NOT:
            return found
    choices = [text for k in alternatives(kind) if get_origin(k) is Literal for text in get_args(k)]
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    raise UserError(f"{where} is {shown(value)}: valid is {describe(kind)}{hint}")


def typed_table(
    values: Mapping[str, Any], kinds: Mapping[str, Any], where: str, others: bool = False
) -> dict[str, Any]:
    """Return a table whose values are of the types that belong to their names.

    Args:
        values: The table.
        kinds: {name: type}; a name may be absent from the table.
        where: What holds it, for messages.
        others: Whether it may have names besides, whose values are kept as they are.

    Raises:
        UserError: A name is not known, or a value is not of its type.
    """
    for name in values:
        if name not in kinds and not others:
            raise unknown(f"key in {where}", name, kinds)
    return {n: typed(value, kinds[n], f"{n} in {where}") if n in kinds else value for n, value in values.items()}


def describe(kind: Any) -> str:
    """Return a type in a user's words.

    Example:
        >>> describe(list[float] | None)
        'a comma-separated list, each a number or null'
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(describe(k) for k in arguments)
    if origin in (list, tuple):
        return f"a comma-separated list, each {describe(arguments[0])}"
    if origin in (dict, Mapping):
        return f"a table from {describe(arguments[0])} to {describe(arguments[1])}"
    return WORDS.get(kind) or getattr(kind, "__name__", str(kind)).lower()


def alternatives(kind: Any) -> Collection[Any]:
    """Return the types of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def is_finite(value: Any) -> bool:
    """Return whether all numbers in nested lists and tables are finite."""
    if isinstance(value, dict):
        return all(is_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def shown(value: Any) -> str:
    """Return a value as a message shows it, cut short."""
    try:
        text = repr(value)
    except RecursionError:
        text = type(value).__name__
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


_NOT: Any = object()
"""Stands for a value that is not of the type."""


def _as(value: Any, kind: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Literal:
        return value if value in arguments else _NOT
    if origin in (list, Sequence):
        items = [_as(item, arguments[0]) for item in value] if isinstance(value, list) else [_NOT]
        return _NOT if _NOT in items else items
    if origin in (dict, Mapping):
        return _table_as(value, *arguments) if isinstance(value, dict) else _NOT
    if kind is None or kind is type(None):
        return None if value is None else _NOT
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite_or_not(value)
    return value if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) else _NOT


def _table_as(table: Mapping[Any, Any], key_kind: Any, value_kind: Any) -> Any:
    found = {}
    for key, value in table.items():
        if key_kind is int and isinstance(key, str) and key.isdecimal() and len(key) < LONGEST_SHOWN:
            key = int(key)
        key, value = _as(key, key_kind), _as(value, value_kind)
        if key is _NOT or value is _NOT:
            return _NOT
        found[key] = value
    return found


def _finite_or_not(value: float) -> Any:
    try:
        number = float(value)
    except OverflowError:
        return _NOT
    return number if math.isfinite(number) else _NOT


def _keys_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has the key '{next(name for name in names if names.count(name) > 1)}' twice")
    return table


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]} is no finite number")
    return number
