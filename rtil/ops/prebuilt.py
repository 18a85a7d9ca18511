"""The library that ``RTIL_BUILD_OPS=1 pip install .`` leaves beside the package, and whether it fits this machine.

A wheel or an image may be used on another processor than the one it was built on, where ``-march=native`` code would
end the process: hence the manifest.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from rtil.errors import UserError
from rtil.files import atomic_path, write_text
from rtil.ops.build_recipe import LIBRARY, Recipe, digest, source_digest
from rtil.ops.toolchain import cpu_features
from rtil.schema import json_table, typed_table

PREBUILT = Path(__file__).parent / "prebuilt"
MANIFEST = "manifest.json"
KINDS = {"torch": str, "cuda": bool, "archs": list[str], "cpu": list[str], "library": str, "sources": str}


def put(library: Path, recipe: Recipe, folder: Path) -> Path:
    """Copy a library that was made by a recipe into a folder, with its manifest; returns the copy."""
    manifest = {
        "torch": torch.__version__,
        "cuda": recipe.cuda is not None,
        "archs": recipe.archs,
        "cpu": cpu_features(),
        "library": digest(library),
        "sources": source_digest(recipe.sources, recipe.cuda is not None),
    }
    (folder / MANIFEST).unlink(missing_ok=True)  # between the two files there is none, so that they always agree
    with atomic_path(folder / LIBRARY) as temporary:
        shutil.copyfile(library, temporary)
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1))
    return folder / LIBRARY


def problem(sources: Path, archs: Sequence[str], folder: Path) -> str | None:
    """Return why the library in a folder cannot be used here, or None when it can.

    Args:
        sources: What it should have been built from.
        archs: The GPU architectures that are needed.
        folder: Where it is looked for.
    """
    try:
        manifest = json_table((folder / MANIFEST).read_bytes(), "its manifest")
        if lacking := KINDS.keys() - typed_table(manifest, KINDS, "its manifest").keys():
            return f"its manifest has no {', '.join(sorted(lacking))}"
        if manifest["library"] != digest(folder / LIBRARY):
            return "it is damaged"
    except FileNotFoundError:
        return "none was built"
    except (UserError, OSError) as error:
        return str(error)
    if manifest["torch"] != torch.__version__:
        return f"built for torch {manifest['torch']}, this is {torch.__version__}"
    if manifest["sources"] != source_digest(sources, manifest["cuda"]):
        return "built from other sources"
    if missing := sorted(set(manifest["cpu"]) - set(cpu_features())):
        return f"built for a processor with {', '.join(missing)}"
    if missing := sorted(set(archs) - set(manifest["archs"])):
        return f"built without {', '.join(missing)}"
    return None
