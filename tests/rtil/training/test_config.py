import re

import pytest

from rtil.errors import UserError
from rtil.training.config import CONFIGS, config_of

PGGAN = {"arch": "pggan", "kimg": 0.12}
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kimg": 0}, "kimg 0 is not valid: use a number above 0"),
        ({"resolution": 20}, "power of two"),
        ({"arch": "stylegan3"}, "unknown architecture 'stylegan3'"),
        ({"lr": -1}, "lr -1 is not valid"),
        ({"path_wieght": 1}, "did you mean 'path_weight'"),
        ({"rtil": True, "branch_weights": [0.5, 0.5]}, "branch weights"),
        ({"path_decay": 0}, "path_decay 0 is not valid: use a number above 0, at most 1"),
        ({"path_decay": 1.5}, "path_decay 1.5 is not valid"),
        ({"ema_rampup": -0.1}, "ema_rampup -0.1 is not valid: use a number >= 0"),
        ({"sigma": -1, "branches": "mixture"}, "sigma -1 is not valid: use a number >= 0"),
        ({"style_mixing": 1.1}, "use a probability in [0, 1]"),
        ({"seed": -1}, "seed -1 is not valid: use a whole number from 0 to 2^63 - 1"),
        ({"precision": "float16"}, "unknown precision 'float16': valid are auto, float32, bfloat16"),
        ({"branches": "mixtures"}, "did you mean 'mixture'"),
        ({"branch_weights": [NAN, 1.0]}, "branch_weights [nan, 1.0] is not valid: use finite numbers"),
        (PGGAN | {"growth": "kaRras"}, "unknown growth 'kaRras': valid are default, rtil, karras; did you mean"),
        (PGGAN | {"stages": {4: 0.04, 8: 0.04}}, "stages list 4, 8"),
        (PGGAN | {"stages": {4: 0.04, 8: 0.0, 16: 0.08}}, "stages has 0 kimg for side 8"),
        (PGGAN | {"stages": {4: 0.04, 8: NAN, 16: 0.08}}, "use finite numbers"),
        (PGGAN | {"rtil": True, "codes": [0, 3]}, "codes [0, 3] is not valid"),
        (PGGAN | {"mixture_side": 32}, "mixture_side 32 is not valid"),
    ],
)
def test_values_out_of_range_are_user_errors(changes, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        config_of({"resolution": 16} | changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("arch", CONFIGS)
def test_every_number_is_finite(arch, value):
    own = CONFIGS[arch]()
    numbers = [name for name, default in vars(own).items() if type(default) in (int, float)]
    assert {"lr", "sigma", "ema_rampup"} <= set(numbers)
    for name in numbers:
        if name != "resolution":
            with pytest.raises(UserError):
                config_of({"arch": arch, name: value})


@pytest.mark.parametrize("changes", [{"path_decay": 1}, {"ema_rampup": 0}, {"sigma": 0}], ids=str)
def test_ends_of_ranges_are_valid(changes):
    assert changes.items() <= config_of(changes).to_json().items()
