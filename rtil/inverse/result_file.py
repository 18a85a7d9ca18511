"""One inversion as one file, from which its pictures are made again. What users keep and share.

A sealed file (:mod:`rtil.inverse.sealed`). Its tensors are the latents (with the noise maps and deviations), y, the
scores, the spread of restarts and a mask file's content. The weights are not inside: the file names them by their hash
and is refused by any other snapshot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtil import __version__
from rtil.errors import UserError
from rtil.inverse.back_projection import reported
from rtil.inverse.latents import SolverLatents
from rtil.inverse.recipe import OperatorRecipe
from rtil.inverse.registry import solver_class
from rtil.inverse.result import Inversion, Status
from rtil.inverse.sealed import Kind, complete, kept, load_sealed, save_sealed
from rtil.snapshot import Snapshot

RESULT = Kind("result", 1, "give the result.safetensors of a reconstruction")
SHOWN_DIGITS = 12
LATENTS = "latents."
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
        """
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
        self.check_snapshot(snapshot)
        G = snapshot.generator
        operator = self.recipe.make().to(G.device)
        pictures = []
        for images in torch.arange(len(self.y)).split(self.batches):
            y, places = self.y[images].to(G.device), images
            latents = self.latents.mapped(lambda t, places=places: t[:, places].to(G.device))  # type: ignore[misc]
            back_projection = bool(self.settings.get("back_projection"))
            attempts = [reported(x, y, operator, back_projection) for x in latents.render_attempts(G)]
            pictures.append(torch.stack(attempts).mean(0))
        return torch.cat(pictures)

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
    with complete(path):
        return _parse(about, tensors)


def _parse(about: dict[str, Any], tensors: dict[str, Tensor]) -> ResultFile:
    latents = {name.removeprefix(LATENTS): t for name, t in tensors.items() if name.startswith(LATENTS)}
    return ResultFile(
        latents=solver_class(about["method"]).Latents(latents),
        y=tensors["y"],
        score=tensors["score"],
        spread=tensors.get("spread"),
        status=about["status"],
        seconds=about["seconds"],
        method=about["method"],
        settings=about["settings"],
        recipe=OperatorRecipe.from_json(about["operator"], tensors),
        weight_hash=about["snapshot"]["weight_hash"],
        info=about["snapshot"]["info"],
        batches=about.get("batches", [len(tensors["y"])]),
        labels=about.get("labels", []),
        tool=about["tool"],
    )
