"""``python -m benchmarks.gpu_summary FOLDER``: what ``benchmarks/gpu.sh`` found, as summary.md.

Needs nothing but Python, so that it also tells what went wrong where torch is missing. ``--doctor`` prints the checks,
``--tiers`` the tiers that can be measured.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
AIM_SHARE_OF_COPY = 0.8
AT_MOST = "images/s at the rate of a convolution"
TIMED_OUT = (124, 137)
END_OF_TESTS = re.compile(r"=+ (?P<counts>\d+ .* in [\d.]+s.*?) =+")


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    folder, wish = Path(words[0]), words[1] if len(words) > 1 else ""
    if wish == "--tiers":
        print(",".join(tiers(read_object(folder / "doctor.json"))))
    elif wish == "--doctor":
        print(*checks(read_object(folder / "doctor.json")), sep="\n")
    else:
        text = "\n".join(summary(folder)) + "\n"
        (folder / "summary.md").write_text(text, encoding="utf-8")
        print(text)
    return 0


def summary(folder: Path) -> Iterator[str]:
    """Yield the lines of the summary."""
    doctor = read_object(folder / "doctor.json")
    gpus = ", ".join(f"{gpu['name']} ({gpu['arch']}, {gpu['memory_gib']} GiB)" for gpu in doctor.get("gpus", []))
    yield f"# benchmarks/gpu.sh on {gpus or 'no GPU'}"
    yield ""
    yield ", ".join(f"{name} {number}" for name, number in doctor.get("versions", {}).items()) or "no versions known"
    yield from section("Parts", ["part", "ended", "s"], [as_part(row) for row in read_rows(folder / "parts.jsonl")])
    yield "\n## Checks\n"
    yield from checks(doctor)
    yield from tests_of(folder / "log.txt")
    yield from bandwidths(read_rows(folder / "ops.jsonl"))
    trainings = read_rows(folder / "training.jsonl")
    yield from training_times(trainings)
    yield from training_phases(trainings)
    yield from inversion_rates(read_rows(folder / "inversion.jsonl"))


def tiers(doctor: Row) -> list[str]:
    """Return the tiers that can be measured: the compiled one where it is built for all that the machine has.

    A doctor who came to no end, for a kernel crashed or his time was over, may have built it.
    """
    if not doctor:
        return ["native", "ext"] if found_for_gpu() else ["native"]
    library = doctor.get("library", {})
    built = library.get("state") == "loaded" and (library["cuda"] or not doctor["gpus"])
    return ["native", "ext"] if built else ["native"]


def found_for_gpu() -> bool:
    """Return whether there are a GPU and a library for it; builds nothing."""
    try:
        import torch

        from rtil.ops import build
    except ImportError:
        return False
    try:
        return torch.cuda.is_available() and build.found(cuda=True) is not None
    except build.BuildError:
        return False


def as_part(row: Row) -> list[str]:
    """Return a part's row."""
    code = row["code"]
    ended = "no time left" if code is None else "ok" if code == 0 else "out of time" if code in TIMED_OUT else "FAILED"
    return [row["part"], ended, str(row["seconds"])]


def checks(doctor: Row) -> Iterator[str]:
    """Yield what ``rtil doctor`` found: the library, what runs, and self-tests against the reference."""
    if not doctor:
        yield "rtil doctor gave no report"
        return
    library = doctor["library"]
    built = "" if library["seconds"] is None else f", built in {library['seconds']} s"
    yield f"fused ops: {library['state']}, {'with' if library['cuda'] else 'without'} CUDA kernels{built}"
    if library["problem"]:
        yield f"    {library['problem']}"
    by_tier: dict[tuple[str, str], list[Row]] = {}
    for row in doctor["selftest"]:
        by_tier.setdefault((row["device"], row["tier"]), []).append(row)
    for (device, tier), rows in by_tier.items():
        yield f"self-tests {device} {tier}: {sum(row['ok'] for row in rows)} of {len(rows)} ok"
    for row in doctor["selftest"]:
        if not row["ok"]:
            found = row["complaint"] or f"error {row['error']}, limit {row['limit']}"
            yield f"    FAILED {row['op']} {row['device']} {row['dtype']} {row['tier']}: {found}"


def tests_of(log: Path) -> Iterator[str]:
    """Yield what failed in each process of pytest and how it ended, out of the log; nothing of one that was stopped."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []:
        name, _, rest = line.partition(": ")
        end = END_OF_TESTS.fullmatch(rest)
        if end or rest.startswith("FAILED tests/"):
            yield f"{name}: {end['counts'] if end else rest}"


def bandwidths(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the operations' times and bandwidths; those that miss the aim are marked."""
    if not rows:
        return
    figures = rows[-1]["figures"]
    cases: dict[tuple[str, ...], dict[str, Row]] = {}
    for run in figures["runs"]:
        key = (run["layout"], run["size"], run["dtype"], run["op"], run["direction"])
        cases.setdefault(key, {})[run["way"]] = run
    body = []
    for (layout, size, dtype, op, direction), ways in cases.items():
        ours = our_run(ways)
        share = median(ours, "share_of_copy")
        mark = "" if share is None or share >= AIM_SHARE_OF_COPY else " *"
        nchw = our_run(cases.get(("nchw", size, dtype, op, direction), {})) if layout == "nhwc" else {}
        body.append(
            [
                f"{op} {direction}",
                f"{size} {dtype} {layout}",
                ours.get("way", "none"),
                number(median(ours, "ms")) + " (eager)" * ("not_captured" in ours),
                number(ours.get("eager_ms")),
                number(median(ours, "gb_per_s")),
                "" if share is None else f"{share:.0%}{mark}",
                number(median(ways.get("copy", {}), "gb_per_s")),
                number(median(ours, "times_faster_than_native")),
                number(median(ours, "times_faster_than_composition")),
                number(nchw["ms"]["median"] / ours["ms"]["median"]) if nchw and ours else "",
            ]
        )
    head = ["operation", "map", "tier", "ms", "eager ms", "GB/s", "of copy", "copy GB/s"]
    title = f"Operations (* below {AIM_SHARE_OF_COPY:.0%} of the copy's bandwidth)"
    yield from section(title, [*head, "x native", "x composition", "x NCHW"], body)
    if any("eager_ms" in run for run in figures["runs"]):
        yield "\nms: the GPU's own time, of replayed CUDA graphs; eager ms: of a call from Python, the host's included"
    failures: dict[str, list[str]] = {}
    for name, problem in figures["failures"].items():
        failures.setdefault(problem, []).append(name)
    for problem, names in failures.items():
        yield f"\nFAILED {'; '.join(names)}: {problem}"
    if figures["left_out"]:
        yield f"\nno time for {len(figures['left_out'])} cases, from '{figures['left_out'][0]}' on"


def our_run(ways: Mapping[str, Row]) -> Row:
    """Return the run that is ours among the ways to compute a case, the compiled one if it can be; else none."""
    return next((ways[way] for way in ("ext", "native", "own") if way in ways), {})


def training_times(rows: Sequence[Row]) -> Iterator[str]:
    """Yield seconds per thousand images of every training."""
    body = []
    for row in rows:
        figures = row["figures"]
        vanilla = {run["tier"]: run["s_per_kimg"]["median"] for run in figures["runs"] if run["training"] == "vanilla"}
        for run in figures["runs"]:
            spent = run["s_per_kimg"]["median"]
            cost = number(spent / vanilla[run["tier"]]) if run["tier"] in vanilla else ""
            what = [network_of(figures), run["training"], run["tier"]]
            waits = str(sum(run["host_waits"].values()))
            rate, most = number(run["images_per_s"]["median"]), number(run.get("images_per_s_of_convolutions"))
            work = total_number(run.get("gflop_per_image", {}))
            body.append([*what, number(spent), rate, cost, str(run["peak_mb"]), waits, work, most])
    head = ["network", "training", "tier", "s/kimg", "images/s", "vanilla = 1", "peak MB", "host waits in a step"]
    yield from section("Training, lazy regularisers included", [*head, "GFLOP an image", AT_MOST], body)
    yield from convolution_rates(rows)


def training_phases(rows: Sequence[Row]) -> Iterator[str]:
    """Yield milliseconds per step by phase."""
    runs = [(network_of(row["figures"]), run) for row in rows for run in row["figures"]["runs"]]
    names = list(dict.fromkeys(name for _, run in runs for name in run["ms_per_step_by_phase"]))
    body = [
        [
            f"{network}, {run['training']}, {run['tier']}",
            *(number(run["ms_per_step_by_phase"].get(name)) for name in names),
        ]
        for network, run in runs
    ]
    yield from section("ms per step by phase (the GPU is waited for between phases)", ["training", *names], body)


def network_of(figures: Row) -> str:
    """Return what was trained, and whether cuDNN was left as torch has it."""
    return f"{figures['resolution']} px, batch {figures['batch']}" + ", plain cuDNN" * figures["plain_cudnn"]


def inversion_rates(rows: Sequence[Row]) -> Iterator[str]:
    """Yield ILO's steps per second, what a batch costs beside the smallest, and what its steps do at each cut."""
    body = []
    for row in rows:
        for run in row["figures"]["runs"]:
            way = run["way"] + ", CUDA graphs" * bool(row.get("machine", {}).get("cuda_graphs"))
            what = [f"{row['figures']['resolution']} px", way, str(run["batch"])]
            waits = " / ".join(str(sum(places.values())) for places in run["host_waits_by_cut"])
            work = " / ".join(total_number(by_type) for by_type in run.get("gflop_per_step_by_cut", []))
            body.append([*what, number(run["steps_per_s"]["median"]), waits, work])
    head = ["network", "way", "batch", "steps/s", "host waits in a step, by cut", "GFLOP of a step, by cut"]
    yield from section("Inversion (ILO)", head, body)
    for row in rows:
        yield ""
        for name, spread in row["figures"]["ratios"].items():
            yield f"- {name}: {number(spread['median'])} ({number(spread['low'])}-{number(spread['high'])})"
    yield from gained_by_graphs(rows)
    yield from convolution_rates(rows)


def gained_by_graphs(rows: Sequence[Row]) -> Iterator[str]:
    """Yield how many times as many steps a second there were with CUDA graphs, by batch."""
    rates: dict[bool, dict[tuple[str, int], float]] = {False: {}, True: {}}
    for row in rows:
        of_kind = rates[bool(row.get("machine", {}).get("cuda_graphs"))]
        of_kind |= {(run["way"], run["batch"]): run["steps_per_s"]["median"] for run in row["figures"]["runs"]}
    for (way, batch), rate in rates[True].items():
        if before := rates[False].get((way, batch)):
            yield f"- {way}, batch {batch}: CUDA graphs {number(rate / before)} times as many steps a second"


def convolution_rates(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the rates that a convolution alone reached, in each run of a benchmark."""
    found = [row["figures"]["convolution_tflop_per_s"] for row in rows]
    if found:
        each = (", ".join(f"{number(rate)} in {dtype}" for dtype, rate in rates.items()) for rates in found)
        yield f"\nTFLOP/s of a convolution alone, as measured beside: {'; '.join(each)}"


def section(title: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a headed Markdown table, or nothing without rows."""
    if not body:
        return
    yield f"\n## {title}\n"
    for row in (head, ["---"] * len(head), *body):
        yield f"| {' | '.join(row)} |"


def median(run: Mapping[str, Any], name: str) -> float | None:
    """Return the median of a figure, None if there is none."""
    return run[name]["median"] if name in run else None


def number(value: float | None) -> str:
    """Write a number to three digits, None as nothing."""
    return "" if value is None else f"{value:.3g}"


def total_number(by_type: Mapping[str, float]) -> str:
    """Write the sum of figures by type to three digits, none as nothing."""
    return number(sum(by_type.values()) if by_type else None)


def read_object(path: Path) -> Row:
    """Return the JSON object of a file; an empty one if the file is missing or cut off."""
    try:
        found: Row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return found


def read_rows(path: Path) -> list[Row]:
    """Return the objects of a file, one a line; none if it is missing."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
