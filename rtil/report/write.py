"""Writes a report: everything into one HTML file, which a browser opens from anywhere and which fetches nothing.

The template escapes whatever comes from files. A content security policy allows the page's own script and style, by
their hashes, and pictures that are part of it; scripts that a file might smuggle in do not run. Figures of files are
shown as pictures, in which SVG has no scripts at all.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import colormaps

from rtil.errors import UserError
from rtil.evaluation.notes import notes_on
from rtil.files import write_text
from rtil.reading import read_file
from rtil.report.charts import charts_of
from rtil.report.gallery import gallery_of
from rtil.report.parts import Figure, Part, name_of, read_part
from rtil.report.provenance import provenance_of
from rtil.report.tables import columns_of
from rtil.report.words import statements_on

PAGE = "page"
WHITE_ERROR = 0.2
"""Absolute error, pictures in [0, 1], at which an error map is white; that of the spread, too."""


def write_report(
    out: Path, title: str, parts: Sequence[Part], statements: Sequence[str] = (), commands: Sequence[str] = ()
) -> Path:
    """Write a report of one or more evaluations to an HTML file, atomically.

    Args:
        out: The file.
        title: Its title.
        parts: Evaluations with their figures, in their order.
        statements: Sentences before those that are made of the numbers of each part.
        commands: What makes all of it again.

    Returns:
        The file.

    Raises:
        UserError: There is no part, or one is no evaluation; a figure cannot be read.
        RunError: It cannot be written.
    """
    if not parts:
        raise UserError("a report needs a part: give the folder of an evaluation")
    script, style = (files(__package__).joinpath(PAGE, name).read_text("utf-8") for name in ("page.js", "style.css"))
    page = _environment().get_template("page.html.jinja")
    text = page.render(
        title=title,
        parts=[_part(part, f"p{number}") for number, part in enumerate(parts, start=1)],
        statements=statements,
        commands=commands,
        script=script,
        style=style,
        policy=_policy(script, style),
        colours=[list(rgb) for rgb in colormaps["magma"](range(256), bytes=True)[:, :3].tolist()],
        white_error=WHITE_ERROR,
    )
    write_text(out, text)
    return out


def _part(part: Part, anchor: str) -> Mapping[str, Any]:
    """Return what the template shows of a part."""
    evaluated = read_part(part.folder)
    lines = evaluated.summary.lines
    return {
        "anchor": anchor,
        "title": part.title,
        "paragraphs": [text.strip() for text in re.split(r"\n\s*\n", part.text) if text.strip()],
        "statements": statements_on(evaluated),
        "incomplete": [line for line in lines if line.n < max(line.n for line in lines)],
        "most": max(line.n for line in lines),
        "tasks": list(dict.fromkeys(line.task for line in lines)),
        "cells": list(dict.fromkeys((line.task, line.condition) for line in lines)),
        "names": list(dict.fromkeys(map(name_of, lines))),
        "lines": [(line, name_of(line)) for line in lines],
        "columns": columns_of(lines),
        "notes": [] if any(line.scores for line in lines) else notes_on(evaluated.summary),
        "charts": charts_of(lines),
        "figures": [_figure(figure) for figure in part.figures],
        "gallery": gallery_of(evaluated, anchor),
        "provenance": provenance_of(evaluated),
    }


def _figure(figure: Figure) -> Mapping[str, Any]:
    return {
        "figure": figure,
        "svg": base64.b64encode(read_file(figure.svg, "figure")).decode("ascii"),
        "csv": None if figure.csv is None else base64.b64encode(read_file(figure.csv, "table")).decode("ascii"),
    }


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader(__package__ or "rtil.report", PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["pixels"] = "{:.1f}".format
    return found


def _policy(script: str, style: str) -> str:
    """Return a content security policy that allows this script, this style and pictures that are in the page."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    sources = {"default-src": "'none'", "script-src": digest(script), "style-src": digest(style), "img-src": "data:"}
    return "; ".join(f"{name} {value}" for name, value in sources.items()) + "; base-uri 'none'; form-action 'none'"
