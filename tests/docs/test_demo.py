import re

import pytest

from docs import demo

SMALL = [
    "--resolution",
    "16",
    "--channels",
    "{4:8,8:8,16:8}",
    "--z_dim",
    "16",
    "--w_dim",
    "16",
    "--kimg",
    "0.032",
    "--device",
    "cpu",
]


@pytest.fixture
def root(tmp_path, monkeypatch, request):
    for name in ("train.py", "eval.py", "configs"):
        (tmp_path / name).symlink_to(request.config.rootpath / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_demo_trains_both_compares_and_goes_on_where_it_stopped(root, monkeypatch, capsys):
    monkeypatch.setattr(demo, "LINE_SECONDS", 0.0)
    compared = (
        "--images 2 --steps 2 --rounds 2 --lpips none --no_linear --device cpu --checkpoints vanilla=runs/demo/vanilla "
    )
    evaluation = [*compared.split(), "rtil=runs/demo/rtil"]  # the shipped pair has another resolution
    demo.main(SMALL, evaluation)
    said = capsys.readouterr()
    assert "vs vanilla" in said.out
    assert said.out.rstrip().endswith("report: runs/demo/report.html")
    assert "<!doctype html>" in (root / "runs/demo/report.html").read_text(encoding="utf-8")
    assert re.search(r"min: vanilla and RTIL are training", said.err)
    rows = (root / "runs/demo/eval/rows.jsonl").read_bytes()
    assert len(list((root / "runs/demo").glob("*/snapshot-*.safetensors"))) == 2
    demo.main(SMALL, evaluation)
    assert "has already seen" in (root / "runs/demo/rtil.log").read_text()
    assert (root / "runs/demo/eval/rows.jsonl").read_bytes() == rows


def test_the_last_words_of_a_part_that_fails_are_told(root, capsys):
    with pytest.raises(SystemExit) as ended:
        demo.main(["--channels", "none"], [])
    assert ended.value.code == 2
    assert "channels" in capsys.readouterr().err


def test_the_time_left_is_read_from_what_the_commands_print():
    assert demo.TRAINING_LEFT.findall("kimg 1.0  9 images/s  left   8.2 min  memory")[-1] == "8.2"
    assert demo.EVALUATION_LEFT.findall("96/288 done, about 237 s left")[-1] == "237"
