import pytest

from rtil.inverse.schedules import Ramp

# values of ILO's code at t = i / steps
TABLE = [(0.05, 1), (0.25, 1), (0.4, 0.905), (0.5, 0.75), (0.625, 0.5), (0.75, 0.25), (0.9, 0.043), (0.95, 0.011)]


@pytest.mark.parametrize(("t", "factor"), [*TABLE, (0.0, 0.0), (0.99, 0.0004), (0.025, 0.5)])
def test_values_of_the_published_schedule(t, factor):
    assert Ramp().factor(t) == pytest.approx(factor, abs=5e-4)


@pytest.mark.parametrize("steps", [1, 2, 10, 100])
def test_no_step_is_wasted(steps):
    rates = [Ramp().at(i, steps) for i in range(steps)]
    assert min(rates) > 0
    assert max(rates) <= 1


def test_fractions_can_be_switched_off():
    assert {Ramp(rampup=0, rampdown=0).at(i, 7) for i in range(7)} == {1.0}
