"""Stochastic noise addition with the noise that the operator tells."""

import pytest
import torch

from ilo import CSGM, ILO
from ilo.objective import resolve_sna_sigma
from rtil.errors import UserError
from rtil.inverse.operators import make_operator

SIZE = (3, 16, 16)


def test_known_is_the_noise_of_denoising_and_nothing_elsewhere() -> None:
    assert resolve_sna_sigma("known", make_operator("denoise", SIZE, sigma=30)) == pytest.approx(30)
    assert resolve_sna_sigma("known", make_operator("inversion", SIZE, noise_sigma=0.1)) == pytest.approx(25.5)
    clean = [make_operator("denoise", SIZE, sigma=0), make_operator("inversion", SIZE)]
    noisy = [make_operator("inpaint", SIZE, rate=0.5, noise_sigma=0.1), make_operator("sr", SIZE, factor=2)]
    assert [resolve_sna_sigma("known", operator) for operator in (*clean, *noisy)] == [None] * 4
    assert resolve_sna_sigma(7.0, noisy[0]) == 7
    assert resolve_sna_sigma(None, make_operator("denoise", SIZE, sigma=30)) is None


def test_known_inverts_as_the_number_does(small_generator, planted) -> None:
    for task, number in ((make_operator("denoise", SIZE, sigma=30), 30.0), (make_operator("sr", SIZE, factor=2), None)):
        y = task(planted.x)
        known, told, without = (
            ILO(small_generator, steps=(4, 3), sna_sigma=sigma).invert(y, task).x for sigma in ("known", number, None)
        )
        assert torch.equal(known, told)
        assert torch.equal(known, without) == (number is None)


def test_other_words_are_refused(small_generator) -> None:
    with pytest.raises(UserError, match="did you mean 'known'"):
        CSGM(small_generator, sna_sigma="knwon")
