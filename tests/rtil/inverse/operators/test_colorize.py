import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from rtil.errors import UserError
from rtil.inverse.operators import Colorization, GaussianNoise, make_operator
from rtil.inverse.operators.colorize import LUMA

SIZE = (3, 8, 8)


def pictures(seed: int, n: int = 3, spread: float = 1.0) -> torch.Tensor:
    """Pictures [n, 3, 8, 8]; with a spread above 1 some values lie outside [0, 1]."""
    rng = torch.Generator().manual_seed(seed)
    return (torch.rand(n, *SIZE, generator=rng) - 0.5) * spread + 0.5


def test_luma_is_pillows():
    from PIL import Image

    x = (pictures(0, 1) * 255).round()
    luma = Colorization(SIZE).A(x / 255)[0, 0] * 255
    grey = Image.fromarray(x[0].permute(1, 2, 0).byte().numpy()).convert("L")
    expected = torch.tensor(list(grey.get_flattened_data() if hasattr(grey, "get_flattened_data") else grey.getdata()))
    assert (luma.flatten() - expected).abs().max() <= 1


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_the_result_keeps_the_luma_and_the_range(spread):
    operator, truth = Colorization(SIZE), pictures(0)
    x = operator.consistent(pictures(1, spread=spread), operator.A(truth))
    torch.testing.assert_close(operator.A(x), operator.A(truth), atol=1e-6, rtol=0)
    assert x.min() >= 0
    assert x.max() <= 1


def test_it_is_the_nearest_such_picture():
    operator = Colorization((3, 1, 1))
    weights = np.array(LUMA)
    for seed, y in enumerate((0.02, 0.3, 0.6, 0.97)):
        rng = torch.Generator().manual_seed(seed)
        p = torch.rand(3, generator=rng, dtype=torch.float64).numpy() * 1.4 - 0.2
        found = minimize(
            lambda x, p=p: ((x - p) ** 2).sum(),
            [y] * 3,
            bounds=[(0, 1)] * 3,
            constraints={"type": "eq", "fun": lambda x, y=y: weights @ x - y},
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        x = operator.consistent(torch.from_numpy(p).view(1, 3, 1, 1), torch.full((1, 1, 1, 1), y))
        assert x.flatten().tolist() == pytest.approx(found.x.tolist(), abs=1e-5)


def test_it_never_moves_away_from_the_truth():
    operator, truth, x = Colorization(SIZE), pictures(0, 20), pictures(1, 20)
    after = operator.consistent(x, operator.A(truth))
    pixelwise = (after - truth).square().sum(1) - (x - truth).square().sum(1)
    assert pixelwise.max() < 1e-6
    assert pixelwise.min() < -0.1


def test_the_truth_stays_as_it_is():
    operator, truth = Colorization(SIZE), pictures(0)
    torch.testing.assert_close(operator.consistent(truth, operator.A(truth)), truth, atol=1e-6, rtol=0)


@pytest.mark.parametrize("y", [-0.5, 0.0, 1.0, 1.5])
def test_black_and_white_leave_no_choice(y):
    x = Colorization(SIZE).consistent(pictures(0), torch.full((3, 1, 8, 8), y))
    torch.testing.assert_close(x, torch.full_like(x, min(max(y, 0), 1)), atol=1e-6, rtol=0)


def test_saturated_pictures_are_no_special_case():
    operator, y = Colorization(SIZE), Colorization(SIZE).A(pictures(3))
    for x in (torch.zeros(3, *SIZE), torch.ones(3, *SIZE), torch.full((3, *SIZE), 9.0)):
        x[:, 2] = 1 - x[:, 2]
        torch.testing.assert_close(operator.A(operator.consistent(x, y)), y, atol=1e-6, rtol=0)


def test_noise_is_not_copied_into_the_result():
    operator, x = Colorization(SIZE, GaussianNoise(0.1)), pictures(0)
    assert operator.consistent(x, operator(x)) is x


def test_other_operators_leave_results_alone():
    operator, x = make_operator("inpaint", SIZE, rate=0.5), pictures(0)
    assert operator.consistent(x, operator(pictures(1))) is x


def test_grey_pictures_have_no_colour():
    with pytest.raises(UserError, match=r"3 channels .*got img_size \(1, 8, 8\)"):
        Colorization((1, 8, 8))
