"""What is particular about an item of an evaluation's work list, in a few words: its mark, steps and settings."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from rtil.evaluation.methods import USED, SolverOptions
from rtil.evaluation.report import MARK
from rtil.evaluation.study import Work

OF_SOLVER = ("precision", "restarts", "combination")
OF_TERM = ("ilo_perceptual", "ilo_perceptual_weight", "perceptual_mode", "policy", "measurement_weight")


def remarks(item: Work, has_term: bool) -> str:
    """Return the text behind an item's name, with a space before it, or "".

    Args:
        item: The item.
        has_term: Whether it has a perceptual term at its place.
    """
    mark = f" {MARK}" if item.mixes_differently else ""
    if item.candidate is None:
        return mark
    method, options, given = item.candidate.series.method, item.candidate.options, item.arguments
    if method == "mganprior":
        return f"{mark} ({', '.join(_of_mganprior(given))})"
    words: list[str] = []
    if method == "sparse":
        turns = f"{given['alternations']} x ({given['sparse_steps']} + {given['steps']}) steps"
        words = [f"then {turns} with a deviation up to {given['radius']:g}"]
        method, given = given["inner"], given["of_inner"]
        words.insert(0, method)
    steps = given["steps"] if isinstance(given["steps"], list) else [given["steps"]]
    return f"{mark} ({', '.join([f'{_text(steps)} steps', *words, *_unusual(method, options, has_term)])})"


def _unusual(method: str, options: SolverOptions, has_term: bool) -> list[str]:
    """Return the settings that act and are not the default's."""
    standard = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(options)}
    found = []
    for name in (*USED[method], *OF_SOLVER):
        value = getattr(options, name)
        if name in OF_TERM and not has_term:
            if name == "ilo_perceptual" and value != "none":
                found.append(f"without {value}")
        elif value != standard[name]:
            found.append(f"{name} {_text(value)}")
    return found


def _of_mganprior(given: Mapping[str, Any]) -> list[str]:
    term = "no perceptual term"
    if given["perceptual"] != "none":
        term = f"perceptual {given['perceptual']} x {given['perceptual_weight']:g}"
    optimizer = f"{given['steps']} steps of {given['optimizer']}, lr {given['lr']:g}"
    return [optimizer, f"{given['compose_side']} px", f"alpha {given['alpha_init']}", term]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_text(part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)
