import csv
import math

import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from docs.convergence import measure as convergence
from docs.convergence.curve_file import CurveFile, Key, Looks
from docs.convergence.measure import Watch, main, mean_squared_error, with_median_seconds
from docs.convergence.report import Curve, Point, print_summary, summary
from ilo import ILO
from rtil.errors import UserError
from rtil.evaluation import metrics
from rtil.evaluation.conditions import Condition
from rtil.evaluation.held_out import heldout_pictures
from rtil.generators import StyleGAN2Generator
from rtil.snapshot import load_snapshot, save_snapshot


@pytest.fixture(autouse=True)
def _nothing_of_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def lpips(monkeypatch):
    """Mean distance of pixels, in LPIPS' place."""

    class Small(torch.nn.Module):
        def forward(self, x, truth):
            return (x - truth).abs().mean((1, 2, 3), keepdim=True)

    monkeypatch.setattr(metrics, "load_lpips", lambda net: Small())


def save(folder, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        G = StyleGAN2Generator(8, {4: 6, 8: 4}, z_dim=8, w_dim=8, mapping_layers=1)
    info = {"arch": "stylegan2", "data": "synthetic", "resolution": 8, "kimg": 1.0, "seed": seed, "rtil": False}
    save_snapshot(folder / "snapshot-000001.safetensors", G, info)
    return folder


@pytest.fixture
def snapshot(tmp_path):
    return save(tmp_path / "run", 0)


@pytest.fixture
def run(snapshot, tmp_path, make_pictures):
    """Return a function that runs the command on three pictures with further words, and gives its exit code."""
    make_pictures(tmp_path / "pictures", 4, 8)
    common = ["--data", str(tmp_path / "pictures"), "--images", "3", "--device", "cpu", "--every", "3"]
    common += ["--ilo_steps", "4,3", "--csgm_steps", "5,8", "--checkpoints", f"vanilla={snapshot}"]
    return lambda *words: main([*common, *words])


@pytest.fixture
def made(monkeypatch):
    """The steps of all runs that are made, warming up included."""
    found = []
    follow = convergence.follow

    def noted(solver, *args):
        found.append(solver.settings.steps)
        return follow(solver, *args)

    monkeypatch.setattr(convergence, "follow", noted)
    return found


def rows_of(out):
    with (out / "convergence.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def printed_rows(monkeypatch):
    """The rows of the last table, by run."""
    found = {}

    def noted(rows):
        found.clear()
        found.update({row["run"]: row for row in rows})
        print_summary(rows)

    monkeypatch.setattr(convergence, "print_summary", noted)
    return found


def pictures_of(tmp_path):
    pictures = heldout_pictures(str(tmp_path / "pictures"), 8, "test", 3)
    return pictures.images.float() / 255, pictures.keys


def test_curves_and_chart(run, snapshot, tmp_path, printed_rows, capsys, caplog):
    out = tmp_path / "out"
    assert run("--out", str(out), "--repeats", "3") == 0
    printed = capsys.readouterr().out
    assert "vanilla, ilo 2 x 4" in printed
    assert "lpips" not in printed
    assert [record.message for record in caplog.records if "LPIPS is n/a" in record.message]

    of = {}
    for row in rows_of(out):
        assert "lpips" not in row
        of.setdefault((row["run"], row["repeat"], row["returned"]), []).append(row)
    assert len(of) == 4 * 3 * 2
    assert [int(r["step"]) for r in of["csgm 8", "0", "0"]] == [0, 3, 6, 8]
    assert [(int(r["round"]), int(r["step"])) for r in of["ilo 2 x 4", "2", "0"]] == [
        (0, 0), (0, 3), (0, 4), (1, 4), (1, 7), (1, 8)
    ]  # fmt: skip
    assert [int(r["step"]) for r in of["ilo 2 x 4", "1", "1"]] == [4, 8]
    for points in of.values():
        seconds = [float(r["seconds"]) for r in points]
        assert seconds == sorted(seconds)
        assert seconds[0] > 0

    with Image.open(out / "convergence.png") as chart:
        assert chart.format == "PNG"
        assert min(chart.size) > 400

    runs = printed_rows
    assert list(runs) == ["csgm 5", "csgm 8", "ilo 1 x 4", "ilo 2 x 4", "ilo 1 x 3", "ilo 2 x 3"]
    ends = sorted(float(of["csgm 8", repeat, "1"][-1]["seconds"]) for repeat in "012")
    assert runs["csgm 8"]["seconds"] == pytest.approx(ends[1], rel=1e-3)

    # against the solver without this command around it
    G = load_snapshot(snapshot, torch.device("cpu")).generator
    truth, keys = pictures_of(tmp_path)
    operator = Condition("cs", 0.1, {"rate": 0.1}).operator(8, 0)
    found = ILO(G, steps=(4, 4)).invert(operator(truth, keys), operator, keys)
    for count, x in enumerate(found.rounds, start=1):
        mse = mean_squared_error(x, truth)
        assert runs[f"ilo {count} x 4"]["mse"] == pytest.approx(mse, rel=1e-3)
        assert runs[f"ilo {count} x 4"]["psnr_of_mse"] == pytest.approx(-10 * math.log10(mse), abs=0.01)


def test_inversion_with_lpips(run, snapshot, tmp_path, printed_rows, capsys, lpips):
    out = tmp_path / "out"
    assert run("--out", str(out), "--task", "inversion") == 0
    head = next(line for line in capsys.readouterr().out.splitlines() if "times sooner" in line)
    assert [cell.strip() for cell in head.split("|")][1:4] == ["mse", "lpips", "seconds"]

    G = load_snapshot(snapshot, torch.device("cpu")).generator
    truth, keys = pictures_of(tmp_path)
    operator = Condition("inversion", None, {}).operator(8, 0)
    iterates = {}
    found = ILO(G, steps=(4, 4)).invert(
        truth, operator, keys, callback=lambda k, step, x: iterates.update({(k, 4 * k + step): x.clone()})
    )

    def distance(x):
        x, y = (interpolate(2 * picture - 1, (64, 64), mode="bilinear") for picture in (x.clamp(0, 1), truth))
        return float((x - y).abs().mean())

    runs = printed_rows
    for count, x in enumerate(found.rounds, start=1):
        assert runs[f"ilo {count} x 4"]["mse"] == pytest.approx(float((x - truth).square().mean()), rel=1e-3)
        assert runs[f"ilo {count} x 4"]["lpips"] == pytest.approx(distance(x), rel=1e-3)
    looks = [row for row in rows_of(out) if row["run"] == "ilo 2 x 4" and row["returned"] == "0"]
    assert len(looks) == 6
    for row in looks:
        x = iterates[int(row["round"]), int(row["step"])]
        assert float(row["lpips"]) == pytest.approx(distance(x), rel=1e-4)


def test_chart_has_a_panel_for_each_error(tmp_path):
    sides = []
    for lpips in (None, 0.5):
        points = [Point(0, step, 1.0 + step, 0.1, lpips) for step in range(3)]
        curves = [Curve("a", "csgm", (2,), points, points[-1:])]
        convergence.draw(curves, tmp_path / "chart.png", "title")
        with Image.open(tmp_path / "chart.png") as chart:
            sides.append(chart.size)
    (width, height), both = sides
    assert both == (width, 2 * height)


def test_only_what_is_missing_is_made(run, tmp_path, printed_rows, made):
    out = str(tmp_path / "out")
    assert run("--out", out, "--ilo_steps", "4", "--csgm_steps", "8") == 0
    before = rows_of(tmp_path / "out")
    assert made == [(1, 1), (8,), (4, 4)]
    made.clear()
    assert run("--out", out) == 0
    assert made == [(1, 1), (5,), (3, 3)]
    after = rows_of(tmp_path / "out")
    assert [row for row in after if row["run"] in ("csgm 8", "ilo 2 x 4")] == before
    made.clear()
    assert run("--out", out, "--repeats", "2") == 0
    assert made == [(1, 1), (5,), (8,), (4, 4), (3, 3)]
    made.clear()
    assert run("--out", out, "--repeats", "2") == 0
    assert made == []
    assert list(printed_rows) == ["csgm 5", "csgm 8", "ilo 1 x 4", "ilo 2 x 4", "ilo 1 x 3", "ilo 2 x 3"]
    assert not [path for path in (tmp_path / "out").iterdir() if "tmp" in path.name]


def test_what_was_finished_before_a_kill_is_kept(run, tmp_path, monkeypatch, made):
    out = str(tmp_path / "out")
    noted = convergence.follow

    def killed(solver, *args):
        if solver.settings.steps == (4, 4):
            raise KeyboardInterrupt
        return noted(solver, *args)

    with monkeypatch.context() as patch:
        patch.setattr(convergence, "follow", killed)
        assert run("--out", out) == 130
    assert {row["run"] for row in rows_of(tmp_path / "out")} == {"csgm 5", "csgm 8"}
    made.clear()
    assert run("--out", out) == 0
    assert made == [(1, 1), (4, 4), (3, 3)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "0.2"], "rate 0.1, now 0.2"),
        (["--every", "2"], "every 3, now 2"),
        (["--task", "inversion"], "task cs, now inversion"),
        (["--images", "2"], "images 3, now 2"),
        (["--precision", "float32"], "precision bfloat16, now float32"),
    ],
)
def test_other_settings_are_a_mistake(run, tmp_path, capsys, words, message):
    out = ["--out", str(tmp_path / "out"), "--ilo_steps", "3", "--csgm_steps", "5", "--precision", "bfloat16"]
    assert run(*out) == 0
    files = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    assert run(*out, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "another --out" in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


def test_another_checkpoint_may_join_but_not_in_the_place_of_one(run, snapshot, tmp_path, capsys, made):
    out = ["--out", str(tmp_path / "out"), "--ilo_steps", "3", "--csgm_steps", "5"]
    other = save(tmp_path / "other", 1)
    assert run(*out) == 0
    made.clear()
    assert run(*out, "--checkpoints", f"vanilla={snapshot}", f"rtil={other}") == 0
    assert made == [(1, 1), (5,), (3, 3)]
    assert {row["checkpoint"] for row in rows_of(tmp_path / "out")} == {"vanilla", "rtil"}
    capsys.readouterr()
    assert run(*out, "--checkpoints", f"vanilla={other}") == 2
    assert "checkpoint vanilla" in capsys.readouterr().err


def test_curves_without_settings_are_not_overwritten(run, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "convergence.csv").write_text("mine")
    assert run("--out", str(out)) == 2
    assert "give another --out" in capsys.readouterr().err
    assert (out / "convergence.csv").read_text() == "mine"


@pytest.mark.parametrize("lpips", [None, "alex"])
def test_file_gives_back_what_was_added(tmp_path, lpips):
    distance = None if lpips is None else 1 / 7
    looks = Looks(
        [Point(0, 0, 0.1, 1 / 3, distance), Point(0, 3, 0.2, 0.25, distance)], [Point(0, 3, 0.2, 0.2, distance)]
    )
    keys = [Key("a, b", "csgm 3", 0), Key("a, b", "csgm 3", 1)]
    file = CurveFile(tmp_path / "new", {"lpips": lpips})
    for key in keys:
        file.add(key, looks)
    assert CurveFile(tmp_path / "new", {"lpips": lpips}).looks == dict.fromkeys(keys, looks)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("convergence.csv", "checkpoint,run,repeat\na,b,c\n"),
        ("convergence.csv", "round\n1\n"),
        ("convergence.json", "[1"),
        ("convergence.json", "1"),
    ],
)
def test_damaged_files_are_a_mistake(tmp_path, name, text):
    CurveFile(tmp_path, {"lpips": None}).add(Key("a", "csgm 1", 0), Looks([], []))
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        CurveFile(tmp_path, {"lpips": None})


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--rounds", "3"], "allows 2"), (["--rounds", "0"], "rounds is 0"), (["--rate", "2"], "rate")],
)
def test_mistakes_leave_no_folder(run, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_checkpoints_are_needed(capsys):
    assert main([]) == 2
    assert "--checkpoints name=PATH" in capsys.readouterr().err


def test_looking_is_not_counted(monkeypatch):
    now = iter([0.0, 1.0, 51.0, 53.0, 60.0])  # start; look 1 from 1 to 51; look 2 from 53 to 60
    clock = []
    monkeypatch.setattr("docs.convergence.measure.time.perf_counter", lambda: clock.append(next(now)) or clock[-1])
    operator = Condition("cs", 0.5, {"rate": 0.5}).operator(8, 0)
    x = torch.full((2, 3, 8, 8), 0.5)

    def errors(seen):
        assert clock[-1] in (1.0, 53.0)  # all errors are computed between the two looks at the clock
        assert torch.equal(seen, x)
        return 0.25, 0.125

    watch = Watch(errors, operator, operator(x), [2], every=2)
    for step in range(3):
        watch(0, step, x)
    assert watch.points == [Point(0, 0, 1.0, 0.25, 0.125), Point(0, 2, 3.0, 0.25, 0.125)]


def test_when_a_run_reaches_the_reference():
    csgm = Curve("a", "csgm", (8,), [Point(0, 8, 4.0, 0.2)], [Point(0, 8, 4.0, 0.2)])
    points = [Point(0, 4, 1.0, 0.5), Point(1, 4, 1.1, 0.3), Point(1, 6, 1.5, 0.19), Point(1, 8, 2.0, 0.1)]
    ilo = Curve("a", "ilo", (4, 4), points, [Point(0, 4, 1.0, 0.4), Point(1, 8, 2.0, 0.1)])
    first, one, two = summary([csgm, ilo])
    assert (first["run"], first["seconds_to_csgm"]) == ("csgm 8", 4.0)
    assert (one["run"], one["seconds_to_csgm"], one["csgm_seconds"]) == ("ilo 1 x 4", None, 4.0)
    assert (two["run"], two["seconds_to_csgm"], two["steps_to_csgm"]) == ("ilo 2 x 4", 1.5, 6)


def test_seconds_of_repeats_are_their_median():
    repeats = [[Point(0, 0, s, 0.5), Point(0, 1, 2 * s, 0.4)] for s in (1.0, 9.0, 2.0)]
    assert with_median_seconds(repeats) == [Point(0, 0, 2.0, 0.5), Point(0, 1, 4.0, 0.4)]
