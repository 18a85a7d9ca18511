import shlex
import shutil

import pytest

from benchmarks.report import make_evaluation
from rtil.cli.again import command_of
from rtil.cli.comparison import options_table
from rtil.cli.eval import EvalOptions
from rtil.cli.eval import main as evaluate
from rtil.cli.report import main
from rtil.evaluation.candidates import overlaid, standard_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_evaluation(tmp_path_factory.mktemp("cli") / "mine", pictures=3, cells=1, methods=2, side=16)


def test_a_page_lies_in_the_folder_of_its_evaluation(folder, capsys):
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out.startswith(f"report: {folder / 'report.html'} (")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<h1>mine</h1>" in page
    assert "cs, inpaint, box, hole, 3 pictures" in page
    assert f"rtil report {folder}" in page


def test_several_evaluations_make_one_page(folder, tmp_path, capsys):
    other = shutil.copytree(folder, tmp_path / "other")
    out = tmp_path / "both.html"
    assert main([str(folder), str(other), "--out", str(out), "--title", "Both <of> them"]) == 0
    page = out.read_text(encoding="utf-8")
    assert "<h1>Both &lt;of&gt; them</h1>" in page
    assert page.count('<section class="part"') == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["FOLDER", "FOLDER"], "names one twice"),
        (["FOLDER", "OTHER"], "several folders need --out"),
        (["FOLDER", "--out", "page.pdf"], "valid is the name of an .html file"),
        (["nowhere"], "holds no settings.json"),
    ],
)
def test_a_mistake_is_one_line(words, message, folder, tmp_path, capsys):
    names = {"FOLDER": str(folder), "OTHER": str(tmp_path)}
    assert main([names.get(word, word) for word in words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_dry_run_writes_nothing(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main([str(folder), "--out", str(out), "--dry_run"]) == 0
    assert f"# into {out}" in capsys.readouterr().out
    assert not out.exists()


def test_the_command_that_makes_it_again_has_the_same_options(tmp_path, capsys):
    settings = overlaid(standard_settings(), {"ilo.lr": 0.05, "ilo.steps": (10, 5), "mganprior.codes": 3})
    options = EvalOptions(
        task=["cs", "sr:4"],
        rates=[0.05, 0.2],
        noise_sigma=0.01,
        checkpoints={"a": "runs/a b.safetensors", "b": "/x/rtil/pretrained/rtil.safetensors"},
        variants={"long": {"method": "ilo", "steps": [20, 20]}},
        linear=False,
        keep_pictures=None,
        settings=settings,
    )
    words = shlex.split(command_of({"options": options_table(options)}, tmp_path / "mine"))
    assert words[:4] == ["rtil", "eval", "--out", f"{tmp_path / 'mine'}-again"]
    assert "b=shipped:rtil" in words
    assert evaluate([*words[4:], "--print_config"]) == 0
    printed = capsys.readouterr().out
    for line in ("rates: [0.05, 0.2]", "noise_sigma: 0.01", "  lr: 0.05", "  steps: [10, 5]", "linear: false"):
        assert f"\n{line}\n" in printed
    assert "\nkeep_pictures: null\n" in printed
    assert "a: runs/a b.safetensors" in printed
