"""Values of options: what text may mean for a type, and types and values as text."""

import re
import types
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from rtil.errors import UserError, did_you_mean

WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}


def readings(value: Any, kind: Any) -> list[Any]:
    """Return what a value may mean for a type, the likeliest first; text is parsed as YAML later on.

    Example:
        >>> readings("0.1,0.2", list[float]), readings("{4:64}", dict[int, int])
        (['[0.1,0.2]', '0.1,0.2'], ['{4: 64}'])
    """
    kinds = _alternatives(kind)
    if value is None and type(None) not in kinds:
        return []
    if any(get_origin(k) is dict for k in kinds) and isinstance(value, str):
        return [re.sub(r":(?=\S)", ": ", value)]  # YAML reads {4:64} as the text "4:64"
    if list[str] in kinds and isinstance(value, list):  # YAML reads the words of [1, tench] as a number and a text
        return [[str(word) if isinstance(word, int | float) else word for word in value]]
    if not any(get_origin(k) in (list, tuple) for k in kinds) or isinstance(value, list | dict) or value is None:
        return [value]
    text = str(value)
    if list[str] in kinds:
        return [[word.strip() for word in text.strip("[]").split(",")]]
    if text.startswith("["):
        return [text]
    return [f"[{text}]", value] if "," in text else [value, f"[{text}]"]


def holds_pairs(kind: Any) -> bool:
    """Return whether values of a type may be written ``name=value name=value``."""
    return dict[str, str] in _alternatives(kind)


def pairs(where: str, words: Sequence[Any]) -> dict[str, str]:
    """Return ``name=value`` words as a dict.

    Raises:
        UserError: One is not such a word, a name is there twice, or there is none.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = str(word).partition("=")
        if not (name and equals and value):
            raise UserError(f"{where} has '{word}': write name=value, for instance vanilla={str(word).strip('=')}")
        if name in found:
            raise UserError(f"{where} has '{name}' twice: use different names")
        found[name] = value
    if not found:
        raise UserError(f"{where} needs name=value, once or more")
    return found


def not_of_type(where: str, value: Any, kind: Any) -> UserError:
    """Return the error for a value that is not of an option's type."""
    choices = [text for k in _alternatives(kind) if get_origin(k) is Literal for text in get_args(k)]
    return UserError(f"{where} is {value!r}: valid is {describe(kind)}{did_you_mean(str(value), choices)}")


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
    if origin is dict:
        return f"a table from {describe(arguments[0])} to {describe(arguments[1])}"
    return WORDS.get(kind) or getattr(kind, "__name__", str(kind)).lower()


def as_yaml(value: Any) -> str:
    """Return a value as YAML in one line."""
    line = yaml.safe_dump(_plain(value), default_flow_style=True, sort_keys=False, width=10**6)
    return line.removesuffix("...\n").strip()


def read_yaml(path: Path) -> Mapping[Any, Any]:
    """Return the table in a YAML file.

    Raises:
        UserError: It cannot be read, has a key twice, or holds something else.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _KeysOnce)  # noqa: S506  a safe loader
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UserError(f"config file '{path}' cannot be read ({reason}): give a YAML file") from error
    except yaml.YAMLError as error:
        raise UserError(f"config file '{path}' is not YAML: {error}") from error
    if not isinstance(values, dict | None):
        raise UserError(f"config file '{path}' holds no options: write one 'name: value' a line")
    return values or {}


class _KeysOnce(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"it has the key '{key}' twice")
        return super().construct_mapping(node, deep)


def _alternatives(kind: Any) -> Collection[Any]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
