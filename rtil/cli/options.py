"""The options of a command, as text and back: command line, YAML files, ``--print_config``, ``--help``.

They are the fields of a dataclass and of named groups, dataclasses too, whose fields have the group's name before them:
``--ilo.lr 0.2``, in YAML ``ilo: {lr: 0.2}``; those of a group called ``""`` have none. Short names stand for some of
them. Options without a default are needed, and may be given without their names, in order. jsonargparse checks the
types and writes the help; each value is checked on its own, wherever it came from, so that a message can name it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_origin, get_type_hints

from rtil.cli.values import as_yaml, holds_pairs, not_of_type, pairs, read_yaml, readings
from rtil.errors import UserError, did_you_mean
from rtil.presets import Kind, config_path
from rtil.presets import names as preset_names
from rtil.schema import alternatives, describe, is_finite, shown

TRUE, FALSE = ("true", "yes"), ("false", "no")
SETTINGS = "settings"
"""Field of the options that has the objects of the groups."""
GIVEN = "_given"
ELSEWHERE = "ELSEWHERE"
"""Attribute of a group that tells, of names that are not its own, what stands for them."""
WISHES = ("help", "print_config", "dry_run")
COMMON = {
    "config": "YAML file of options; those on the command line come first.",
    "print_config": "Print all options as such a file and stop.",
    "dry_run": "Print all options and what would be done, and stop.",
    "help": "Print this text and stop.",
}


class Place(NamedTuple):
    """Where an option is kept: the name of its group (None for the options themselves), its field and type."""

    group: str | None
    field: str
    kind: Any


class Entry(NamedTuple):
    """A name as a user wrote it, its value, and what to call it in messages."""

    name: str
    value: Any
    where: str


class Reader:
    """Reads and writes the options of a command; see :func:`rtil.cli.common.run_command`."""

    def __init__(
        self,
        options: type,
        prog: str,
        nested: Mapping[str, type],
        short: Mapping[str, Sequence[str]],
        bare: Mapping[str, Any],
        presets: Kind | None = None,
    ) -> None:
        from jsonargparse import SUPPRESS, ArgumentParser

        self.options, self.nested, self.short, self.presets = options, nested, short, presets
        self.needed = [f.name for f in fields(options) if _is_needed(f)]
        self.usage = " ".join([prog, *map(str.upper, self.needed), "[--option value ...]"])
        self.parser = ArgumentParser(prog=prog, usage=self.usage, exit_on_error=False, add_help=False)
        self.places: dict[str, Place] = {}
        self.elsewhere: dict[str, str] = {}
        for group, cls in [(None, options), *nested.items()]:
            hidden = {f.name for f in fields(cls) if f.metadata.get("hidden")}
            hidden |= {SETTINGS} & {f.name for f in fields(cls)}
            kinds = get_type_hints(cls)
            self.elsewhere |= {f"{group}.{name}": text for name, text in getattr(cls, ELSEWHERE, {}).items()}
            for field in [f.name for f in fields(cls) if f.name not in hidden]:
                self.places[f"{group}.{field}" if group else field] = Place(group, field, kinds[field])
            self.parser.add_class_arguments(cls, group or None, skip=hidden)
        flags = [name for name in [*self.places, *short] if self._kind(name) is bool]
        self.bare: dict[str, Any] = {**dict.fromkeys(flags, True), **bare}
        self.meaning = {action.dest: " ".join((action.help or "").split()) for action in self.parser._actions}
        for action in self.parser._actions:
            if action.dest in nested:  # a file for one group only would be a second way to give one
                action.help = SUPPRESS
            action.option_strings = [text for text in action.option_strings if not text.endswith("+")]  # nor --list+
            action.required = False  # each value is parsed alone; build() tells what is missing

    def read(self, argv: Sequence[str]) -> tuple[str, dict[str, Any], frozenset[str]]:
        """Return one of WISHES or ``run``, the options that are given, by full name, and all names that were given."""
        wish, words, positions = "run", list(argv), list(self.needed)
        found: dict[str, Any] = {}
        line: list[Entry] = []
        names: set[str] = set()
        while words:
            if positions and not words[0].startswith("-"):
                name = positions.pop(0)
                line.append(Entry(name, self._position(name, words), name.upper()))
                continue
            name, value = self._take(words)
            positions = [position for position in positions if position != name]
            if name == "help":
                return name, {}, frozenset()
            if name in WISHES:
                wish = name
            elif name == "config":
                entries = self._entries(read_yaml(config_path(value, self.presets)), value)
                found |= self._typed(entries)
                names |= {entry.name for entry in entries}
            else:
                line.append(Entry(name, value, f"--{name}"))
        found |= self._typed(line)
        return wish, found, frozenset({*names, *found, *(entry.name for entry in line)})

    def table(self, values: Mapping[Any, Any], where: str) -> dict[str, Any]:
        """Return a table of options by full name; see :func:`rtil.cli.common.read_table`."""
        return self._typed(self._entries(values, where))

    def build(self, given: Mapping[str, Any], names: frozenset[str]) -> Any:
        """Return the options, with the objects of the groups in ``settings``.

        Raises:
            UserError: One that is needed is not given, or the options refuse a value.
        """
        for name in self.needed:
            if name not in given:
                raise UserError(f"{name.upper()} is needed: {self.usage} (--help says more)")
        values: dict[str | None, dict[str, Any]] = {group: {} for group in [None, *self.nested]}
        for name, value in given.items():
            place = self.places[name]
            values[place.group][place.field] = value
        own = values[None]
        if self.nested:
            own[SETTINGS] = {group: cls(**values[group]) for group, cls in self.nested.items()}
        built = self.options(**own)
        built.__dict__[GIVEN] = names
        return built

    def as_yaml(self, built: Any) -> str:
        """Return the options as a file that ``--config`` reads, each below its meaning."""
        text, before = "", None
        for name, (group, field, _) in self.places.items():
            if group and group != before:
                text += f"{group}:\n"
            before, indent = group, "  " if group else ""
            value = getattr(built if group is None else getattr(built, SETTINGS)[group], field)
            meaning = self.meaning[name].replace("``", "")
            text += f"{indent}# {meaning}\n{indent}{field}: {as_yaml(value)}\n"
        return text

    def print_help(self) -> None:
        """Print all options with types and defaults."""
        from jsonargparse import SUPPRESS

        for action in self.parser._actions:
            if action.dest in self.needed:
                action.option_strings, action.metavar, action.required = [], action.dest.upper(), True
        if self.short:
            group = self.parser.add_argument_group("short names of these settings")
            for name, targets in self.short.items():
                meaning = "As " + " ".join(f"--{target}" for target in targets) + "."
                group.add_argument(f"--{name}", help=meaning, default=SUPPRESS)
        group = self.parser.add_argument_group("every command")
        for name, meaning in COMMON.items():
            if name == "config" and self.presets:
                meaning += f" Or the name of a preset: {', '.join(preset_names(self.presets))}."
            takes: dict[str, Any] = {"metavar": "FILE"} if name == "config" else {"action": "store_true"}
            group.add_argument(*["-h"] * (name == "help"), f"--{name}", help=meaning, default=SUPPRESS, **takes)
        self.parser.print_help()

    def _kind(self, name: str) -> Any:
        """Return the type of an option; of a short name, that of the first it stands for."""
        return self.places[self.short.get(name, [name])[0]].kind

    def _position(self, name: str, words: list[str]) -> Any:
        """Take the value of an option without its name off the front of the words; of a list up to the next option."""
        if get_origin(self._kind(name)) is not list:
            return words.pop(0)
        end = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
        taken, words[:] = words[:end], words[end:]
        return taken

    def _instead(self, name: str) -> str:
        """Return what stands for a name: the option of that name without a group, or what the group says."""
        own = name.rpartition(".")[2]
        return f"use --{own}" if own in self.places else self.elsewhere[name]

    def _take(self, words: list[str]) -> tuple[str, Any]:
        """Take one option with its value off the front of the words."""
        word = words.pop(0)
        if word == "-h":
            return "help", None
        if not word.startswith("--"):
            raise UserError(f"unexpected argument '{word}': options are written --name value")
        name, has_value, value = word.removeprefix("--").partition("=")
        if name in WISHES:
            return name, None
        positive = name.removeprefix("no_")
        if positive != name and self.bare.get(positive) is True and not has_value:
            return positive, False
        valid = [*self.places, *self.short, *COMMON]
        if name in self.elsewhere:
            raise UserError(f"option --{name} is not to be set here: {self._instead(name)}")
        if name not in valid:
            near = did_you_mean(word, [f"--{v}" for v in valid])
            raise UserError(f"unknown option '--{name}'{near} (--help lists all)")
        kind = str if name == "config" else self._kind(name)
        if has_value:
            return name, value
        if holds_pairs(kind):
            end = next((i for i, w in enumerate(words) if w.startswith("--")), len(words))
            taken, words[:] = words[:end], words[end:]
            return name, taken
        is_value = bool(words) and not words[0].startswith("--")
        if self.bare.get(name) is True:
            is_value = is_value and words[0].lower() in (*TRUE, *FALSE)
        if is_value:
            return name, words.pop(0)
        if name in self.bare:
            return name, self.bare[name]
        raise UserError(f"option --{name} needs a value: {describe(kind)}")

    def _entries(self, values: Mapping[Any, Any], where: str) -> list[Entry]:
        flat: dict[str, Any] = {}
        for name, value in values.items():
            if name not in self.nested or not name:
                flat[str(name)] = value
            elif isinstance(value, Mapping):
                flat |= {f"{name}.{field}": of_field for field, of_field in value.items()}
            else:
                raise UserError(f"{where}: {name} is {shown(value)}: give a table of its settings")
        valid = [*self.places, *self.short]
        for name in flat:
            if name in self.elsewhere:
                raise UserError(f"key '{name}' in {where} is not to be set here: {self._instead(name)}")
            if name not in valid:
                raise UserError(f"unknown key '{name}' in {where}{did_you_mean(name, [*valid, *self.nested])}")
        return [Entry(name, value, f"{where}: {name}") for name, value in flat.items()]

    def _typed(self, entries: Iterable[Entry]) -> dict[str, Any]:
        """Return values by full name; what is named in full wins over a short name, wherever it stands."""
        found: dict[str, Any] = {}
        for name, value, where in sorted(entries, key=lambda entry: entry.name not in self.short):
            found |= {target: self._value(target, value, where) for target in self.short.get(name, [name])}
        return found

    def _value(self, name: str, value: Any, where: str) -> Any:
        from jsonargparse import ArgumentError

        group, field, kind = self.places[name]
        if holds_pairs(kind) and isinstance(value, str | list):
            value = pairs(where, [value] if isinstance(value, str) else value)
        if value == "" and Path in alternatives(kind):  # which would be the current folder
            raise UserError(f"{where} is empty: give a path, or leave it away")
        for reading in readings(value, kind):
            try:
                if isinstance(reading, str):
                    found = self.parser.parse_args([f"--{name}={reading}"], defaults=False)[name]
                else:
                    table = {group: {field: reading}} if group else {field: reading}
                    found = self.parser.parse_object(table, defaults=False)[name]
            except (ArgumentError, TypeError, ValueError, RecursionError):
                continue
            if not is_finite(found):
                raise UserError(f"{where} is {shown(value)}: use finite numbers")
            return found
        raise not_of_type(where, value, kind)


def _is_needed(option: Field[Any]) -> bool:
    return option.default is MISSING and option.default_factory is MISSING


@cache
def table_reader(options: type, nested: tuple[Any, ...], short: tuple[Any, ...]) -> Reader:
    """Return what reads tables of these options, built once; the mappings as tuples of their items."""
    return Reader(options, options.__name__, dict(nested), dict(short), {})
