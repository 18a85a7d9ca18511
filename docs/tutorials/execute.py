"""Runs a notebook from its first cell to its last and keeps sources and outputs, nothing of the run itself."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TAG = "parameters"
LONGEST_SECONDS = 900


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
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook
