"""What becomes of an evaluation's folder when its study has changed: what still holds is kept, the rest set aside.

A row holds if the study still has its job (its key has the hash of all settings), its checkpoint has the weights it
had, and its picture the content. Rows that do not hold would be averaged with the new ones: the whole folder is set
aside then, under ``aside/``, and a new one has the rows that hold, with their pictures.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtil.cli.comparison import options_table
from rtil.cli.eval import EvalOptions
from rtil.errors import UserError
from rtil.evaluation.evaluation import FORMAT, Evaluation
from rtil.evaluation.folder import IDENTITY, PICTURES, read_evaluation
from rtil.evaluation.rows import NO_CHECKPOINT, ROWS, Row, read_rows, row_to_line
from rtil.evaluation.runner import PICTURES as PICTURE_FOLDER
from rtil.evaluation.shards import row_files
from rtil.files import write_text, writing
from rtil.runs import holds_run, write_settings


def before(folder: Path) -> dict[str, Any]:
    """Return the settings of the evaluation that a folder holds; an empty table where there is none."""
    fresh = _fresh(folder)
    with writing(folder):
        if fresh.exists() and not folder.exists() and holds_run(fresh):
            fresh.rename(folder)  # a kill came between two names
        shutil.rmtree(fresh, ignore_errors=True)
    return read_evaluation(folder) if holds_run(folder) else {}


def keep_what_holds(
    folder: Path, there: Mapping[str, Any], evaluation: Evaluation, options: EvalOptions, aside: Path
) -> int:
    """Make sure that a folder has no rows but those of an evaluation; return how many were set aside.

    Args:
        folder: Of the evaluation.
        there: Its settings, from :func:`before`.
        evaluation: As it is now.
        options: Its options.
        aside: Where folders are set aside.
    """
    if not there:
        return 0
    rows = [row for path in row_files(folder) for row in read_rows(path).rows]
    holding = _holding(rows, there, evaluation)
    if len(holding) == len(rows) and _agrees(folder, there, evaluation):
        return 0
    fresh = _fresh(folder)
    settings = evaluation.settings(options_table(options) | {"shard": None, "devices": 1}, {})
    with writing(fresh):
        fresh.mkdir(parents=True)
        _copy_pictures(folder, fresh, there, evaluation, holding)
        write_text(fresh / ROWS, "".join(map(row_to_line, holding)))
        write_settings(fresh, json.loads(json.dumps(settings)))  # last: the folder is whole now
        aside.mkdir(parents=True, exist_ok=True)
        number = sum(path.name.startswith(f"{folder.name}-") for path in aside.iterdir()) + 1
        folder.rename(aside / f"{folder.name}-{number}")
        fresh.rename(folder)
    return len(rows) - len(holding)


def _fresh(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")


def _holding(rows: Sequence[Row], there: Mapping[str, Any], evaluation: Evaluation) -> list[Row]:
    weights: Mapping[str, str] = there.get(IDENTITY, {}).get("weights", {})
    now = evaluation.identity()["weights"]
    same = {NO_CHECKPOINT, *(name for name, digest in weights.items() if now.get(name) == digest)}
    content = {key: digest for job in evaluation.jobs for key, digest in zip(job.keys, evaluation.content, strict=True)}
    found: dict[Any, Row] = {}
    for row in rows:
        if row.checkpoint in same and row.key in content and row.picture == content[row.key]:
            found.setdefault(row.key, row)
    return list(found.values())


def _agrees(folder: Path, there: Mapping[str, Any], evaluation: Evaluation) -> bool:
    """Return whether the engine would go on in the folder."""
    try:
        evaluation.check_identity(there, folder)
        evaluation.check_pictures(folder)
    except UserError:
        return False
    return there.get("format") == FORMAT


def _copy_pictures(
    folder: Path, fresh: Path, there: Mapping[str, Any], evaluation: Evaluation, rows: Sequence[Row]
) -> None:
    """Copy the results of rows that hold; a result's number is that of its picture."""
    numbers = {image: number for number, image in enumerate(there.get(PICTURES, ()))}
    keys = {row.key for row in rows}
    for job in evaluation.jobs:
        for number, key in enumerate(job.keys[: evaluation.experiment.kept]):
            source = folder / PICTURE_FOLDER / job.slug / f"{numbers.get(key.image, -1):02d}.png"
            if key in keys and source.is_file():
                to = fresh / PICTURE_FOLDER / job.slug / f"{number:02d}.png"
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, to)
