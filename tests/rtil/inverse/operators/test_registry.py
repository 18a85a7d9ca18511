import pytest

from rtil.errors import UserError
from rtil.inverse.operators import OPERATORS, PARAMETERS, make_operator

SIZE = (3, 16, 16)


@pytest.mark.parametrize(
    ("task", "settings", "label"),
    [
        ("cs", {"rate": 0.1}, "cs 10 %"),
        ("cs", {"rate": 0.07}, "cs 7 %"),
        ("cs", {"rate": 0.1, "noise_sigma": 0.05}, "cs 10 %, noise 0.05"),
        ("inpaint", {"rate": 0.5}, "inpaint 50 %"),
        ("inpaint", {"rate": 0.005}, "inpaint 0.5 %"),
        ("box", {"rate": 0.75}, "box 75 %"),
        ("sr", {"factor": 4}, "sr x4"),
        ("denoise", {"sigma": 25}, "denoise 25"),
        ("colorize", {}, "colorize"),
        ("inversion", {}, "inversion"),
        ("blur", {"width": 1.5}, "blur 1.5 px"),
        ("motion", {"length": 9}, "motion 9 px"),
        ("gaussian", {"rate": 0.1}, "gaussian 10 %"),
        ("mri", {"rate": 0.25, "noise_sigma": 0.01}, "mri 25 %, noise 0.01"),
        ("fourier", {"rate": 0.05}, "fourier 5 %"),
        ("phase", {"exposures": 1}, "phase 1 mask"),
        ("phase", {"exposures": 4}, "phase 4 masks"),
        ("hole", {"rate": 0.75}, "hole 75 %"),
        ("fourier_phase", {}, "fourier_phase"),
        ("hdr", {"noise_sigma": 0.025}, "hdr, noise 0.025"),
    ],
)
def test_labels(task, settings, label):
    assert make_operator(task, SIZE, **settings).label == label


def test_every_parameter_has_a_meaning():
    assert {name for task in OPERATORS.values() for name in task.parameters} == set(PARAMETERS)


def test_unknown_task_names_the_valid_ones():
    with pytest.raises(UserError, match=r"unknown task 'inpant'.*cs, inpaint.*did you mean 'inpaint'"):
        make_operator("inpant", SIZE)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("cs", {}, r"needs rate \(observed fraction.*got none"),
        ("sr", {}, "needs factor"),
        ("inpaint", {}, "needs exactly one of rate .* or mask .*got none"),
        ("inpaint", {"rate": 0.5, "mask": "m.png"}, "got rate and mask"),
        ("sr", {"factor": 2, "rate": 0.5}, "does not take rate: it takes factor"),
        ("inversion", {"sigma": 3}, "does not take sigma: it takes no parameter"),
        ("colorize", {"rate": 0.5}, "does not take rate: it takes no parameter"),
        ("denoise", {"sigma": 25, "noise_sigma": 0.1}, "does not take noise_sigma"),
        ("cs", {"rate": 0.1, "noise_sigma": -0.1}, "noise sigma is -0.1"),
        ("blur", {"sigma": 2}, "does not take sigma: it takes width"),
        ("motion", {}, r"needs length \(length of the motion in pixels"),
        ("phase", {"rate": 0.5}, "does not take rate: it takes exposures"),
        ("mri", {"rate": 1.5}, "rate is 1.5: valid is 0 < rate <= 1"),
        ("fourier", {"rate": 0.0}, "rate is 0: valid is 0 < rate <= 1"),
        ("cs", {"rate": 0.1, "noise_sigma": float("nan")}, "noise sigma is nan"),
    ],
)
def test_wrong_parameters(task, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        make_operator(task, SIZE, **settings)
    assert "\n" not in str(caught.value)
