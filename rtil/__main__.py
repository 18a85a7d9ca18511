"""``rtil``, and ``python -m rtil``: one program with a command for everything."""

import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

import rtil
from rtil.launch import launch

GROUPS: Mapping[str, Mapping[str, str]] = {
    "train and evaluate": {
        "train": "train a prior, StyleGAN2 or PGGAN, vanilla or RTIL",
        "eval": "compare priors and methods by how well they reconstruct held-out pictures",
        "study": "make a figure or table of a paper, or your own, with all of its evaluations",
        "report": "make a page of evaluations, to read and to send: words, tables, charts, pictures",
        "merge": "join what the shards of an evaluation computed, and write its tables",
    },
    "use a prior": {
        "reconstruct": "find the pictures behind measurements of your own",
        "measure": "measure pictures, into a file from which reconstruct knows how that was done",
        "render": "make the pictures of a reconstruction again from its result file",
        "sample": "write a grid of samples, of every branch if so wanted",
        "explore": "try priors on a page in the browser: measure, watch them invert, move z1",
        "quality": "measure how far samples are from training pictures, branch by branch",
    },
    "data and weights": {
        "convert": "turn another project's checkpoint into a snapshot, or a snapshot into rosinality's",
        "prepare": "pack a folder or zip of pictures into the zip that training reads",
        "weights": "fetch the networks that LPIPS needs, once",
    },
    "the installation": {
        "doctor": "say what is installed, what runs every operation and why, and whether it computes right",
    },
}
"""{group: {command: what it does}}; a command is ``main(argv)`` of the module of its name in ``rtil.cli``."""
COMMANDS = {name: meaning for group in GROUPS.values() for name, meaning in group.items()}


def help_text() -> str:
    """Return one line for each command, by groups."""
    width = max(map(len, COMMANDS)) + 2
    lines = ["usage: rtil COMMAND [--option value ...]", "", (rtil.__doc__ or "").strip()]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<{width}}{meaning}" for name, meaning in commands.items())]
    lines += ["", "rtil COMMAND --help lists the options of a command; rtil --version says which release this is."]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; returns its exit code."""
    import importlib.metadata

    from rtil.cli.common import run_subcommand

    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(help_text())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"rtil {rtil.__version__}, torch {importlib.metadata.version('torch')}")
        return 0
    return run_subcommand({name: f"rtil.cli.{name}" for name in COMMANDS}, words, "rtil")


def start() -> NoReturn:
    """Run the installed command ``rtil``."""
    launch("rtil.__main__")


if __name__ == "__main__":
    start()
