import pytest

from rtil.evaluation.notes import MARK, TRAINED_OTHERWISE, nonlinear_note, notes_on
from rtil.evaluation.summary import summarise
from tests.rtil.evaluation.rows import of_reference, of_solver


def notes(rows):
    return "\n".join(notes_on(summarise(rows)))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (of_reference(), "linear: Gaussian posterior mean"),
        (
            of_reference("tv") + of_reference("adjoint"),
            "Without a generator: adjoint, the least picture that fits; tv, total variation.",
        ),
        (of_solver(trained_otherwise=True), TRAINED_OTHERWISE),
        (of_solver(status="diverged"), "finite iterate is kept): ilo vanilla 20, ilo rtil 20."),
        (
            of_solver(("a", "b"), kimg=153.6) + of_reference(),
            "Training length in thousands of images: a 153.6, b 153.6.",
        ),
        (
            of_solver(("rtil",), settings="bbbb"),
            "With other settings than its reference (see settings.json): ilo rtil.",
        ),
        (
            of_solver(("rtil",), arch="stylegan2", rtil=True)
            + of_solver(("pg-rtil",), arch="pggan", rtil=True)
            + of_solver(("pg",), arch="pggan"),
            "Compared: rtil with vanilla, pg-rtil with pg.",
        ),
        (of_solver(task="colorize", level=None), "colorize: every method's result"),
        (of_solver(task="phase", level=4), "phase: nonlinear, so without the linear prior"),
    ],
)
def test_each_note_is_there_where_it_applies_and_only_there(rows, words):
    plain = of_solver(("vanilla",), arch="stylegan2")
    assert words in notes(plain + rows)
    assert words not in notes(plain)


def test_notes_are_120_columns_wide():
    many = [row for n in range(9) for row in of_solver((f"a checkpoint with a long name {n}",), kimg=1.0)]
    assert 100 < max(map(len, notes(many).splitlines())) <= 120


def test_nonlinear_tasks_are_named_once():
    assert nonlinear_note(["cs", "phase", "phase", "classifier"]) == [
        "phase: nonlinear, so without the linear prior, which is for linear operators only."
    ]
    assert nonlinear_note(["cs"]) == []


def test_the_mark_is_explained():
    assert TRAINED_OTHERWISE.startswith(f"{MARK}: trained with RTIL, but")
