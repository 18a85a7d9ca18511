"""One inversion as one file, from which its pictures are made again. What users keep and share.

A sealed file (:mod:`rtil.inverse.sealed`). Its tensors are the latents (with the noise maps and deviations), y, the
scores, the spread of restarts and a mask file's content. The weights are not inside: the file names them by their hash
and is refused by any other snapshot.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtil import __version__
from rtil.budget import check_memory
from rtil.errors import UserError
from rtil.inverse.back_projection import reported
from rtil.inverse.file_content import check_finite, table_of, tensor_of
from rtil.inverse.latents import SolverLatents
from rtil.inverse.operators import Operator
from rtil.inverse.recipe import OperatorRecipe, measurements_of
from rtil.inverse.registry import solver_class
from rtil.inverse.result import Inversion, Status
from rtil.inverse.sealed import Kind, content_of, kept, load_sealed, save_sealed
from rtil.labels import is_label
from rtil.snapshot import Snapshot

RESULT = Kind("result", 1, "give the result.safetensors of a reconstruction")
SHOWN_DIGITS = 12
LATENTS = "latents."
KINDS: Mapping[str, Any] = {
    "tool": str,
    "pictures": int,
    "labels": list[str],
    "batches": list[int],
    "status": list[Status],
    "seconds": float,
    "method": str,
    "settings": dict[str, Any],
    "operator": dict[str, Any],
    "snapshot": dict[str, Any],
}
"""What ``about`` holds."""
OF_NEWER_FILES = ("labels", "batches")
KINDS_OF_SNAPSHOT: Mapping[str, Any] = {"weight_hash": str, "info": dict[str, Any]}
BYTES_PER_VALUE = 24
"""Memory that rendering takes by the values of a picture: it, its like in other units, and copies of both."""
TOLD_OF_SNAPSHOT = ("arch", "rtil", "data", "resolution", "kimg", "seed")


@dataclass(frozen=True, eq=False)
class ResultFile:
    """What the file of an inversion of N measurements holds, on the CPU.

    Attributes:
        latents: :attr:`rtil.inverse.result.Inversion.latents`, [S, N, ...] each: where an inversion of similar pictures
            can start (``start_from`` of :meth:`rtil.inverse.solver.Solver.invert`).
        y: Measurements [N, ...], float32.
        score: [N], as in the inversion.
        spread: [N, 3, R, R], or None.
        status: N times "ok" or "diverged".
        seconds: Wall time of the inversion.
        method: ``ilo``, ``csgm``, ``mganprior``, ...
        settings: Everything of the solver that decides its result besides weights and y: its arguments and its seed;
            ``start_from`` is the SHA-256 of the result file at whose latents it started.
        recipe: How the operator is made.
        weight_hash: Of the snapshot.
        info: What that snapshot says of its training.
        batches: How many images were inverted at a time; older files do not say, and then it is all.
        labels: What stands in the names of the pictures' files, one for each; empty where they are numbered.
        tool: Program and version that wrote the file.
    """

    latents: SolverLatents
    y: Tensor
    score: Tensor
    spread: Tensor | None
    status: list[Status]
    seconds: float
    method: str
    settings: dict[str, Any]
    recipe: OperatorRecipe
    weight_hash: str
    info: dict[str, Any]
    batches: list[int]
    labels: list[str] = field(default_factory=list)
    tool: str = f"rtil {__version__}"

    @classmethod
    def of(
        cls,
        found: Inversion,
        y: Tensor,
        recipe: OperatorRecipe,
        snapshot: Snapshot,
        method: str,
        settings: Mapping[str, Any],
        labels: Sequence[str] = (),
    ) -> "ResultFile":
        """Gather what belongs to an inversion.

        Args:
            found: What the solver returned.
            y: What it was given.
            recipe: Of the operator that it was given.
            snapshot: Whose generator it inverted.
            method: Name of the solver.
            settings: Its arguments and seed, as JSON values.
            labels: What stands in the names of the pictures' files, if they are not numbered.

        Raises:
            UserError: Labels cannot stand there, or two are equal.
        """
        _check_labels(labels)
        return cls(
            latents=found.latents.mapped(kept),
            y=kept(y.float()),
            score=kept(found.score),
            spread=None if found.spread is None else kept(found.spread),
            status=list(found.status),
            seconds=found.seconds,
            method=method,
            settings=dict(settings),
            recipe=recipe,
            weight_hash=snapshot.weight_hash,
            info=snapshot.info,
            batches=list(found.batches) or [len(y)],
            labels=list(labels),
        )

    def render(self, snapshot: Snapshot) -> Tensor:
        """Return the pictures [N, 3, R, R] in [0, 1] of the inversion, on the snapshot's device.

        They are the same bit for bit on the machine where they were found, being rendered in the same batches;
        elsewhere sums are rounded in another way.

        Args:
            snapshot: The one that was inverted.

        Raises:
            UserError: It is another one.
        """
        operator = self.check_fits(snapshot)
        G = snapshot.generator
        attempts, most = len(self.latents.ws), max(self.batches)
        needed = BYTES_PER_VALUE * math.prod(operator.img_size) * (len(self.y) + attempts * most)
        check_memory(needed, f"{len(self.y)} pictures, {most} at a time", "give a result of fewer pictures")
        operator = operator.to(G.device)
        pictures = []
        for images in torch.arange(len(self.y)).split(self.batches):
            y, places = self.y[images].to(G.device), images
            latents = self.latents.mapped(lambda t, places=places: t[:, places].to(G.device))  # type: ignore[misc]
            back_projection = bool(self.settings.get("back_projection"))
            attempts_at = [reported(x, y, operator, back_projection) for x in latents.render_attempts(G)]
            pictures.append(torch.stack(attempts_at).mean(0))
        return torch.cat(pictures)

    def check_fits(self, snapshot: Snapshot) -> Operator:
        """Return the operator, after a check that pictures can be rendered with a snapshot.

        Raises:
            UserError: It is another one than was inverted, or the latents or measurements are for other pictures.
        """
        self.check_snapshot(snapshot)
        side = snapshot.generator.resolution
        if self.recipe.img_size != (3, side, side):
            size = list(self.recipe.img_size)
            raise UserError(f"the result is of pictures {size} but the snapshot's are {[3, side, side]}")
        self.latents.check(snapshot.generator, len(self.y))
        operator = self.recipe.make()
        operator.check_measurement(self.y)
        return operator

    def check_snapshot(self, snapshot: Snapshot) -> None:
        """Raise UserError unless the snapshot is the one that was inverted."""
        if snapshot.weight_hash != self.weight_hash:
            told = ", ".join(f"{name} {self.info[name]}" for name in TOLD_OF_SNAPSHOT if name in self.info)
            raise UserError(
                f"the result was made with weights {self.weight_hash[:SHOWN_DIGITS]} ({told}) but {snapshot.path} has "
                f"weights {snapshot.weight_hash[:SHOWN_DIGITS]}: give the snapshot that it was made with"
            )


def save_result(path: Path, result: ResultFile) -> None:
    """Write a result atomically.

    Args:
        path: The .safetensors file.
        result: From :meth:`ResultFile.of`.
    """
    recipe = result.recipe
    about = {
        "tool": result.tool,
        "pictures": len(result.y),
        "labels": result.labels,
        "batches": result.batches,
        "status": result.status,
        "seconds": result.seconds,
        "method": result.method,
        "settings": result.settings,
        "operator": recipe.to_json(),
        "snapshot": {"weight_hash": result.weight_hash, "info": result.info},
    }
    tensors = {LATENTS + name: t for name, t in result.latents.items()} | {"y": result.y, "score": result.score}
    if result.spread is not None:
        tensors["spread"] = result.spread
    save_sealed(path, RESULT, about, tensors | recipe.tensors())


def load_result(path: Path | str) -> ResultFile:
    """Open a result file.

    Raises:
        UserError: There is none, it is damaged, or no result that this version can read.
    """
    path = Path(path)
    _, about, tensors = load_sealed(path, RESULT)
    method = about.get("method")
    try:
        latents = solver_class(method).Latents if isinstance(method, str) else SolverLatents
    except UserError as error:
        raise UserError(f"{path} cannot be opened here: {error}") from error
    with content_of(path):
        return _parse(about, tensors, latents)


def _parse(about: dict[str, Any], tensors: dict[str, Tensor], kind: type[SolverLatents]) -> ResultFile:
    told = table_of(about, KINDS, "its table 'about'", OF_NEWER_FILES)
    of_snapshot = table_of(told["snapshot"], KINDS_OF_SNAPSHOT, "its snapshot")
    recipe = OperatorRecipe.from_json(told["operator"], tensors)
    y = measurements_of(tensors, recipe)
    N = len(y)
    batches, labels = told.get("batches", [N]), told.get("labels", [])
    if len(told["status"]) != N or sum(batches) != N or min(batches) < 1 or len(labels) not in (0, N):
        counts = f"{len(told['status'])} states, batches of {sum(batches)}, {len(labels)} labels"
        raise UserError(f"it has {counts} for {N} measurements")
    _check_labels(labels)
    sound = [n for n, status in enumerate(told["status"]) if status == "ok"]
    spread = None if "spread" not in tensors else tensor_of(tensors, "spread", (N, *recipe.img_size), torch.float32)
    if spread is not None:
        check_finite("spread", spread, sound)
    return ResultFile(
        latents=kind(_latents(tensors, N, sound)),
        y=y,
        score=tensor_of(tensors, "score", (N,), torch.float32),
        spread=spread,
        status=told["status"],
        seconds=told["seconds"],
        method=told["method"],
        settings=told["settings"],
        recipe=recipe,
        weight_hash=of_snapshot["weight_hash"],
        info=of_snapshot["info"],
        batches=batches,
        labels=labels,
        tool=told["tool"],
    )


def _check_labels(labels: Sequence[str]) -> None:
    if not all(map(is_label, labels)) or len({label.lower() for label in labels}) != len(labels):
        raise UserError(f"its labels cannot all stand in names of files: {', '.join(map(repr, labels[:5]))}")


def _latents(tensors: Mapping[str, Tensor], N: int, sound: Sequence[int]) -> dict[str, Tensor]:
    """Return the latents, [S, N, ...] each and with ws among them."""
    latents = {name.removeprefix(LATENTS): t for name, t in tensors.items() if name.startswith(LATENTS)}
    if "ws" not in latents:
        raise UserError("its latents have no ws")
    attempts = len(latents["ws"]) if latents["ws"].ndim else 0
    for name, t in latents.items():
        if t.ndim < 2 or not attempts or t.shape[:2] != (attempts, N):
            raise UserError(f"its latents' {name} has shape {list(t.shape)}: valid is [{attempts}, {N}, ...]")
        check_finite(f"its latents' {name}", t.transpose(0, 1), sound)
    return latents
