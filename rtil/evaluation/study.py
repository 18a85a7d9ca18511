"""The work list of an evaluation: tasks x levels x methods x checkpoints, all on the same pictures and operators.

An operator is drawn once for each (seed, task, level) and measurement noise for each (operator, image), so every method
and checkpoint sees the same numbers. Pictures are the first N of one fixed permutation of the held-out set: they do not
depend on the seed, and fewer pictures are always among more.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rtil.baselines import Reconstruct, baselines_of, open_baseline
from rtil.data import ImageDataset, open_dataset, preload
from rtil.errors import UserError, unknown
from rtil.evaluation.candidates import Candidate, Networks, check_baselines
from rtil.evaluation.linear_prior import LinearPrior
from rtil.evaluation.methods import mixes_differently
from rtil.evaluation.report import level_text
from rtil.evaluation.rows import NO_CHECKPOINT, Level, RowKey, settings_hash
from rtil.evaluation.summary import LINEAR
from rtil.inverse.operators import OPERATORS, Operator, make_operator
from rtil.inverse.perceptual import is_picture
from rtil.inverse.solver import Solver
from rtil.seeds import derive_seed, generator
from rtil.snapshot import Snapshot
from rtil.weights.backbones import LpipsNet

HeldOut = Literal["validation", "test"]
PRIOR_MEMORY_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Place:
    """One task at one level.

    Attributes:
        task: Name of the task.
        level: Value of the task's parameter, the mask's name, or None.
        parameters: What :func:`rtil.inverse.operators.make_operator` takes.
    """

    task: str
    level: Level
    parameters: Mapping[str, Any]

    @property
    def label(self) -> str:
        """For people: ``cs 10 %``."""
        return f"{self.task} {level_text(self.task, self.level)}".rstrip()

    @property
    def slug(self) -> str:
        """For file names: ``cs-0.1``."""
        level = f"{self.level:g}" if isinstance(self.level, float | int) else self.level
        return re.sub(r"[^A-Za-z0-9._-]+", "_", self.task if level is None else f"{self.task}-{level}")

    @property
    def linear(self) -> bool:
        """Whether its operator is linear; the linear prior is evaluated only where it is."""
        return OPERATORS[self.task].linear

    def operator(self, resolution: int, seed: int, noise_sigma: float = 0.0) -> Operator:
        """Return the operator that every picture of this place is measured with.

        Args:
            resolution: Side of the pictures.
            seed: Root seed.
            noise_sigma: Measurement noise, where the task has none of its own.
        """
        noise = noise_sigma if OPERATORS[self.task].takes_noise else 0.0
        own_seed = derive_seed(seed, "study/operator", self.task, str(self.level))
        size = (3, resolution, resolution)
        return make_operator(self.task, size, noise_sigma=noise, seed=own_seed, **self.parameters)

    def settings(self) -> dict[str, Any]:
        """Return what decides the operator besides task, level and seed: the content of a mask file."""
        if "mask" not in self.parameters:
            return {}
        try:
            content = Path(self.parameters["mask"]).read_bytes()
        except OSError as error:
            raise UserError(
                f"mask '{self.parameters['mask']}' cannot be read ({error.strerror}): give a file"
            ) from error
        return {"mask": hashlib.sha256(content).hexdigest()}


def places(
    tasks: Sequence[str],
    rates: Sequence[float],
    factors: Sequence[int],
    sigmas: Sequence[float],
    mask: str | None = None,
    widths: Sequence[float] = (),
    lengths: Sequence[float] = (),
    exposures: Sequence[int] = (),
) -> list[Place]:
    """Return each task at each of its levels.

    Args:
        tasks: Names of tasks.
        rates: Levels of cs, gaussian, mri, fourier, box, and inpaint without a mask.
        factors: Levels of sr.
        sigmas: Levels of denoise.
        mask: Mask file of inpaint, in place of rates.
        widths: Levels of blur.
        lengths: Levels of motion.
        exposures: Levels of phase.

    Raises:
        UserError: An unknown task, one named twice, no level for one, or a mask that no task uses.

    Example:
        >>> [place.label for place in places(["cs", "inversion"], [0.05, 0.1], [4], [25])]
        ['cs 5 %', 'cs 10 %', 'inversion']
    """
    levels: dict[str, Sequence[float]] = {"rate": rates, "factor": factors, "sigma": sigmas}
    levels |= {"width": widths, "length": lengths, "exposures": exposures}
    found = []
    for task in tasks:
        if task not in OPERATORS:
            raise unknown("task", task, OPERATORS)
        parameters = OPERATORS[task].parameters
        if mask is not None and "mask" in parameters:
            found.append(Place(task, Path(mask).stem, {"mask": mask}))
        elif not parameters:
            found.append(Place(task, None, {}))
        else:
            name = parameters[0]
            if not levels[name]:
                raise UserError(f"task '{task}' has no level: give --{name.removesuffix('s')}s")
            found += [Place(task, value, {name: value}) for value in levels[name]]
    if mask is not None and not any("mask" in place.parameters for place in found):
        raise UserError(f"mask '{mask}' is not used by task {', '.join(tasks)}: add inpaint, or leave it away")
    if not found or len({(place.task, place.level) for place in found}) != len(found):
        raise UserError("tasks and levels are none or repeated: name at least one, and each once")
    return found


@dataclass(frozen=True)
class Pictures:
    """Held-out pictures.

    Attributes:
        keys: Stable id of each.
        images: uint8 [N, 3, R, R].
        data: Where they come from.
        split: Which part of it.
    """

    keys: list[str]
    images: Tensor
    data: str
    split: HeldOut


def heldout_pictures(data: str, resolution: int, split: HeldOut, count: int) -> Pictures:
    """Take pictures from a held-out set.

    Raises:
        UserError: The set cannot be opened, or has fewer pictures.
    """
    if split not in get_args(HeldOut):
        raise unknown("split", split, get_args(HeldOut))
    ds = open_dataset(data, resolution, split)
    if not 1 <= count <= len(ds):
        raise UserError(f"images is {count}: valid is 1 to {len(ds)}, the pictures of {data} ({split})")
    order = torch.randperm(len(ds), generator=generator(0, "study/pictures"))[:count].tolist()
    return Pictures([ds.key(index) for index in order], ds.load(order), data, split)


def heldout_source(infos: Sequence[Mapping[str, Any]], data: str | None, split: HeldOut | None) -> tuple[str, HeldOut]:
    """Decide where held-out pictures come from.

    Without ``data``: the test split of the synthetic faces, or the validation split of the files that the checkpoints
    were trained on. With it: all of its pictures, unless the checkpoints were trained on them.

    Args:
        infos: What the snapshots say of their training.
        data: The user's held-out set.
        split: The split that the user wants.

    Raises:
        UserError: Checkpoints of different data without ``data``, or pictures that were trained on.
    """
    trained_on = list(dict.fromkeys(str(info["data"]) for info in infos))
    if data is None and len(trained_on) > 1:
        raise UserError(f"checkpoints were trained on different data ({', '.join(trained_on)}): give --data")
    source = trained_on[0] if data is None else data
    if source == "synthetic":
        return source, split or "test"
    seen = any(other != "synthetic" and Path(other).resolve() == Path(source).resolve() for other in trained_on)
    if seen and split == "test":
        raise UserError(
            f"split 'test' of {source} holds the training pictures: use --split validation, or other --data"
        )
    return source, split or ("validation" if seen else "test")


def open_linear_prior_data(info: Mapping[str, Any], resolution: int) -> ImageDataset:
    """Open the pictures a snapshot was trained on, to which the linear prior is fitted, at the side it now shows.

    Raises:
        UserError: They are not there, as with a snapshot from another machine.
    """
    try:
        return open_dataset(str(info["data"]), resolution, "train")
    except UserError as error:
        message = f"the linear prior needs the training pictures ({error}): mend that, or add --no_linear"
        raise UserError(message) from error


def fit_linear_prior(info: Mapping[str, Any], resolution: int) -> LinearPrior:
    """Fit a Gaussian to the pictures a snapshot was trained on, to as many of them as fit into two gigabytes."""
    ds = open_linear_prior_data(info, resolution)
    most = PRIOR_MEMORY_BYTES // (3 * ds.resolution**2)
    if len(ds) <= most:
        return LinearPrior.fit(preload(ds))
    chosen = torch.randperm(len(ds), generator=generator(0, "study/linear-prior"))[:most]
    return LinearPrior.fit(ds.load(chosen.sort().values.tolist()))


@dataclass(frozen=True)
class Work:
    """One method with one checkpoint at one place.

    Attributes:
        place: Task and level.
        method: Label of the method's series, ``linear``, or the name of a baseline.
        selection: Which iterate is returned; ``-`` without a checkpoint.
        checkpoint: Its name; ``-`` for the linear prior and baselines.
        arguments: Everything else that decides the result.
        settings: Hash of the arguments.
        keys: The row of each picture.
        candidate: The method with its settings; None for the linear prior and baselines.
        mixes_differently: See :func:`rtil.evaluation.methods.mixes_differently`.
    """

    place: Place
    method: str
    selection: str
    checkpoint: str
    arguments: Mapping[str, Any]
    settings: str
    keys: list[RowKey]
    candidate: Candidate | None = None
    mixes_differently: bool = False

    @property
    def slug(self) -> str:
        """For file names."""
        parts = [self.place.slug, self.method, self.selection, self.checkpoint, self.settings[:6]]
        return "_".join(part for part in parts if part != NO_CHECKPOINT)


@dataclass(frozen=True)
class Study:
    """Everything that an evaluation depends on.

    Attributes:
        places: Tasks and levels.
        candidates: Methods with their settings.
        checkpoints: Snapshots by name, of one resolution and any architectures; the first one's training pictures make
            the linear prior.
        pictures: The held-out pictures.
        seed: Root seed of operators, noise and solvers.
        noise_sigma: Measurement noise.
        lpips: Backbone of LPIPS; None for no LPIPS.
        linear: Whether the linear prior is evaluated too, at the places whose operator is linear.
        baselines: Reconstructions without checkpoint that are evaluated too, at the places whose operator has them.
        resolution: Side of the pictures.
        networks: Of the perceptual terms.
        reconstructions: The baselines by name, without those that no place has.

    Raises:
        UserError: Checkpoints differ in resolution, a setting is not valid for one of them or for a place, or a
            baseline's packages are not installed.
    """

    places: Sequence[Place]
    candidates: Sequence[Candidate]
    checkpoints: Mapping[str, Snapshot]
    pictures: Pictures
    seed: int = 0
    noise_sigma: float = 0.0
    lpips: LpipsNet | None = "alex"
    linear: bool = True
    baselines: Sequence[str] = ()
    resolution: int = field(init=False)
    networks: Networks = field(init=False)
    reconstructions: Mapping[str, Reconstruct] = field(init=False)
    _pictures: list[bool] = field(init=False, repr=False)
    _baselines: list[list[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sides = {name: snapshot.generator.resolution for name, snapshot in self.checkpoints.items()}
        if len(set(sides.values())) != 1:
            text = ", ".join(f"{name} {side} px" for name, side in sides.items())
            raise UserError(f"checkpoints differ in resolution ({text}): compare those of one resolution")
        object.__setattr__(self, "resolution", next(iter(sides.values())))
        object.__setattr__(self, "networks", Networks(next(iter(self.checkpoints.values())).generator.device))
        check_baselines(self.baselines)
        for candidate in self.candidates:
            with candidate.named():
                self._check_with_checkpoints(candidate)
        pictures, baselines = [], []
        for place in self.places:
            operator = self.operator(place)
            pictures.append(is_picture(operator.measurement_shape))
            baselines.append([name for name in self.baselines if name in baselines_of(operator)])
            for candidate in self.candidates:
                with candidate.named():
                    self._check_size(candidate, operator)
        object.__setattr__(self, "_pictures", pictures)
        object.__setattr__(self, "_baselines", baselines)
        used = [name for name in self.baselines if any(name in here for here in baselines)]
        object.__setattr__(self, "reconstructions", {name: open_baseline(name) for name in used})

    def operator(self, place: Place) -> Operator:
        """Return the operator that every picture of a place is measured with, on the CPU."""
        return place.operator(self.resolution, self.seed, self.noise_sigma)

    def solver(self, item: Work) -> Solver:
        """Return the inverter of one item of the work list that has a checkpoint."""
        assert item.candidate is not None  # noqa: S101
        series, _, selection = item.candidate
        snapshot = self.checkpoints[item.checkpoint]
        term = self.networks.open(item.candidate) if self.has_perceptual_term(item) else None
        options = item.candidate.options_for(snapshot, self.checkpoints.values())
        return options.solver(series, snapshot, selection, self.seed, term)

    def work(self) -> list[Work]:
        """Return the list, place by place, the baselines and the linear prior last in each."""
        found = []
        for place in self.places:
            common = {"noise_sigma": self.noise_sigma, "lpips": self.lpips, **place.settings()}
            pictures = self._measures_pictures(place)
            for candidate in self.candidates:
                for name, snapshot in self.checkpoints.items():
                    options = candidate.options_for(snapshot, self.checkpoints.values())
                    own = options.arguments(candidate.series, snapshot, candidate.selection, pictures)
                    found.append(self._work(place, candidate, name, common | own))
            found += [self._reference(place, name, common | {"baseline": name}) for name in self.baselines_at(place)]
            if self.linear and place.linear:
                trained_on = next(iter(self.checkpoints.values())).info["data"]
                found.append(self._reference(place, LINEAR, common | {"data": trained_on}))
        return found

    def baselines_at(self, place: Place) -> list[str]:
        """Return those of the baselines that a place's operator has."""
        return self._baselines[self.places.index(place)]

    def has_perceptual_term(self, item: Work) -> bool:
        """Return whether an item of the work list has a perceptual term at its place."""
        candidate = item.candidate
        if candidate is None or not self._measures_pictures(item.place):
            return False
        return candidate.options.has_perceptual_term(candidate.series.method, self.operator(item.place))

    def identity(self) -> dict[str, Any]:
        """Return what must not change when an evaluation is resumed, as JSON values."""
        return {
            "pictures": {"data": self.pictures.data, "split": self.pictures.split, "resolution": self.resolution},
            "noise_sigma": self.noise_sigma,
            "weights": {name: snapshot.weight_hash for name, snapshot in self.checkpoints.items()},
        }

    def _check_with_checkpoints(self, candidate: Candidate) -> None:
        series, _, selection = candidate
        for snapshot in self.checkpoints.values():
            options = candidate.options_for(snapshot, self.checkpoints.values())
            options.solver(series, snapshot, selection, self.seed)

    def _check_size(self, candidate: Candidate, operator: Operator) -> None:
        if candidate.options.has_perceptual_term(candidate.series.method, operator):
            network = self.networks.open(candidate)
            assert network is not None  # noqa: S101  it has a term
            network.check_size(operator.measurement_shape)

    def _measures_pictures(self, place: Place) -> bool:
        return self._pictures[self.places.index(place)]

    def _work(self, place: Place, candidate: Candidate, checkpoint: str, arguments: dict[str, Any]) -> Work:
        digest = settings_hash(arguments)
        keys = self._keys(place, candidate.series.label, checkpoint, digest)
        info = self.checkpoints[checkpoint].info
        differs = mixes_differently(candidate.series.method, arguments, info)
        label, selection = candidate.series.label, candidate.selection
        return Work(place, label, selection, checkpoint, arguments, digest, keys, candidate, differs)

    def _reference(self, place: Place, name: str, arguments: dict[str, Any]) -> Work:
        digest = settings_hash(arguments)
        keys = self._keys(place, name, NO_CHECKPOINT, digest)
        return Work(place, name, NO_CHECKPOINT, NO_CHECKPOINT, arguments, digest, keys)

    def _keys(self, place: Place, method: str, checkpoint: str, digest: str) -> list[RowKey]:
        return [
            RowKey(image, method, place.task, place.level, checkpoint, self.seed, digest)
            for image in self.pictures.keys
        ]
