"""Values of options: what text may mean for a type, and types and values as text."""

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from rtil.errors import UserError, did_you_mean
from rtil.schema import alternatives, describe, read_small_text, shown

MOST_BYTES = 2**17
"""Of a config file; ours have two kilobytes."""
MOST_BRACKETS = 1000
"""PyYAML takes the square of their number to find out that they nest too deep."""


def readings(value: Any, kind: Any) -> list[Any]:
    """Return what a value may mean for a type, the likeliest first; text is parsed as YAML later on.

    Example:
        >>> readings("0.1,0.2", list[float]), readings("{4:64}", dict[int, int])
        (['[0.1,0.2]', '0.1,0.2'], ['{4: 64}'])
    """
    kinds = alternatives(kind)
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
    return dict[str, str] in alternatives(kind)


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
    choices = [text for k in alternatives(kind) if get_origin(k) is Literal for text in get_args(k)]
    return UserError(f"{where} is {shown(value)}: valid is {describe(kind)}{did_you_mean(str(value), choices)}")


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
        text = read_small_text(path, MOST_BYTES, "give a file of options").decode("utf-8")
        if text.count("[") + text.count("{") > MOST_BRACKETS:
            raise RecursionError
        values = yaml.load(text, _PlainLoader)  # noqa: S506  a safe loader
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UserError(f"config file '{path}' cannot be read ({reason}): give a YAML file") from error
    except RecursionError as error:
        raise UserError(f"config file '{path}' is nested too deep: write one 'name: value' a line") from error
    except UserError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        raise UserError(f"config file '{path}' is not YAML: {error}") from error  # dates, numbers: of Python's words
    if not isinstance(values, dict | None):
        raise UserError(f"config file '{path}' holds no options: write one 'name: value' a line")
    return values or {}


class _PlainLoader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would take the last, and values that point to others.

    A few lines in which each points twice to the one before stand for a million values.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"it points to a value elsewhere (*{self.peek_event().anchor}): write that out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        plain = set[Any]()
        for key in keys:
            if isinstance(key, Hashable) and key in plain:
                raise yaml.YAMLError(f"it has the key {shown(key)} twice")
            plain |= {key} if isinstance(key, Hashable) else set()
        return super().construct_mapping(node, deep)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
