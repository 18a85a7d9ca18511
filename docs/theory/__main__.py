"""``python -m docs.theory``: print the tables of docs/theory/README.md and draw its figures, beside it."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from scipy.stats import chi2
from torch import Tensor

from docs.theory.chart import Series, draw_chart
from docs.theory.distances import FAMILIES, Distortions, circulant_variance, dense_deviation, measure_distortions
from docs.theory.linear_model import (
    TwoLayerModel,
    draw_model,
    draw_sensing,
    expected_error,
    gradient_descent,
    minimum_norm_weights,
    monte_carlo_error,
    recovery_matrix,
    vanilla_error,
    vanilla_error_bounds,
)
from rtil.data.synthetic_faces import SyntheticFaces
from rtil.ranges import to_unit
from rtil.seeds import generator

SIZES = (5, 12, 40)
"""n0, n1, nd."""
MEASUREMENTS = (5, 8, 11, 12, 14, 20, 30)
SAMPLES = 20_000
DRAWS = 1000
RESOLUTION = 32
RATES = (0.01, 0.05, 0.1, 0.25)
PAIRS = 32
OPERATORS = 200
COLOURS = {"dense": "#4477aa", "circulant": "#ee6677", "no signs": "#999999"}


def training_table(model: TwoLayerModel) -> list[str]:
    """Compare gradient descent with the closed forms."""
    lines = [
        "| training | start | distance to the minimum-norm solution | distance to W1* |",
        "| --- | --- | ---: | ---: |",
    ]
    norm = torch.linalg.matrix_norm
    for training in ("vanilla", "rtil"):
        closed = minimum_norm_weights(model, training)
        for name, start in (("zero", None), ("N(0, 1)", _random_start(model))):
            W = gradient_descent(model, training, start)
            shares = [float(norm(W - other) / norm(model.W1)) for other in (closed, model.W1)]
            lines.append(f"| {training} | {name} | {shares[0]:.1e} | {shares[1]:.1e} |")
    return lines


def recovery_table(model: TwoLayerModel, seed: int) -> tuple[list[str], list[Series]]:
    """Tabulate the errors of recovery over m, as shares of the signal's energy; also the lines of the figure."""
    rtil, vanilla = minimum_norm_weights(model, "rtil"), minimum_norm_weights(model, "vanilla")
    started = gradient_descent(model, "vanilla", _random_start(model))
    frobenius, spectral = vanilla_error_bounds(model)
    lines = [
        "| m | RTIL, Monte-Carlo | RTIL, closed form | vanilla, Monte-Carlo | vanilla, closed form (8) "
        "| vanilla from a N(0, 1) start | vanilla is better below SNR |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    curves: dict[str, list[float]] = {"RTIL": [], "vanilla": [], "vanilla, N(0, 1) start": []}
    for m in MEASUREMENTS:
        A = draw_sensing(m, len(model.W1), seed)
        drawn = {name: monte_carlo_error(W, model, A, SAMPLES, seed) for name, W in (("r", rtil), ("v", vanilla))}
        errors = [expected_error(W, model, A) for W in (rtil, vanilla, started)]
        for curve, error in zip(curves.values(), errors, strict=True):
            curve.append(error / model.signal_energy)
        lines.append(
            f"| {m} | {drawn['r'][0]:.3g} | {errors[0]:.3g} | {drawn['v'][0]:.1f} ± {drawn['v'][1]:.1f} "
            f"| {vanilla_error(model, A):.1f} | {errors[2]:.1f} | {crossover_snr(model, A)} |"
        )
    lines += [
        "",
        f"Bounds for every m: Frobenius {frobenius:.1f}, spectral (8) {spectral:.1f}. "
        f"Energy of the signal: {model.signal_energy:.1f}.",
    ]
    colours = ("#4477aa", "#ee6677", "#ccbb44")
    figure = [
        Series(label, MEASUREMENTS, y, colour) for (label, y), colour in zip(curves.items(), colours, strict=True)
    ]
    bound = [spectral / model.signal_energy] * len(MEASUREMENTS)
    return lines, [*figure, Series("bound (8)", MEASUREMENTS, bound, "#999999")]


def crossover_snr(model: TwoLayerModel, A: Tensor) -> str:
    """Return the ratio E ||A x||^2 / E ||noise||^2 in dB below which vanilla weights recover better than RTIL's.

    ||R||_F is never smaller for RTIL, whose R is that of vanilla plus a term on the complement of range(A W1* W0).
    """
    rtil, vanilla = minimum_norm_weights(model, "rtil"), minimum_norm_weights(model, "vanilla")
    gain = expected_error(vanilla, model, A) - expected_error(rtil, model, A)
    energies = [float(recovery_matrix(W, model.W0, A).square().sum()) for W in (rtil, vanilla)]
    if gain <= 0:
        return "any"
    measured = float((A @ model.W1 @ model.W0).square().sum() + (A @ model.W1).square().sum())
    return f"{10 * math.log10(measured / len(A) * (energies[0] - energies[1]) / gain):.1f} dB"


def draws_table(seed: int) -> list[str]:
    """Tabulate equation 8 over many draws of (W0, W1*, A) at m = 20."""
    rows: dict[str, list[float]] = {"vanilla, closed form (8)": [], "Frobenius bound": [], "spectral bound (8)": []}
    for draw in range(DRAWS):
        model = draw_model(*SIZES, seed=seed + draw)
        values = (vanilla_error(model, draw_sensing(20, SIZES[2], seed + draw)), *vanilla_error_bounds(model))
        for row, value in zip(rows.values(), values, strict=True):
            row.append(value)
    lines = ["| | 5 % | median | 95 % |", "| --- | ---: | ---: | ---: |"]
    for name, row in rows.items():
        low, middle, high = torch.tensor(row).quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
        lines.append(f"| {name} | {low:.1f} | {middle:.1f} | {high:.1f} |")
    return lines


def difference_vectors(seed: int) -> dict[str, Tensor]:
    """Return the vectors whose distortion is measured, [N, 3, R, R] each: Gaussian, and between synthetic faces."""
    shape = (PAIRS, 3, RESOLUTION, RESOLUTION)
    faces = to_unit(SyntheticFaces(RESOLUTION, "validation").load(range(2 * PAIRS)).float() / 127.5 - 1)
    return {
        "random differences": torch.randn(shape, generator=generator(seed, "theory/differences")),
        "differences of faces": faces[:PAIRS] - faces[PAIRS:],
    }


def distances_table(vectors: Tensor, measured: Mapping[str, Mapping[int, Distortions]]) -> list[str]:
    """Tabulate the distortions of one kind of vectors."""
    lines = []
    for m in measured["dense"]:
        exact = {
            "dense": dense_deviation(m),
            "circulant": math.sqrt(sum(circulant_variance(v, m) for v in vectors) / len(vectors)),
        }
        for family in FAMILIES:
            d = measured[family][m]
            formula = f"{exact[family]:.3f}" if family in exact else "-"
            lines.append(
                f"| {m} | {family} | {d.mean:.3f} | {d.quantile(0.01):.3f} | {d.quantile(0.99):.3f} "
                f"| {d.deviation:.3f} | {formula} | {d.worst:.2f} |"
            )
        low, high = (chi2.ppf(q, m) / m for q in (0.01, 0.99))
        lines.append(f"| {m} | chi^2_m / m | 1.000 | {low:.3f} | {high:.3f} | {dense_deviation(m):.3f} | | |")
    return lines


def distances_chart(path: Path, measured: Mapping[str, Mapping[int, Distortions]]) -> None:
    """Draw the 1 % to 99 % intervals of the distortions of faces."""
    series = []
    for k, family in enumerate(FAMILIES):
        ds = measured[family]
        low, high = ([d.quantile(q) for d in ds.values()] for q in (0.01, 0.99))
        x = [m * 1.08 ** (k - 1) for m in ds]
        series.append(Series(family, x, [d.quantile(0.5) for d in ds.values()], COLOURS[family], low, high))
    title = "||A(x - x')||^2 / ||x - x'||^2 of faces: 1 %, median, 99 % over m"
    draw_chart(path, series, title, list(measured["dense"]), (0.2, 0.5, 1, 2, 4))


def report(out: Path = Path(__file__).parent, seed: int = 0) -> None:
    """Print every table and write ``linear.png`` and ``distances.png``."""
    model = draw_model(*SIZES, seed=seed)
    print(f"Two-layer linear model, (n0, n1, nd) = {SIZES}: training\n", *training_table(model), sep="\n")
    lines, curves = recovery_table(model, seed)
    print(f"\nRecovery of one draw, E ||x - x_hat||^2; Monte-Carlo: {SAMPLES} signals ± standard error\n")
    print(*lines, sep="\n")
    linear = out / "linear.png"
    title = "E ||x - x_hat||^2 / E ||x||^2 over m (RTIL is 0 from m = 12 on)"
    draw_chart(linear, curves, title, MEASUREMENTS, (0.01, 0.1, 1, 10))
    print(f"\n{DRAWS} draws of the layers and of A at m = 20\n", *draws_table(seed), sep="\n")
    chart = out / "distances.png"
    for kind, vectors in difference_vectors(seed).items():
        measured = measure_distortions(vectors, RATES, OPERATORS, seed)
        print(f"\nDistortions of {kind}, n = {vectors[0].numel()}: {PAIRS} x {OPERATORS} operators\n")
        print("| m | operator | mean | 1 % | 99 % | deviation | its formula | worst of the pairs |")
        print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        print(*distances_table(vectors, measured), sep="\n")
    n = vectors[0].numel()
    print(f"\nlog(n)^4 = {math.log(n) ** 4:.0f} at n = {n}")
    distances_chart(chart, measured)
    print(f"\nwrote {linear} and {chart}")


def _random_start(model: TwoLayerModel) -> Tensor:
    return torch.randn(model.W1.shape, dtype=torch.float64, generator=generator(0, "theory/start"))


if __name__ == "__main__":
    report()
