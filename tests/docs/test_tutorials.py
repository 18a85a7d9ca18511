"""The notebooks run from their first cell to their last, made small, and are kept as a whole run left them."""

import nbformat
import pytest

pytest.importorskip("nbclient", reason="needs the extra 'docs': make setup")

from docs.tutorials.execute import NOTEBOOKS, executed

SMALL = {
    "train_a_pair.ipynb": ["KIMG, FACES, STEPS = 0.032, 2, (2, 2, 2, 2)"],
    "bring_your_own.ipynb": ["STEPS, ATTEMPTS = (2, 2, 2), 2"],
}
MOST_BYTES = 400_000


def kinds(notebook):
    """Return what every cell shows, its kind alone."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[sorted(output.get("data", {output.output_type: 0})) for output in cell.outputs] for cell in cells]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_and_shows_what_is_kept(path):
    assert kinds(executed(path, SMALL[path.name])) == kinds(nbformat.read(path, as_version=4))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_kept_notebook_is_small_and_was_run_in_order(path):
    assert path.stat().st_size < MOST_BYTES
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
