import base64
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from rtil.report.gallery import condition_of, gallery_of
from rtil.report.parts import read_part
from tests.rtil.report.conftest import SIDE


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="module")
def gallery(folder):
    return gallery_of(read_part(folder), "p1")


def picture(gallery, sheet, index):
    layout = gallery.data["layout"]
    text = gallery.sheets[f"{sheet}-{index // layout['per_sheet']}"]
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
    row, column = divmod(index % layout["per_sheet"], layout["across"])
    return found[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]


def of_file(path):
    return np.asarray(Image.open(path))


def test_every_picture_is_the_one_of_its_name_cell_and_method(folder, gallery):
    assert gallery.data["pictures"] == [f"face-{number}" for number in range(9)]
    assert len(gallery.data["cells"]) == 5
    for index in (0, 8):
        truth = of_file(folder / "pictures" / "truth" / f"{index:02d}.png")
        assert (picture(gallery, gallery.data["truth"], index) == truth).all()
        for cell in gallery.data["cells"]:
            slug = f"{cell['task']}-{cell['level']}"
            for column in cell["columns"]:
                name = column["method"] if column["prior"] == "-" else f"{column['method']}_*_{column['prior']}"
                (path,) = (folder / "pictures").glob(f"{slug}_{name}_*/{index:02d}.png")
                found = picture(gallery, column["sheet"], index)
                assert (found == of_file(path)).all()
                psnr = -10 * np.log10(np.square((found.astype(float) - truth) / 255).mean())
                assert column["values"][index] == pytest.approx(psnr, abs=1e-3)


def test_the_measurement_is_the_truth_where_it_was_observed(gallery):
    cell = next(cell for cell in gallery.data["cells"] if cell["task"] == "inpaint")
    shares = []
    for index in range(9):
        found = picture(gallery, cell["measured"], index).astype(int)
        truth = picture(gallery, gallery.data["truth"], index).astype(int)
        is_seen = (found == truth).all(-1)
        assert (found[~is_seen] == 128).all()
        shares.append(is_seen.mean())
    assert np.mean(shares) == pytest.approx(float(cell["level"]), abs=0.05)


def test_another_picture_under_the_name_of_the_truth_is_not_shown(copy):
    shutil.copy(copy / "pictures" / "truth" / "01.png", copy / "pictures" / "truth" / "00.png")
    found = gallery_of(read_part(copy), "p1")
    assert (picture(found, found.data["truth"], 0) == 128).all()
    assert not (picture(found, found.data["truth"], 1) == 128).all()


def test_damaged_and_missing_pictures_leave_the_others(copy):
    method = next((copy / "pictures").glob("cs-0.1_ilo_*rtil*"))
    (method / "00.png").write_bytes(b"no picture")
    (method / "01.png").unlink()
    found = gallery_of(read_part(copy), "p1")
    column = next(c for c in found.data["cells"][0]["columns"] if c["name"] == "ilo, rtil")
    assert (picture(found, column["sheet"], 0) == 128).all()
    assert (picture(found, column["sheet"], 2) == of_file(method / "02.png")).all()


def test_the_spread_is_shown_where_it_was_kept(copy):
    method = next((copy / "pictures").glob("cs-0.1_ilo_*rtil*"))
    shutil.copytree(method, method.with_name(f"{method.name}-spread"))
    found = gallery_of(read_part(copy), "p1")
    spreads = {c["name"]: c["spread"] for c in found.data["cells"][0]["columns"]}
    assert [name for name, sheet in spreads.items() if sheet] == ["ilo, rtil"]
    assert (picture(found, spreads["ilo, rtil"], 3) == of_file(method / "03.png")).all()


def test_without_pictures_there_is_no_gallery(copy):
    shutil.rmtree(copy / "pictures")
    assert gallery_of(read_part(copy), "p1") is None


def test_a_mask_that_is_gone_is_told(copy, tmp_path):
    settings = {"options": {"mask": str(tmp_path / "eyes.png")}}
    condition = condition_of("inpaint", "eyes", settings)
    assert condition.parameters == {"mask": str(tmp_path / "eyes.png")}
    assert condition_of("inpaint", "mouth", settings) is None
    assert condition_of("no-task", 0.1, settings) is None
    assert condition_of("inversion", None, settings).parameters == {}
