"""The papers' theory in numbers: RTIL's two-layer linear model, and distances under a partial circulant operator.

``python -m rtil.theory`` prints the tables of ``docs/theory.md`` and draws its figures.
"""

from rtil.theory.distances import Distortions, circulant_variance, measure_distortions
from rtil.theory.linear_model import (
    TwoLayerModel,
    draw_model,
    draw_sensing,
    expected_error,
    gradient_descent,
    minimum_norm_weights,
    monte_carlo_error,
    recover,
    vanilla_error,
    vanilla_error_bounds,
)

__all__ = [
    "Distortions",
    "TwoLayerModel",
    "circulant_variance",
    "draw_model",
    "draw_sensing",
    "expected_error",
    "gradient_descent",
    "measure_distortions",
    "minimum_norm_weights",
    "monte_carlo_error",
    "recover",
    "vanilla_error",
    "vanilla_error_bounds",
]
