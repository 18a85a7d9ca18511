"""Where the numbers of an evaluation come from: pictures, priors, settings, seeds, time and machine, as tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtil.evaluation.folder import IDENTITY, MACHINES, OPTIONS, SOLVERS
from rtil.evaluation.folder import PICTURES as IDS
from rtil.evaluation.rows import NO_CHECKPOINT
from rtil.machine import short
from rtil.report.parts import Evaluated

CHECKPOINTS = "checkpoints"
OF_TRAINING = ("arch", "rtil", "data", "resolution", "kimg", "seed")
NOT_KNOWN = "not recorded"


@dataclass(frozen=True)
class Block:
    """A table of provenance: its title, the heads of its columns, lines of texts; and longer text below."""

    title: str
    heads: Sequence[str]
    lines: Sequence[Sequence[str]]
    text: str = ""


def provenance_of(evaluated: Evaluated) -> list[Block]:
    """Return what made an evaluation's numbers."""
    settings = evaluated.settings
    blocks = [
        Block("Evaluation", ("", ""), _evaluation(evaluated)),
        Block("Priors", ("name", "weights", *OF_TRAINING, "file"), _priors(settings)),
        Block("Time", ("method", "prior", "reconstructions", "seconds in all"), _seconds(evaluated)),
        Block("Machines", ("processor", "GPUs", "versions"), _machines(settings)),
        Block("Options", (), (), _json(settings.get(OPTIONS, {}))),
        Block("Settings by hash", (), (), _json(settings.get(SOLVERS, {}))),
    ]
    return [block for block in blocks if block.lines or block.text]


def _evaluation(evaluated: Evaluated) -> list[Sequence[str]]:
    settings, options = evaluated.settings, evaluated.settings.get(OPTIONS, {})
    identity = settings.get(IDENTITY, {})
    pictures = identity.get("pictures", {})
    origin = ", ".join(f"{name} {short(str(value))}" for name, value in pictures.items())
    seeds = sorted({row.seed for row in evaluated.rows})
    found = {
        "folder": short(evaluated.folder),
        "pictures": f"{len(settings.get(IDS, []))} ({origin})" if origin else str(len(settings.get(IDS, [])) or ""),
        "measurement noise": _value(identity.get("noise_sigma", options.get("noise_sigma"))),
        "seeds": ", ".join(map(str, seeds)),
        "rows": f"{len(evaluated.rows)}, SHA-256 {evaluated.digest}",
        "damaged lines, not counted": str(evaluated.damaged or ""),
    }
    return [(name, text) for name, text in found.items() if text]


def _priors(settings: Mapping[str, Any]) -> list[Sequence[str]]:
    lines: list[Sequence[str]] = []
    for name, known in settings.get(CHECKPOINTS, {}).items():
        if isinstance(known, Mapping):
            info = known.get("info") if isinstance(known.get("info"), Mapping) else {}
            training = [_value((info or {}).get(field)) for field in OF_TRAINING]
            lines.append((name, str(known.get("weight_hash", ""))[:12], *training, short(str(known.get("path", "")))))
    return lines


def _seconds(evaluated: Evaluated) -> list[Sequence[str]]:
    totals: dict[tuple[str, str], list[float]] = {}
    for row in evaluated.rows:
        totals.setdefault((row.method, row.checkpoint), []).append(row.seconds)
    return [
        (method, "" if checkpoint == NO_CHECKPOINT else checkpoint, str(len(seconds)), f"{sum(seconds):.1f}")
        for (method, checkpoint), seconds in totals.items()
    ]


def _machines(settings: Mapping[str, Any]) -> list[Sequence[str]]:
    lines: list[Sequence[str]] = []
    for machine in settings.get(MACHINES, []):
        if isinstance(machine, Mapping):
            processor = machine.get("processor") if isinstance(machine.get("processor"), Mapping) else {}
            gpus = machine.get("gpus") if isinstance(machine.get("gpus"), list) else []
            versions = machine.get("versions") if isinstance(machine.get("versions"), Mapping) else {}
            named = f"{(processor or {}).get('name', NOT_KNOWN)}, {(processor or {}).get('cores', '?')} cores"
            cards = ", ".join(str(gpu.get("name", "")) for gpu in gpus or [] if isinstance(gpu, Mapping))
            lines.append((named, cards or "none", ", ".join(f"{n} {v}" for n, v in (versions or {}).items())))
    return lines or [(NOT_KNOWN, NOT_KNOWN, NOT_KNOWN)]


def _json(values: Any) -> str:
    return short(json.dumps(values, indent=2, ensure_ascii=False)) if values else ""


def _value(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
