"""Runs a notebook from its first cell to its last and keeps sources and outputs, nothing of the run itself."""

import base64
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TAG = "parameters"
LONGEST_SECONDS = 900
COLOURS = 128


def executed(path: Path, parameters: Sequence[str] = ()) -> NotebookNode:
    """Return a notebook as it is after a run in an empty folder.

    Args:
        path: The notebook.
        parameters: Lines of code that follow those of the cell tagged ``parameters``.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if TAG in cell.metadata.get("tags", ()):
            cell.source = "\n".join([cell.source, *parameters])
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=LONGEST_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            coalesce_streams=True,
            record_timing=False,
        )
        client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = fewer_colours(output.data["image/png"])
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def fewer_colours(png: str) -> str:
    """Return a picture, PNG in base64, with a palette: a third of the bytes to keep and to review."""
    small = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(COLOURS).save(small, format="PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()
