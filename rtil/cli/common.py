"""What all commands share: typed options from a dataclass, YAML files, and one line for every mistake.

A command is a dataclass of options, documented in its docstring, and what opens its work: checked and ready, but
nothing done. Settings of a group (``nested``) have its name before them, on the command line ``--ilo.lr 0.2``, in YAML
``ilo: {lr: 0.2}``; short names stand for some of them. jsonargparse checks the types and writes the help; each option
is checked on its own, wherever it came from, so that a message can name it.

Exit codes: 0; 2 for a mistake of the user, in one line; 130 after Ctrl-C, 143 after SIGTERM. While work is opened any
UserError is such a mistake; while it runs only a RunError is. Everything else is a bug of ours: a traceback, and 1.
"""

import dataclasses
import os
import platform
import re
import signal
import sys
import types
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol, Union, get_args, get_origin, get_type_hints

import yaml

from rtil.errors import Notice, RunError, UserError, did_you_mean, unknown

Wish = Literal["run", "help", "print_config", "dry_run"]
TRUE, FALSE = ("true", "yes"), ("false", "no")
LAUNCHED = "RTIL_LAUNCHED"
GIVEN = "_given"
SETTINGS = "settings"
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(2**26)}
COMMON = {
    "config": "YAML file of options; those on the command line come first.",
    "print_config": "Print all options as such a file and stop.",
    "dry_run": "Print all options and what would be done, and stop.",
}


def launch(module: str) -> NoReturn:
    """Run ``module.main()`` and exit with its code, first starting the process anew with other malloc settings.

    glibc hands every big block that is freed back to the kernel, and a network frees hundreds of them in each step:
    the page faults when they are allocated again take a third of the time of small models on a CPU. glibc reads these
    settings once, when a process starts, hence the restart; it happens before anything heavy is imported. Variables
    that the user has set are kept.
    """
    if platform.libc_ver()[0] == "glibc" and LAUNCHED not in os.environ:
        environment = {**MALLOC, **os.environ, LAUNCHED: "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606
    sys.exit(import_module(module).main())


class Work(Protocol):
    """What a command does, opened."""

    def plan(self) -> Iterable[str]:
        """Return lines that say what would be done, for ``--dry_run``."""

    def run(self) -> None:
        """Do it."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Work as its lines and what does it."""

    lines: Sequence[str]
    do: Callable[[], object]

    def plan(self) -> Iterable[str]:
        """Return the lines."""
        return self.lines

    def run(self) -> None:
        """Do it."""
        self.do()


def run_command(
    open_work: Callable[[Any], Work],
    options: type,
    argv: Sequence[str] | None,
    prog: str,
    *,
    nested: Mapping[str, type] | None = None,
    short: Mapping[str, Sequence[str]] | None = None,
    bare: Mapping[str, Any] | None = None,
) -> int:
    """Run a command and return its exit code.

    Args:
        open_work: Checks everything, and returns what is to be done.
        options: Dataclass of the options; may raise UserError itself. Lists may be written ``a,b``, dicts of strings
            ``name=value name=value``, flags ``--x``, ``--x false`` or ``--no_x``. With ``nested`` it has a field
            ``settings``, the objects of the groups by name.
        argv: Arguments after the program's name; None for those of the process.
        prog: How the command is called.
        nested: Dataclass of each group of settings, by name.
        short: Names of settings (``group.setting``) that a name without a group sets.
        bare: Values of options that may also be given without one.
    """
    command = _CommandLine(options, prog, nested or {}, short or {}, bare or {})
    with _termination_raises(), _notices_in_one_line():
        try:
            wish, given, names = command.read(sys.argv[1:] if argv is None else argv)
            if wish == "help":
                command.print_help()
                return 0
            chosen = command.options_of(given, names)
            if wish != "run":
                print(command.as_yaml(chosen), end="")
            if wish == "print_config":
                return 0
            work = open_work(chosen)
            if wish == "dry_run":
                print("".join(f"# {line}\n" for line in work.plan()), end="")
                return 0
        except UserError as error:
            return _mistake(error)
        except KeyboardInterrupt:
            return _stopped("interrupted", 130)
        except Terminated:
            return _stopped("terminated", 143)
        try:
            work.run()
        except RunError as error:
            return _mistake(error)
        except KeyboardInterrupt:
            return _stopped("interrupted", 130)
        except Terminated:
            return _stopped("terminated", 143)
    return 0


def _mistake(error: UserError) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _stopped(how: str, code: int) -> int:
    print(how, file=sys.stderr)
    return code


def read_table(
    options: type,
    values: Mapping[Any, Any],
    where: str,
    nested: Mapping[str, type] | None = None,
    short: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Return some of a command's options, checked and typed, by name; settings of a group as ``group.setting``.

    Args:
        options: The dataclass of the options.
        values: Options by name, as YAML or JSON has them.
        where: What holds them, for messages.
        nested: See :func:`run_command`.
        short: Likewise.

    Raises:
        UserError: An unknown name, or a value of another type.
    """
    nested, short = nested or {}, short or {}
    return _command_line(options, tuple(nested.items()), tuple((n, tuple(t)) for n, t in short.items())).table(
        values, where
    )


@cache
def _command_line(options: type, nested: tuple[Any, ...], short: tuple[Any, ...]) -> "_CommandLine":
    return _CommandLine(options, options.__name__, dict(nested), dict(short), {})


def given_names(options: object) -> frozenset[str]:
    """Return which options were given, on the command line or in a file, even if with their default.

    A short name is among them beside the settings that it sets.
    """
    names: frozenset[str] = options.__dict__.get(GIVEN, frozenset())
    return names


class Terminated(BaseException):
    """SIGTERM, raised in the main thread so that ``finally`` blocks run."""


@contextmanager
def kept_rows(folder: Path) -> Iterator[None]:
    """Tell whoever stops an evaluation within the ``with`` block how to go on with it."""
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        print(f"finished rows are kept: go on with --out {folder} --resume", file=sys.stderr)
        raise


@contextmanager
def _notices_in_one_line() -> Iterator[None]:
    """Print our own warnings without the place in the code that Python puts before them."""
    before = warnings.formatwarning

    def format_warning(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> str:
        if issubclass(category, Notice):
            return f"warning: {message}\n"
        return before(message, category, *args, **kwargs)

    warnings.formatwarning = format_warning
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextmanager
def _termination_raises() -> Iterator[None]:
    def terminate(signal_number: int, frame: types.FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread: whoever owns it also owns the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _CommandLine:
    """The options of one command, as text and back."""

    def __init__(
        self,
        options: type,
        prog: str,
        nested: Mapping[str, type],
        short: Mapping[str, Sequence[str]],
        bare: Mapping[str, Any],
    ) -> None:
        from jsonargparse import ArgumentParser

        self.options, self.nested, self.short = options, nested, short
        hints = get_type_hints(options)
        self.types = {f.name: hints[f.name] for f in dataclasses.fields(options) if f.name != SETTINGS}
        self.parser = ArgumentParser(prog=prog, exit_on_error=False, add_help=False)
        self.parser.add_class_arguments(options, skip={SETTINGS} if nested else None)
        for group, settings in nested.items():
            hidden = {f.name for f in dataclasses.fields(settings) if f.metadata.get("hidden")}
            hints = get_type_hints(settings)
            shown = [f.name for f in dataclasses.fields(settings) if f.name not in hidden]
            self.types |= {f"{group}.{name}": hints[name] for name in shown}
            self.parser.add_class_arguments(settings, group, skip=hidden)
        self.bare = {name: True for name, kind in self.types.items() if kind is bool}
        self.bare |= {name: True for name, (first, *_) in short.items() if self.types[first] is bool}
        self.bare |= bare
        self.meaning = {action.dest: action.help for action in self.parser._actions}
        for action in self.parser._actions:  # --list+ would be a second way to write a list
            action.option_strings = [text for text in action.option_strings if not text.endswith("+")]
        self.valid = [*self.types, *self.short, *COMMON]

    def read(self, argv: Sequence[str]) -> tuple[Wish, dict[str, Any], frozenset[str]]:
        """Return what is wanted, the options that are given, and all names that were."""
        wish: Wish = "run"
        from_files: dict[str, Any] = {}
        from_line: dict[str, Any] = {}
        names: set[str] = set()
        words = list(argv)
        while words:
            name, value = self._option(words)
            if name == "help":
                return "help", {}, frozenset()
            if name in ("print_config", "dry_run"):
                wish = "print_config" if name == "print_config" else "dry_run"
            elif name == "config":
                table = self._file(Path(value))
                names |= table.keys() & self.short.keys()
                from_files |= self.table(table, value)
            else:
                names.add(name)
                from_line |= self._set(name, value, f"--{name}")
        given = from_files | from_line
        return wish, given, frozenset(names | given.keys())

    def options_of(self, given: Mapping[str, Any], names: frozenset[str]) -> Any:
        """Return the options, with the objects of the groups."""
        values = {name: value for name, value in given.items() if "." not in name}
        if self.nested:
            own: dict[str, dict[str, Any]] = {group: {} for group in self.nested}
            for name, value in given.items():
                group, dot, setting = name.partition(".")
                if dot:
                    own[group][setting] = value
            values[SETTINGS] = {group: settings(**own[group]) for group, settings in self.nested.items()}
        chosen = self.options(**values)
        chosen.__dict__[GIVEN] = names
        return chosen

    def as_yaml(self, chosen: Any) -> str:
        """Return the options as a file that ``--config`` reads, each below its meaning."""
        text = ""
        for name in self.types:
            group, dot, setting = name.partition(".")
            indent = "  " if dot else ""
            if dot and f"\n{group}:\n" not in text:
                text += f"{group}:\n"
            held = getattr(chosen, SETTINGS)[group] if dot else chosen
            value = _plain(getattr(held, setting if dot else name))
            line = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
            meaning = " ".join((self.meaning[name] or "").replace("``", "").split())
            line = line.removesuffix(f"...{chr(10)}").strip()
            text += f"{indent}# {meaning}\n{indent}{setting if dot else name}: {line}\n"
        return text

    def print_help(self) -> None:
        """Print all options with types and defaults."""
        from jsonargparse import SUPPRESS

        if self.short:
            older = self.parser.add_argument_group("short names of these settings")
            for name, targets in self.short.items():
                meaning = "As " + " ".join(f"--{target}" for target in targets) + "."
                older.add_argument(f"--{name}", help=meaning, default=SUPPRESS)
        group = self.parser.add_argument_group("every command")
        for name, meaning in COMMON.items():
            takes: dict[str, Any] = {"metavar": "FILE"} if name == "config" else {"action": "store_true"}
            group.add_argument(f"--{name}", help=meaning, default=SUPPRESS, **takes)
        group.add_argument("-h", "--help", help="Print this text and stop.", action="store_true", default=SUPPRESS)
        self.parser.print_help()

    def _option(self, words: list[str]) -> tuple[str, Any]:
        """Take one option with its value off the front of the words."""
        word = words.pop(0)
        if word in ("-h", "--help"):
            return "help", None
        if not word.startswith("--"):
            raise UserError(f"unexpected argument '{word}': options are written --name value")
        name, has_value, value = word.removeprefix("--").partition("=")
        if name in ("print_config", "dry_run"):
            return name, None
        if name.startswith("no_") and self.bare.get(name.removeprefix("no_")) is True and not has_value:
            return name.removeprefix("no_"), False
        if name not in self.valid:
            raise UserError(f"unknown option '--{name}'{self._nearest(name)} (--help lists all)")
        if has_value:
            return name, value
        kind = self.types.get(self.short[name][0] if name in self.short else name, str)
        if kind in (dict[str, str], dict[str, str] | None):
            pairs = []
            while words and not words[0].startswith("--"):
                pairs.append(words.pop(0))
            return name, pairs
        is_value = bool(words) and not words[0].startswith("--")
        if name in self.bare and self.bare[name] is True:
            is_value = is_value and words[0].lower() in (*TRUE, *FALSE)
        if is_value:
            return name, words.pop(0)
        if name in self.bare:
            return name, self.bare[name]
        raise UserError(f"option --{name} needs a value: {_describe(kind)}")

    def _nearest(self, name: str) -> str:
        return did_you_mean(f"--{name}", [f"--{valid}" for valid in self.valid])

    def _file(self, path: Path) -> dict[str, Any]:
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), _KeysOnce)  # noqa: S506  a safe loader
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise UserError(f"config file '{path}' cannot be read ({reason}): give a YAML file") from error
        except yaml.YAMLError as error:
            raise UserError(f"config file '{path}' is not YAML: {error}") from error
        if values is None:
            return {}
        if not isinstance(values, dict):
            raise UserError(f"config file '{path}' holds no options: write one 'name: value' a line")
        return values

    def table(self, values: Mapping[Any, Any], where: str) -> dict[str, Any]:
        """Return a table of options as their types; see :func:`read_table`."""
        flat: dict[str, Any] = {}
        for name, value in values.items():
            if name in self.nested:
                if not isinstance(value, Mapping):
                    raise UserError(f"{where}: {name} is {value!r}: give a table of its settings")
                flat |= {f"{name}.{setting}": of_setting for setting, of_setting in value.items()}
            else:
                flat[str(name)] = value
        found: dict[str, Any] = {}
        for name in flat:
            if name not in self.types and name not in self.short:
                raise UserError(
                    f"unknown key '{name}' in {where}{did_you_mean(name, [*self.types, *self.short, *self.nested])}"
                )
        for name in sorted(flat, key=lambda name: name not in self.short):  # what is named in full comes last, and wins
            found |= self._set(name, flat[name], f"{where}: {name}")
        return found

    def _set(self, name: str, value: Any, where: str) -> dict[str, Any]:
        """Return what an option sets, a short one each of its settings."""
        return {target: self._typed(target, value, where) for target in self.short.get(name, [name])}

    def _typed(self, name: str, value: Any, where: str) -> Any:
        """Return a value as the option's type.

        Raises:
            UserError: It is not of that type.
        """
        from jsonargparse import ArgumentError

        kind = self.types[name]
        if kind in (dict[str, str], dict[str, str] | None) and isinstance(value, str | list):
            value = _pairs(where, [value] if isinstance(value, str) else value)
        for reading in [] if value is None and type(None) not in _alternatives(kind) else _readings(value, kind):
            try:
                if isinstance(reading, str):
                    return self.parser.parse_args([f"--{name}={reading}"], defaults=False)[name]
                group, dot, setting = name.partition(".")
                nested = {group: {setting: reading}} if dot else {name: reading}
                return self.parser.parse_object(nested, defaults=False)[name]
            except (ArgumentError, TypeError, ValueError):
                continue
        choices = [text for k in _alternatives(kind) if get_origin(k) is Literal for text in get_args(k)]
        near = did_you_mean(str(value), choices)
        raise UserError(f"{where} is {value!r}: valid is {_describe(kind)}{near}")


class _KeysOnce(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"it has the key '{key}' twice")
        return super().construct_mapping(node, deep)


def _pairs(where: str, words: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, value = str(word).partition("=")
        if not (name and equals and value):
            raise UserError(f"{where} has '{word}': write name=value, for instance vanilla={word.strip('=')}")
        if name in pairs:
            raise UserError(f"{where} has '{name}' twice: use different names")
        pairs[name] = value
    if not pairs:
        raise UserError(f"{where} needs name=value, once or more")
    return pairs


def _readings(value: Any, kind: Any) -> list[Any]:
    """Return what a value may mean, the likeliest first; text is parsed as YAML later on."""
    kinds = _alternatives(kind)
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


def _alternatives(kind: Any) -> Collection[Any]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _describe(kind: Any) -> str:
    """Return a type in a user's words."""
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    if kind in words:
        return words[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(k) for k in arguments)
    if origin in (list, tuple):
        return f"a comma-separated list, each {_describe(arguments[0])}"
    if origin is dict:
        return f"a table from {_describe(arguments[0])} to {_describe(arguments[1])}"
    return getattr(kind, "__name__", str(kind)).lower()


def _plain(value: Any) -> Any:
    """Return a value that YAML can write."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def run_subcommand(commands: Mapping[str, str], argv: Sequence[str] | None, prog: str) -> int:
    """Run one of several commands, named by the first argument; returns its exit code.

    Args:
        commands: {name: module with ``main(argv)``}.
        argv: Arguments; None for those of the process.
        prog: How the program is called.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    usage = f"usage: {prog} {{{','.join(commands)}}} [--help] [--option value ...]"
    if not words or words[0] in ("-h", "--help"):
        print(usage)
        return 0 if words else 2
    if words[0] not in commands:
        print(f"error: {unknown('command', words[0], commands)}", file=sys.stderr)
        return 2
    code: int = import_module(commands[words[0]]).main(words[1:])
    return code
