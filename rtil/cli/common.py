"""How commands run: options from a dataclass, work that is opened before it is done, one line for every mistake.

Exit codes: 0, or what the work returns; 2 for a mistake of the user, in one line; 130 after Ctrl-C, 143 after SIGTERM,
129 when the terminal was closed, 141 where nobody reads what is printed any more (``rtil doctor | head``), without a
word. While work is opened any UserError is such a mistake; while it runs only a RunError is. Everything else is a bug
of ours: a traceback, and 1.
"""

import errno
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from rtil.cli.options import GIVEN, Reader, table_reader
from rtil.errors import Notice, RunError, UserError, printable, unknown
from rtil.packages import broken_package
from rtil.presets import Kind
from rtil.stopping import WORDS, Request, Terminated, handled


class Work(Protocol):
    """What a command does, opened: checked and ready, but nothing done."""

    def plan(self) -> Iterable[str]:
        """Return lines that say what would be done, for ``--dry_run``."""

    def run(self) -> int | None:
        """Do it; return the exit code where it is not 0."""


@dataclass(frozen=True)
class Prepared:
    """Work as its lines and what does it."""

    lines: Sequence[str]
    do: Callable[[], int | None]

    def plan(self) -> Iterable[str]:
        """Return the lines."""
        return self.lines

    def run(self) -> int | None:
        """Do it."""
        return self.do()


def run_command(
    open_work: Callable[[Any], Work],
    options: type,
    argv: Sequence[str] | None,
    prog: str,
    *,
    nested: Mapping[str, type] | None = None,
    short: Mapping[str, Sequence[str]] | None = None,
    bare: Mapping[str, Any] | None = None,
    presets: Kind | None = None,
    settle: Callable[[Any], Any] | None = None,
) -> int:
    """Run a command and return its exit code.

    Args:
        open_work: Checks everything, and returns what is to be done.
        options: Dataclass of the options; may raise UserError itself. Lists may be written ``a,b``, dicts of strings
            ``name=value name=value``, flags ``--x``, ``--x false`` or ``--no_x``. With ``nested`` it has a field
            ``settings``, the objects of the groups by name. Those without a default are needed, with their names or, in
            order, without.
        argv: Arguments after the program's name; None for those of the process.
        prog: How the command is called.
        nested: Dataclass of each group of options, by the name that is written before them, with a dot; those of the
            group ``""`` stand among the others. Fields with the metadata ``hidden`` are no options.
        short: Names of options (``group.name``) that a name without a group sets.
        bare: Values of options that may also be given without one.
        presets: Whose presets ``--config`` knows by name.
        settle: Returns the options that count for those that were built; of a run that is resumed they are its own,
            with what is given now over them. ``--print_config`` and ``--dry_run`` show these.
    """
    mistakes: type[UserError] = UserError
    request = Request()
    with handled(request.receive), _notices_in_one_line():
        try:
            reader = Reader(options, prog, nested or {}, short or {}, bare or {}, presets)
            wish, given, names = reader.read(sys.argv[1:] if argv is None else argv)
            if wish == "help":
                reader.print_help()
                return 0
            chosen = reader.build(given, names)
            if settle:
                chosen = settle(chosen)
            if wish != "run":
                print(reader.as_yaml(chosen), end="")
            if wish == "print_config":
                return 0
            work = open_work(chosen)
            if wish == "dry_run":
                print("".join(f"# {line}\n" for line in work.plan()), end="")
                return 0
            mistakes = RunError
            return work.run() or 0
        except BaseException as error:
            number = request.number or {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}.get(type(error))
            if number is None and isinstance(error, OSError) and error.errno == errno.EIO and _terminal_is_gone():
                number = signal.SIGHUP  # printing found it before its signal came
            if number is not None:  # also where an import turned the exception into another
                with suppress(OSError):  # a terminal that is gone
                    print(": ".join([WORDS[number], *getattr(error, "__notes__", [])]), file=sys.stderr)
                return 128 + number
            if isinstance(error, mistakes):
                return mistake(error)
            said = broken_package(error) if isinstance(error, Exception) else None
            if said is not None:
                return mistake(UserError(said))
            raise


def _terminal_is_gone() -> bool:
    """Return whether what is printed went to a terminal that was closed; a disk that fails is none."""
    try:
        termios = import_module("termios")
    except ImportError:  # Windows
        return False
    for stream in (1, 2):
        try:
            termios.tcgetattr(stream)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                return True
    return False


def mistake(error: UserError) -> int:
    """Print a mistake in one line; returns the exit code."""
    message = str(error).rpartition(f"{RunError.__module__}.RunError: ")[2]  # a DataLoader's has its worker's traceback
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return 2


def plain(text: str) -> str:
    """Return text without what a terminal obeys: names and values from files may hold its commands."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def read_table(
    options: type,
    values: Mapping[Any, Any],
    where: str,
    nested: Mapping[str, type] | None = None,
    short: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Return some of a command's options, checked and typed, by name; those of a group as ``group.name``.

    Args:
        options: The dataclass of the options.
        values: Options by name, as YAML or JSON has them.
        where: What holds them, for messages.
        nested: See :func:`run_command`.
        short: Likewise.

    Raises:
        UserError: An unknown name, or a value of another type.
    """
    targets = tuple((name, tuple(names)) for name, names in (short or {}).items())
    return table_reader(options, tuple((nested or {}).items()), targets).table(values, where)


def options_of(
    options: type,
    values: Mapping[Any, Any],
    where: str,
    nested: Mapping[str, type] | None = None,
    short: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """Return a command's options from a table, built and checked as those of its command line are.

    Args:
        options: As :func:`read_table`.
        values: Likewise.
        where: Likewise.
        nested: Likewise.
        short: Likewise.

    Raises:
        UserError: As :func:`read_table`, or the options refuse a value.
    """
    targets = tuple((name, tuple(names)) for name, names in (short or {}).items())
    reader = table_reader(options, tuple((nested or {}).items()), targets)
    typed = reader.table(values, where)
    try:
        return reader.build(typed, frozenset({*typed, *map(str, values)}))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def given_names(options: object) -> frozenset[str]:
    """Return which options were given, on the command line or in a file, even if with their default.

    A short name is among them beside the settings that it sets.
    """
    names: frozenset[str] = options.__dict__.get(GIVEN, frozenset())
    return names


@contextmanager
def way_on(words: str) -> Iterator[None]:
    """Tell whoever stops the work within the ``with`` block how to go on with it; the outermost block counts."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        error.__notes__ = [words]
        raise


@contextmanager
def _notices_in_one_line() -> Iterator[None]:
    """Print our own warnings without the place in the code that Python puts before them."""
    before = warnings.formatwarning

    def format_warning(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> str:
        if issubclass(category, Notice):
            return f"warning: {printable(message)}\n"
        return before(message, category, *args, **kwargs)

    warnings.formatwarning = format_warning
    try:
        yield
    finally:
        warnings.formatwarning = before


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
        return mistake(unknown("command", words[0], commands))
    code: int = import_module(commands[words[0]]).main(words[1:])
    return code
