"""``python -m benchmarks ops``: time and bandwidth of the operations, forward, backward, and R1's double backward.

Each case (operation, size, type, layout) is computed by our tiers and by torch's operations one after the other
(:mod:`benchmarks.ops_cases`), in turns with copying a map of that size. GB/s count the bytes that must be read and
written at best, so the share of the copy's bandwidth says how far from the limit of the memory an operation is. On a
GPU its own time counts, that of replayed CUDA graphs; a call from Python is timed beside (:mod:`benchmarks.sampling`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Literal, NamedTuple

import torch

from benchmarks.frame import Recorded, print_table, run_benchmark
from benchmarks.ops_cases import OPS, R1, Layout, Run, Shape, prepare, prepare_copy, prepare_r1
from benchmarks.record import Spread
from benchmarks.sampling import Timed, Timing, first_line
from benchmarks.timing import in_turns, ratio
from rtil.devices import pick_device
from rtil.errors import UserError, unknown
from rtil.ops.selftest import using_tier

COPY, COMPOSITION, PEER = "copy", "composition", "peer-style"
TIERS = ("ref", "native", "ext")
OWN = "own"
DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


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
        limit_s: Seconds behind which no other case is begun: what is left out is named, the rest recorded.
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
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
    limit_s: float | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("repeats", "sample_ms", "limit_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} is {value}: valid are numbers above 0")
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
    """Yield all maps, one layout after the other."""
    for layout in options.layouts:
        for text in options.sizes or ["32x128x16", "32x64x32", *["16x64x256"] * (device.type == "cuda")]:
            for dtype in options.dtypes:
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


def ways_of(options: OpsOptions, own: bool) -> list[str]:
    """Return how a case is computed: where there are no tiers, by our own way; and the copy."""
    ours = [OWN] if own else options.tiers
    return [*ours, COMPOSITION, *[PEER] * (options.against is not None), COPY]


class Way(NamedTuple):
    """How a case is computed and timed.

    Attributes:
        timed: Its sampler.
        bytes_moved: Fewest that must be read and written; None where arithmetic is the limit.
    """

    timed: Timed
    bytes_moved: int | None = None


def prepared_ways(case: Case, options: OpsOptions, timing: Timing) -> tuple[dict[str, Way], dict[str, str]]:
    """Return the ways to compute a case, and the copy; and why others fail, as for lack of memory."""
    found, failed = {}, {}
    for name in ways_of(options, own=case.op == R1):
        with tier_set(name):
            try:
                run = prepared(case, name, timing.device)
                found[name] = Way(timing(run.call), run.bytes_moved)
            except RuntimeError as error:
                failed[name] = first_line(error)
    return found, failed


def tier_set(way: str) -> AbstractContextManager[None]:
    """Return what sets the tier of a way, if it has one."""
    return using_tier(way) if way in TIERS else nullcontext()


def sample(name: str, way: Way) -> float:
    """Return the seconds of one sample of a way."""
    with tier_set(name):
        return way.timed.sampler()


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
    device, started = pick_device(options.device), perf_counter()
    figures: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    left_out: list[str] = []
    timing = Timing(options.sample_ms / 1e3, device)
    with stream_on(device):
        for on in maps_of(options, device):
            rows = []
            for case in cases_of(options, on):
                if options.limit_s is not None and perf_counter() - started > options.limit_s:
                    left_out.append(f"{case}, {on}")
                    continue
                try:
                    of_case, failed = measured(case, options, timing)
                except RuntimeError as error:  # a kernel failed while it was timed: what was measured before is kept
                    failures[f"{case}, {on}"] = first_line(error)
                    print(f"{case}, {on} failed: {first_line(error)}", flush=True)
                    continue
                figures += of_case
                rows.append(as_row(case, options, device, {found["way"]: found for found in of_case}))
                failures |= {f"{case}, {on}, {name}": problem for name, problem in failed.items()}
            if rows:
                print_table([f"{on}", *columns_of(options, device)], rows)
    if left_out:
        print(f"left out after {options.limit_s:g} s: {len(left_out)}, from '{left_out[0]}' on")
    return {
        "device": str(device),
        "repeats": options.repeats,
        "sample_ms": options.sample_ms,
        "runs": figures,
        "failures": failures,
        "left_out": left_out,
    }


def measured(case: Case, options: OpsOptions, timing: Timing) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the figures of a case, and why ways of it failed; its maps and graphs are gone then."""
    ways, failed = prepared_ways(case, options, timing)
    seconds = in_turns({name: partial(sample, name, way) for name, way in ways.items()}, options.repeats)
    tell_problems(case, failed, ways)
    return figures_of(case, ways, seconds), failed


def stream_on(device: torch.device) -> AbstractContextManager[object]:
    """Return what makes a stream of a GPU current, as CUDA graphs are captured on any but the default one."""
    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()


def tell_problems(case: Case, failed: Mapping[str, str], ways: Mapping[str, Way]) -> None:
    """Print which ways failed and which have no CUDA graph."""
    for name, problem in failed.items():
        print(f"{case}, {case.on}: {name} failed: {problem}", flush=True)
    for name, way in ways.items():
        if way.timed.not_captured is not None:
            print(f"{case}, {case.on}: {name} timed from Python, as its capture failed: {way.timed.not_captured}")


def figures_of(case: Case, ways: Mapping[str, Way], seconds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return the figures of a case, one for each way, as JSON values.

    ``ms`` is the GPU's own time where ``eager_ms``, that of a call from Python, is beside it.
    """
    found = []
    for way, times in seconds.items():
        how, size = ways[way]
        figures: dict[str, Any] = {
            "op": case.op,
            "direction": case.direction,
            "size": "x".join(map(str, case.on.shape)),
            "dtype": case.on.dtype,
            "layout": case.on.layout,
            "way": way,
            "ms": Spread.of([1e3 * t for t in times]).as_json(),
        }
        if how.eager_s is not None:
            figures["eager_ms"] = float(f"{1e3 * how.eager_s:.4g}")
        if how.not_captured is not None:
            figures["not_captured"] = how.not_captured
        if size is not None:
            figures["gb_per_s"] = Spread.of([size / t / 1e9 for t in times]).as_json()
        copied = ways[COPY].bytes_moved if COPY in ways else None
        if size is not None and copied is not None and way != COPY:
            per_byte = [t / copied for t in seconds[COPY]]
            figures["share_of_copy"] = ratio(per_byte, [t / size for t in times]).as_json()
        for reference in (COMPOSITION, PEER, "native"):
            if way not in (COPY, reference, PEER) and reference in seconds:
                figures[f"times_faster_than_{reference}"] = ratio(seconds[reference], times).as_json()
        found.append(figures)
    return found


def columns_of(options: OpsOptions, device: torch.device) -> list[str]:
    """Return the heads of a table's columns behind the first."""
    ours = options.tiers[-1]
    eager = [f"{ours} eager ms"] * (device.type == "cuda")
    return [*(f"{way} ms" for way in ways_of(options, own=False)), *eager, f"{ours} GB/s", "of copy", "x composition"]


def as_row(
    case: Case, options: OpsOptions, device: torch.device, figures: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the table's row of a case; its bandwidth and ratio are of the last tier, in R1's case of the own way."""

    def median(way: str, name: str, form: str = ".3g") -> str:
        return format(figures[way][name]["median"], form) if name in figures.get(way, {}) else ""

    ours = OWN if case.op == R1 else options.tiers[-1]
    shown = [ours if way == options.tiers[-1] else way for way in ways_of(options, own=False)]
    eager = figures.get(ours, {}).get("eager_ms")
    return [
        str(case),
        *(median(way, "ms") for way in shown),
        *["" if eager is None else f"{eager:.3g}"] * (device.type == "cuda"),
        median(ours, "gb_per_s"),
        median(ours, "share_of_copy", ".0%"),
        median(ours, f"times_faster_than_{COMPOSITION}"),
    ]


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("ops", measure, OpsOptions, argv)
