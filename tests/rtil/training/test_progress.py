"""A clock that is set by hand, and trainings whose stderr says that it is a terminal."""

import io
import re
import sys
from types import SimpleNamespace

import pytest
from pytorch_lightning.callbacks import TQDMProgressBar

from rtil.training import progress
from rtil.training.progress import ImageBar, Pace
from rtil.training.run import train
from rtil.training.stylegan2 import StyleGAN2Training
from tests.rtil.training.small import config

TRAINER = SimpleNamespace(is_global_zero=True, progress_bar_callback=None)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def faces(tmp_path, make_pictures):
    return make_pictures(tmp_path / "faces", 24, 16)


@pytest.fixture
def clock(monkeypatch):
    """Now, in seconds."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    return clock


def training(seen=0, total=1000, alike_until=1000):
    return SimpleNamespace(seen=seen, total_images=total, alike_until=alike_until, step_images=10, is_done=False)


def steps(pace, module, clock, count, seconds):
    for _ in range(count):
        clock.now += seconds
        module.seen += module.step_images
        pace.on_train_batch_end(TRAINER, module)


def test_it_tells_once_how_long_it_takes_without_what_the_first_step_prepares(clock, capsys):
    pace, module = Pace(), training()
    pace.on_train_start(TRAINER, module)
    steps(pace, module, clock, 1, 30)
    steps(pace, module, clock, 2, 2)
    assert capsys.readouterr().out == ""
    steps(pace, module, clock, 9, 2)
    assert capsys.readouterr().out == "about 3 min to go at 5.0 images/s\n"  # 960 images, at the fourth step
    assert pace.seconds_left(module) == 880 / 5


def test_quick_steps_wait_for_seconds_and_slow_ones_for_steps(clock, capsys):
    for seconds, silent in ((0.01, 500), (60, 3)):
        pace, module = Pace(), training(total=10**6, alike_until=10**6)
        pace.on_train_start(TRAINER, module)
        steps(pace, module, clock, silent, seconds)
        assert capsys.readouterr().out == ""
        steps(pace, module, clock, 2, seconds)
        assert capsys.readouterr().out.count("\n") == 1


def test_a_growing_run_tells_a_lower_bound_and_measures_every_stage_anew(clock, capsys):
    pace, module = Pace(), training(alike_until=500)
    pace.on_train_start(TRAINER, module)
    steps(pace, module, clock, 5, 2)
    assert capsys.readouterr().out.startswith("more than 3 min to go")
    module.alike_until = 1000
    steps(pace, module, clock, 1, 60)
    steps(pace, module, clock, 3, 10)
    assert pace.images_per_sec == 1
    assert pace.bound(module) == ""


def test_a_run_that_goes_on_tells_at_once_what_it_told_before(faces, tmp_path, capsys, monkeypatch):
    train(config(faces, 0.04), tmp_path)
    capsys.readouterr()
    before = []
    load = Pace.load_state_dict
    monkeypatch.setattr(Pace, "load_state_dict", lambda self, state: before.append(state) or load(self, state))
    train(config(faces, 0.08), tmp_path, resume="latest")
    first = capsys.readouterr().out.splitlines()[0]
    rate = before[0]["images_per_sec"]
    assert rate > 0
    assert first.startswith("goes on at 0.04 kimg: about ")
    assert first.endswith(f"to go at {rate:.1f} images/s, as before")


def test_only_the_first_of_several_processes_speaks(clock, capsys):
    pace, module = Pace(), training()
    other = SimpleNamespace(is_global_zero=False, progress_bar_callback=None)
    for _ in range(9):
        clock.now += 9
        module.seen += 10
        pace.on_train_batch_end(other, module)
    progress.say(other, "line")
    progress.tell(other, "line", "short")
    assert capsys.readouterr().out == ""
    assert pace.images_per_sec


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_the_bar_moves_every_step_and_shows_what_was_logged(faces, tmp_path, monkeypatch, arch):
    """0.08 kimg of batches of 8; the log at 40 and 80 images. No line goes to a terminal beside the bar."""
    err, out = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOOKS", 0)
    train(config(faces, 0.08, arch=arch), tmp_path)
    shown = [look for look in re.split(r"[\r\n]+", err.getvalue()) if "kimg" in look]
    places = [found for look in shown for found in re.findall(r"[\d.]+/[\d.]+(?= kimg)", look)]
    assert list(dict.fromkeys(places)) == [f"{n / 10:.1f}/0.08" for n in (0, 1)]
    assert len([look for look in shown if "images/s" in look]) >= 10
    last = shown[-1]
    assert "100%" in last
    assert re.search(r"kimg, [\d.]+ images/s, 0 s left, G -?[\d.]+  D -?[\d.]+  real [+-][\d.]+  fake [+-][\d.]+", last)
    assert out.getvalue() == ""
    if arch == "pggan":
        assert re.search(r", >\d+ s left", shown[2])


def test_lines_go_to_a_file_beside_the_bar(faces, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    train(config(faces, 0.08), tmp_path)
    assert capsys.readouterr().out.count("s/kimg") == 2


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_users_own_bar_takes_the_place_of_ours(monkeypatch, is_terminal):
    monkeypatch.setattr(sys, "stderr", Terminal() if is_terminal else io.StringIO())
    assert progress.bars(Pace(), [TQDMProgressBar()], is_wanted=True) == []
    assert [type(bar) for bar in progress.bars(Pace(), [], is_wanted=True)] == [ImageBar] * is_terminal
    assert progress.bars(Pace(), [], is_wanted=False) == []


def test_the_bar_waits_for_no_device(faces, tmp_path, monkeypatch):
    """Between two lines of the log nobody asks what the steps tell."""
    asked = []
    monkeypatch.setattr(sys, "stderr", Terminal())
    usual = StyleGAN2Training.scalars
    monkeypatch.setattr(StyleGAN2Training, "scalars", lambda self: asked.append(self.seen) or usual(self))
    train(config(faces, 0.16), tmp_path)
    assert sorted(set(asked)) == [40, 80, 120, 160]  # of 20 steps
