import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rtil.cli.eval import EvalOptions, main, short
from rtil.files import cache_folder
from rtil.weights.backbones import BACKBONES

REPOSITORY = Path(__file__).resolve().parents[3]
VGG = cache_folder() / BACKBONES["vgg"].file  # of the user, before a test has its own cache
PRESETS = list((REPOSITORY / "configs/eval").glob("*.yaml"))
SMALL = ["--steps", "2", "--images", "2", "--lpips", "none", "--linear", "false", "--device", "cpu"]


def _rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_the_newest_pair_is_compared_without_any_argument_but_size(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(SMALL) == 0
    out = capsys.readouterr().out
    folder = workplace / "runs/eval/00000-ilo-cs-synthetic-16"
    rows = _rows(folder)
    assert {(row["checkpoint"], row["task"], row["rate"]) for row in rows} == {
        ("vanilla", "cs", 0.1),
        ("rtil", "cs", 0.1),
    }
    assert all(len(row["psnr_round"]) == 3 for row in rows)  # type: ignore[arg-type]
    with (folder / "summary.csv").open() as file:
        assert [line["checkpoint"] for line in csv.DictReader(file)] == ["vanilla", "rtil"]
    assert "vs vanilla" in out
    assert f"summary: {folder.relative_to(workplace)}/summary.csv" in out
    assert "grid-cs-0.1-ilo.png" in out
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["options"]["images"] == 2
    assert settings["checkpoints"]["rtil"]["info"]["rtil"] is True


def test_tasks_methods_and_checkpoints_are_lists(workplace: Path) -> None:
    paths = [f"{name}=runs/train/0000{n}-stylegan2-{name}-synthetic-16" for n, name in enumerate(["vanilla", "rtil"])]
    asked = ["--method", "ilo,csgm", "--task", "cs,inpaint,sr,denoise,colorize", "--rates", "0.05,0.1"]
    assert main([*SMALL, *asked, "--out", "e", "--checkpoints", *paths]) == 0
    rows = _rows(workplace / "e")
    assert len(rows) == 2 * 2 * (2 + 2 + 1 + 1 + 1) * 2
    assert {len(r["psnr_round"]) for r in rows if r["method"] == "csgm"} == {1}  # type: ignore[arg-type]
    assert len(list((workplace / "e").glob("grid-*.png"))) == 14


def test_mganprior_runs_with_its_defaults(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--method", "mganprior"]) == 0
    rows = _rows(workplace / "runs/eval/00000-mganprior-cs-synthetic-16")
    assert {(row["method"], row["checkpoint"], row["trained_otherwise"]) for row in rows} == {
        ("mganprior-20", "vanilla", False),
        ("mganprior-20", "rtil", True),
    }
    assert "mganprior-20\u2020" in capsys.readouterr().out


def test_every_cell_of_the_cross_table_in_one_evaluation(
    workplace: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    mixture = {"branches": "mixture", "mixture_side": 4, "codes": [1, 10, 20]}
    paths = {
        "sg": make_run("00002-sg", rtil=False, weights=1),
        "sg-rtil": make_run("00003-sg", rtil=True, weights=2),
        "pg": make_run("00004-pg", rtil=False, weights=3, arch="pggan"),
        "pg-rtil": make_run("00005-pg", rtil=True, weights=4, arch="pggan", **mixture),
    }
    given = ["--checkpoints", *[f"{name}={path}" for name, path in paths.items()], "--out", "e"]
    assert main([*SMALL, "--method", "csgm,ilo,mganprior", "--codes", "2,3", *given]) == 0
    with (workplace / "e/summary.csv").open() as file:
        cells = {(line["method"], line["checkpoint"]): line for line in csv.DictReader(file)}
    assert len(cells) == 4 * 4
    marked = {key for key, line in cells.items() if line["trained_otherwise"] == "True"}
    assert marked == {("ilo", "pg-rtil"), ("mganprior-2", "sg-rtil"), ("mganprior-3", "sg-rtil")}
    references = {key: line["reference"] for key, line in cells.items() if line["reference"]}
    methods = ("csgm", "ilo", "mganprior-2", "mganprior-3")
    assert references == {(method, f"{arch}-rtil"): arch for method in methods for arch in ("sg", "pg")}
    assert "Compared: sg-rtil with sg, pg-rtil with pg." in capsys.readouterr().out
    solvers = json.loads((workplace / "e/settings.json").read_text())["solvers"]
    assert {row["settings"] for row in _rows(workplace / "e")} == set(solvers)  # type: ignore[comparison-overlap]
    assert main(["--out", "e", "--resume", "--codes", "4"]) == 0
    again = json.loads((workplace / "e/settings.json").read_text())["solvers"]
    assert set(solvers) < set(again)


def test_missing_weights_are_one_line(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(workplace))
    argv = ["--method", "mganprior", "--task", "inversion", "--perceptual", "lpips"]
    assert main([*SMALL, *argv]) == 2
    assert "get them by rtil weights lpips" in capsys.readouterr().err
    assert not (workplace / "runs/eval").exists()


def test_dry_run_says_what_mganprior_does(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ["--pair", "paper", "--perceptual", "vgg", "--task", "cs", "--dry_run"]
    assert main([*SMALL, "--method", "mganprior", *pair]) == 0
    out = capsys.readouterr().out
    line = "# cs 10 %: mganprior-20 {} measurement{} (6 steps, without vgg, pair paper)\n"
    assert line.format("vanilla", "") + line.format("rtil", " \u2020") in out
    assert "# \u2020: trained with RTIL, but" in out


def test_the_perceptual_term_changes_pictures_and_not_compressed_sensing(workplace: Path) -> None:
    if not VGG.is_file():
        pytest.skip("needs the weights of VGG16: rtil weights lpips")
    (workplace / "cache").mkdir()
    (workplace / "cache" / VGG.name).symlink_to(VGG)
    argv = [*SMALL, "--method", "mganprior", "--codes", "2", "--task", "cs,inversion"]
    assert main([*argv, "--out", "without"]) == 0
    assert main([*argv, "--perceptual", "vgg", "--perceptual_weight", "100", "--out", "with"]) == 0
    without, given = (
        {(row["task"], row["checkpoint"], row["image"]): row["psnr"] for row in _rows(workplace / name)}
        for name in ("without", "with")
    )
    assert {key[0] for key in given if given[key] != without[key]} == {"inversion"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--method", "iloo"], ["unknown method 'iloo'", "'ilo'"]),
        (
            ["--method", "mganpriro"],
            ["unknown method 'mganpriro'", "ilo, csgm, pulse, langevin, multicut, sparse, mganprior", "'mganprior'"],
        ),
        (["--method", "mganprior", "--codes", "0"], ["codes is 0", "1 or more"]),
        (["--method", "mganprior", "--codes", "20,20"], ["codes is 20,20", "each once"]),
        (["--method", "mganprior", "--compose_side", "32"], ["compose_side is 32", "4, 8, 16"]),
        (["--method", "mganprior", "--compose_side", "6"], ["compose_side is 6", "4, 8, 16"]),
        (["--method", "mganprior", "--optimizer", "sdg"], ["--optimizer", "'sgd'"]),
        (["--method", "mganprior", "--alpha_init", "one"], ["--alpha_init", "uniform, dirichlet, channels"]),
        (["--method", "mganprior", "--perceptual", "vgg16"], ["--perceptual", "'vgg'"]),
        (["--method", "mganprior", "--mganprior_lr", "0"], ["lr is 0", "above 0"]),
        (["--method", "mganprior", "--pair", "paper", "--mganprior_lr", "1"], ["'paper' sets lr itself"]),
        (["--task", "colorize", "--noise_sigma=-1"], ["noise sigma is -1"]),
        (["--task", "cs,inpant"], ["unknown task 'inpant'", "'inpaint'"]),
        (["--selection", "mesurement"], ["'measurement'"]),
        (["--lpips", "alexnet"], ["--lpips", "'alex'"]),
        (["--noise", "5+k"], ["--noise", "5+2k"]),
        (["--rates", "0"], ["rate", "0 < rate <= 1"]),
        (["--rates", "ten"], ["--rates", "'ten'"]),
        (["--task", "sr", "--factors", "5"], ["factor is 5", "2, 4, 8, 16"]),
        (["--task", "denoise", "--sigmas=-3"], ["-3", ">= 0"]),
        (["--task", "inpaint", "--mask", "no.png"], ["no.png"]),
        (["--images", "2000"], ["valid is 1 to 1000"]),
        (["--images", "0"], ["valid is 1 to 1000"]),
        (["--data", "no/folder"], ["no/folder"]),
        (["--checkpoints", "a=no/run"], ["no/run", "does not exist"]),
        (["--checkpoints", "a/b=runs/train"], ["'a/b'"]),
        (["--checkpoints", "a=runs"], ["no snapshot in runs"]),
        (["--steps", "1,2,3,4,5"], ["5 rounds", "1 to 3"]),
        (["--batch", "0"], ["batch is 0"]),
        (["--device", "gpu"], ["'gpu'", "cuda"]),
        (["--resume"], ["--resume needs --out"]),
        (["--resume", "--out", "new"], ["holds no run to resume"]),
        (["--resume", "--out", "runs/train/00000-stylegan2-vanilla-synthetic-16"], ["settings.json"]),
    ],
)
def test_a_mistake_is_one_line_code_2_and_leaves_no_folder(
    argv: list[str], words: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not (workplace / "runs/eval").exists()
    assert not (workplace / "new").exists()


def test_checkpoints_of_different_resolutions(
    workplace: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = make_run("00008-a", rtil=False), make_run("00009-b", rtil=True, resolution=32)
    assert main([*SMALL, "--checkpoints", f"a={small}", f"b={large}"]) == 2
    assert "a 16 px, b 32 px" in capsys.readouterr().err


def test_dry_run_lists_the_work_and_writes_nothing(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "# cs 10 %: ilo rtil measurement (2,2,2 steps)\n" in out
    assert "# into runs/eval/NNNNN-ilo-cs-synthetic-16\n" in out
    assert not (workplace / "runs/eval").exists()


VARIANTS = "{a: {steps: 3}, held: {selection: heldout, steps_preset: null}, csgm: {sphere: false}}"


def test_variants_stand_beside_each_other_and_more_are_added(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = ["--task", "denoise", "--sigmas", "10,25", "--out", "e"]
    assert main([*SMALL, *tasks, "--variants", VARIANTS]) == 0
    out = capsys.readouterr().out
    assert "-- denoise, mean PSNR in dB --" in out
    assert "e/curves-denoise.png" in out
    assert "held " in out
    assert "vanilla/heldout" not in out
    rows = _rows(workplace / "e")
    assert {(row["method"], row["selection"]) for row in rows} == {
        ("a", "sure"),
        ("held", "heldout"),
        ("csgm", "measurement"),
    }
    assert sorted(path.name for path in (workplace / "e").glob("grid-*")) == [
        f"grid-denoise-{sigma}-{name}.png" for sigma in (10, 25) for name in ("rtil", "vanilla")
    ]
    assert "| denoise, mean PSNR in dB | checkpoint | sigma 10 | sigma 25 |" in (workplace / "e/summary.md").read_text()
    (workplace / "more.yaml").write_text("variants: {a: {steps: [3]}, noisy: {method: csgm, sna_sigma: known}}")
    assert main(["--config", "more.yaml", "--out", "e", "--resume"]) == 0
    again = _rows(workplace / "e")
    assert again[: len(rows)] == rows
    assert {row["method"] for row in again[len(rows) :]} == {"noisy"}, "a was finished"
    solvers = json.loads((workplace / "e/settings.json").read_text())["solvers"]
    assert {row["settings"] for row in again} == set(solvers)  # type: ignore[comparison-overlap]
    assert main([*SMALL, "--method", "ilo", "--out", "e", "--resume"]) == 0
    assert {row["method"] for row in _rows(workplace / "e")} == {"a", "held", "csgm", "noisy", "ilo"}


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ("{a: {step: 3}}", ["unknown key 'step' in variant 'a'", "did you mean 'steps'"]),
        ("{a: {steps: many}}", ["variant 'a': steps is 'many'", "each a whole number"]),
        ("{a: {steps: [1, 2, 3, 4]}}", ["variant 'a': ", "4 rounds", "1 to 3"]),
        ("{a: {method: iloo}}", ["variant 'a': unknown method 'iloo'", "'ilo'"]),
        ("{a: {selection: heldut}}", ["variant 'a': selection is 'heldut'", "'heldout'"]),
        ("{a: {sna_sigma: knwon}}", ["variant 'a': sna_sigma", "known"]),
        ("{a: {z1_weight: -1}}", ["variant 'a': z1_weight is -1"]),
        ("{tv: {}}", ["variant name 'tv'"]),
        ("{a: 3}", ["--variants", "table"]),
        ("{}", ["there is none"]),
        ("{a: {}} --method csgm", ["variants take the place of method"]),
    ],
)
def test_a_mistake_in_a_variant_names_it(
    variants: str, words: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, _, rest = variants.partition(" --")
    assert main([*SMALL, "--variants", table, *(f"--{rest}".split() if rest else [])]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not (workplace / "runs/eval").exists()


def test_dry_run_tells_variants_and_baselines_apart(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variants = (
        "{z1: {z1_weight: 1, radii: a61-2}, quick: {method: csgm, restarts: 2}, "
        "sparse: {inner: csgm, sparse_radius: 5}}"
    )
    argv = [*SMALL, "--task", "sr,cs", "--variants", variants, "--baselines", "adjoint,bicubic", "--dry_run"]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    place = "# sr x4: "
    assert [line.removeprefix(place) for line in lines if line.startswith(place) and " rtil " not in line] == [
        "z1 vanilla measurement (2,2,2 steps, radii a61-2, z1_weight 1)",
        "quick vanilla measurement (6 steps, restarts 2)",
        "sparse vanilla measurement (6 steps, inner csgm, radius 5)",
        "adjoint",
        "bicubic",
    ]
    assert "# bicubic: not for cs 10 %" in lines
    assert not any(line.startswith("# adjoint:") for line in lines)
    assert main([*SMALL, "--baselines", "adjoin"]) == 2
    assert "did you mean 'adjoint'" in capsys.readouterr().err


def test_dry_run_says_where_there_is_no_linear_prior(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = ["--task", "mri,phase,blur", "--exposures", "2,4", "--widths", "1.5"]
    argv = [*SMALL, "--linear", "true", *tasks, "--dry_run"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.endswith(": linear") or "nonlinear" in line] == [
        "# phase: nonlinear, so without the linear prior, which is for linear operators only.",
        "# mri 10 %: linear",
        "# blur 1.5 px: linear",
    ]
    assert "# phase 2 masks: ilo vanilla measurement" in out
    assert main([*SMALL, "--task", "phase", "--exposures", "0"]) == 2
    assert "exposures is 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS))
def test_presets_are_valid_and_commented(name: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = REPOSITORY / "configs/eval" / f"{name}.yaml"
    assert main(["--config", str(path), "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    lines = path.read_text().splitlines()
    for key, value in yaml.safe_load(path.read_text()).items():
        for target in short().get(key, [key]):
            group, _, setting = target.partition(".")
            assert (printed[group][setting] if setting else printed[group]) == value
        (line,) = (n for n, text in enumerate(lines) if text.startswith(f"{key}:"))
        assert lines[line - 1].startswith("# ")


@pytest.mark.parametrize(("name", "steps"), [("mganprior", 2500), ("mganprior_quick", 100)])
def test_quick_mganprior_is_quick_and_the_papers_is_the_papers(name: str, steps: int) -> None:
    preset = yaml.safe_load((REPOSITORY / f"configs/eval/{name}.yaml").read_text())
    options = EvalOptions(**{key: value for key, value in preset.items() if hasattr(EvalOptions(), key)})
    (candidate,) = options.candidates()
    assert candidate.label == "mganprior-20"
    assert candidate.settings_for(4, {}, []).to_json()["steps"] == steps


def test_a_nested_name_is_that_of_one_method(workplace: Path) -> None:
    assert main([*SMALL, "--method", "ilo,csgm", "--ilo.lr", "0.3", "--csgm.steps", "1", "--out", "e"]) == 0
    solvers = json.loads((workplace / "e/settings.json").read_text())["solvers"].values()
    assert {(s["method"], str(s["lr"]), str(s["steps"])) for s in solvers} == {
        ("ilo", "[0.3, 0.3, 0.3]", "[2, 2, 2]"),
        ("csgm", "0.1", "1"),
    }
    assert main(["--out", "e", "--resume", "--device", "cpu"]) == 0
    assert len(_rows(workplace / "e")) == 2 * 2 * 2, "nested settings are those of the run"


def test_defaults_are_valid() -> None:
    assert EvalOptions().candidates()[0].label == "ilo"
