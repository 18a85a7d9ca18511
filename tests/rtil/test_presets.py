from pathlib import Path

import pytest

from rtil import presets
from rtil.errors import UserError
from rtil.presets import config_path, names

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("kind", ["train", "eval", "study"])
def test_every_file_of_configs_is_a_preset(kind):
    assert names(kind) == sorted(path.stem for path in (CONFIGS / kind).iterdir())
    for name in names(kind):
        assert config_path(name, kind).samefile(CONFIGS / kind / f"{name}.yaml")


def test_a_path_stays_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("mine.yaml", "absent.yml", "folder/mine", "configs/train/demo.yaml"):
        assert config_path(path, "train") == Path(path)
    Path("mine").touch()
    assert config_path("mine", "train") == Path("mine")
    Path("demo").touch()
    assert config_path("demo", "train").samefile(CONFIGS / "train" / "demo.yaml")
    assert config_path("demo", None) == Path("demo")


def test_an_unknown_name_gets_the_nearest_and_the_folder():
    with pytest.raises(
        UserError, match=r"no preset 'stylegan2_rtl_64' of rtil train in .*train; did you mean 'sty"
    ) as e:
        config_path("stylegan2_rtl_64", "train")
    assert str(presets.FOLDER / "train") in str(e.value)
    with pytest.raises(UserError, match=r"of rtil eval in .*eval \(or give the path of a YAML file\)"):
        config_path("zzz", "eval")
