"""``python -m benchmarks ops``: time and bandwidth of the operations, forward, backward, and R1's double backward.

Each case (operation, size, type, layout) is computed by our tiers and by torch's operations one after the other
(:mod:`benchmarks.ops_cases`), in turns with copying a map of that size. GB/s count the bytes that must be read and
written at best, so the share of the copy's bandwidth says how far from the limit of the memory an operation is.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch

from benchmarks.frame import Recorded, print_table, run_benchmark
from benchmarks.ops_cases import OPS, R1, Layout, Run, Shape, prepare, prepare_copy, prepare_r1
from benchmarks.record import Spread
from benchmarks.timing import in_turns, ratio, seconds_of
from rtil.devices import pick_device
from rtil.errors import UserError, unknown
from rtil.ops.selftest import using_tier

COPY, COMPOSITION, PEER = "copy", "composition", "peer-style"
TIERS = ("ref", "native", "ext")
OWN = "own"
DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MOST_CALLS = 10_000


@dataclass
class OpsOptions(Recorded):
    """Time the operations.

    Args:
        ops: Names, or their beginnings (upfirdn2d, bias_act, tail, R1); null is all.
        sizes: NxCxS: pictures, channels and side of the maps; null takes 32x128x16,32x64x32, on a GPU 16x64x256, too.
        dtypes: Types of the maps: float32, bfloat16, float16, float64.
        layouts: nhwc, nchw.
        tiers: Ours: native, ext, ref.
        against: peer-style also times the published codes' way, in float32 and NCHW.
        repeats: How often each way is timed; the median counts.
        sample_ms: Length of one of these times; many calls for short operations.
        device: auto, cpu, cuda or cuda:N.
    """

    ops: list[str] | None = None
    sizes: list[str] | None = None
    dtypes: list[Literal["float64", "float32", "float16", "bfloat16"]] = field(
        default_factory=lambda: ["float32", "bfloat16"]
    )
    layouts: list[Layout] = field(default_factory=lambda: ["nhwc"])
    tiers: list[Literal["ref", "native", "ext"]] = field(default_factory=lambda: ["native", "ext"])
    against: Literal["peer-style"] | None = None
    repeats: int = 5
    sample_ms: float = 20
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.repeats < 1 or not self.sample_ms > 0:
            raise UserError(f"repeats {self.repeats}, sample_ms {self.sample_ms}: valid are numbers above 0")
        for name, values in (("dtypes", self.dtypes), ("layouts", self.layouts), ("tiers", self.tiers)):
            if not values or len(set(values)) != len(values):
                raise UserError(f"{name} is {','.join(values) or 'empty'}: give each wanted one once")
        for text in self.sizes or []:
            try:
                valid = min(Shape.of(text)) >= 1 and Shape.of(text).S % 2 == 0
            except ValueError:
                valid = False
            if not valid:
                raise UserError(f"size '{text}' is not valid: write NxCxS with an even side S, as in 32x64x32")
        for name in self.ops or []:
            if not any(known.startswith(name) for known in (*OPS, R1)):
                raise unknown("operation", name, (*OPS, R1))


class Map(NamedTuple):
    """What operations work on."""

    shape: Shape
    dtype: str
    layout: Layout

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.dtype} {self.layout}"


class Case(NamedTuple):
    """What all ways compute."""

    op: str
    direction: Literal["forward", "backward", "R1"]
    on: Map

    def __str__(self) -> str:
        return self.op if self.direction == "R1" else f"{self.op} {self.direction}"


def maps_of(options: OpsOptions, device: torch.device) -> Iterator[Map]:
    """Yield all maps."""
    for text in options.sizes or ["32x128x16", "32x64x32", *["16x64x256"] * (device.type == "cuda")]:
        for dtype in options.dtypes:
            for layout in options.layouts:
                yield Map(Shape.of(text), dtype, layout)


def cases_of(options: OpsOptions, on: Map) -> Iterator[Case]:
    """Yield all cases of a map."""
    for name in (*OPS, R1):
        if options.ops is None or any(name.startswith(wanted) for wanted in options.ops):
            if name == R1:
                yield Case(name, "R1", on)
            else:
                yield Case(name, "forward", on)
                yield Case(name, "backward", on)


class Sampler:
    """Times calls, as many at a time as fill a sample.

    Args:
        run: What is called.
        tier: In which it is called; None is any.
        sample_s: Seconds of a sample.
        device: Is waited for before and behind a sample.
    """

    def __init__(self, run: Run, tier: str | None, sample_s: float, device: torch.device) -> None:
        self.run, self.tier, self.device, self.calls = run, tier, device, 1
        self()  # warms up
        self.calls = max(1, min(MOST_CALLS, math.ceil(sample_s / max(self(), 1e-9))))

    def __call__(self) -> float:
        """Return the seconds of a call."""
        if self.tier is None:
            return self._sample()
        with using_tier(self.tier):
            return self._sample()

    def _sample(self) -> float:
        return seconds_of(self._repeat, self.device) / self.calls

    def _repeat(self) -> None:
        for _ in range(self.calls):
            self.run.call()


def ways_of(options: OpsOptions, own: bool) -> list[str]:
    """Return how a case is computed: where there are no tiers, by our own way; and the copy."""
    ours = [OWN] if own else options.tiers
    return [*ours, COMPOSITION, *[PEER] * (options.against is not None), COPY]


def samplers_of(case: Case, options: OpsOptions, device: torch.device) -> dict[str, Sampler]:
    """Return the ways to compute a case, and the copy; without those that need more memory than there is."""
    found = {}
    for way in ways_of(options, own=case.op == R1):
        tier = way if way in TIERS else None
        make = partial(Sampler, tier=tier, sample_s=options.sample_ms / 1e3, device=device)
        try:
            if tier is None:
                found[way] = make(prepared(case, way, device))
            else:
                with using_tier(tier):
                    run = prepared(case, way, device)
                found[way] = make(run)
        except torch.OutOfMemoryError:
            print(f"{case}, {case.on}: no memory for {way}", flush=True)
    return found


def prepared(case: Case, way: str, device: torch.device) -> Run:
    """Return what a way runs; a graph for a backward pass is made in the tier that is set."""
    where = (case.on.shape, DTYPES[case.on.dtype], case.on.layout, device)
    if way == COPY:
        return prepare_copy(*where)
    name = way if way in (COMPOSITION, PEER) else "ours"
    if case.op == R1:
        return prepare_r1(name, *where)
    return prepare(case.op, name, case.direction == "backward", *where)


def measure(options: OpsOptions) -> dict[str, Any]:
    """Run the benchmark; print a table for every map and return the figures."""
    device = pick_device(options.device)
    figures = []
    for on in maps_of(options, device):
        rows = []
        for case in cases_of(options, on):
            samplers = samplers_of(case, options, device)
            seconds = in_turns(samplers, options.repeats)
            of_case = figures_of(case, {way: s.run.bytes_moved for way, s in samplers.items()}, seconds)
            figures += of_case
            rows.append(as_row(case, options, {found["way"]: found for found in of_case}))
        ours = options.tiers[-1]
        columns = [*(f"{way} ms" for way in ways_of(options, own=False)), f"{ours} GB/s", "of copy", "x composition"]
        print_table([f"{on}", *columns], rows)
    return {
        "device": str(device),
        "repeats": options.repeats,
        "sample_ms": options.sample_ms,
        "runs": figures,
    }


def figures_of(
    case: Case, bytes_moved: Mapping[str, int | None], seconds: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    """Return the figures of a case, one for each way, as JSON values."""
    found = []
    for way, times in seconds.items():
        size = bytes_moved[way]
        figures: dict[str, Any] = {
            "op": case.op,
            "direction": case.direction,
            "size": "x".join(map(str, case.on.shape)),
            "dtype": case.on.dtype,
            "layout": case.on.layout,
            "way": way,
            "ms": Spread.of([1e3 * t for t in times]).as_json(),
        }
        if size is not None:
            figures["gb_per_s"] = Spread.of([size / t / 1e9 for t in times]).as_json()
        copied = bytes_moved.get(COPY)
        if size is not None and copied is not None and way != COPY:
            per_byte = [t / copied for t in seconds[COPY]]
            figures["share_of_copy"] = ratio(per_byte, [t / size for t in times]).as_json()
        for reference in (COMPOSITION, PEER, "native"):
            if way not in (COPY, reference, PEER) and reference in seconds:
                figures[f"times_faster_than_{reference}"] = ratio(seconds[reference], times).as_json()
        found.append(figures)
    return found


def as_row(case: Case, options: OpsOptions, figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the table's row of a case; its bandwidth and ratio are of the last tier, in R1's case of the own way."""

    def median(way: str, name: str, form: str = ".3g") -> str:
        return format(figures[way][name]["median"], form) if name in figures.get(way, {}) else ""

    ours = OWN if case.op == R1 else options.tiers[-1]
    shown = [ours if way == options.tiers[-1] else way for way in ways_of(options, own=False)]
    return [
        str(case),
        *(median(way, "ms") for way in shown),
        median(ours, "gb_per_s"),
        median(ours, "share_of_copy", ".0%"),
        median(ours, f"times_faster_than_{COMPOSITION}"),
    ]


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("ops", measure, OpsOptions, argv)
