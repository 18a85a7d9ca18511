"""``rtil quality``: measure the samples of a prior, branch by branch, against its training pictures."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rtil.cli.common import Prepared, run_command
from rtil.errors import UserError
from rtil.layout import LpipsNet

if TYPE_CHECKING:
    from rtil.quality.measure import QualityLine


@dataclass
class QualityOptions:
    """Measure how far samples are from training pictures.

    Args:
        snapshot: The prior: a run folder, a snapshot, another project's checkpoint, shipped:vanilla or shipped:rtil;
            null is the newest training in runs/train, or shipped:rtil where there is none.
        data: Training pictures: synthetic, or a folder or uncompressed zip; null is what the prior was trained on.
        samples: Pictures of each line. Distances of different numbers of samples cannot be compared.
        net: Backbone of LPIPS whose features are compared: alex or vgg.
        inception: File of Inception weights, torch-fidelity's weights-inception-2015-12-05-6726825d.pth, in place of
            net: the Frechet distance is then FID, the kernel distance KID.
        linear: Measure samples of the linear prior too.
        seed: Root seed.
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
        out: CSV file to write, too.
    """

    snapshot: Path | None = None
    data: str | None = None
    samples: int = 2000
    net: LpipsNet = "alex"
    inception: Path | None = None
    linear: bool = True
    seed: int = 0
    device: str = "auto"
    out: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_quality, QualityOptions, argv, "rtil quality")


def open_quality(options: QualityOptions) -> Prepared:
    """Open prior, pictures and network."""
    from rtil.data import open_dataset
    from rtil.devices import pick_device
    from rtil.priors import chosen_prior
    from rtil.quality.features import PooledFeatures, inception
    from rtil.quality.measure import Quality, check_count, table
    from rtil.sampling import branches_of
    from rtil.snapshot import load_snapshot

    device = pick_device(options.device)
    snapshot = load_snapshot(chosen_prior(options.snapshot), device)
    data = options.data or snapshot.info.get("data")
    if data is None:
        raise UserError(f"{snapshot.path} does not say what it was trained on: give --data")
    ds = open_dataset(str(data), snapshot.generator.resolution, "train")
    check_count(options.samples, ds)
    network = PooledFeatures(options.net) if options.inception is None else inception(options.inception)
    branches = branches_of(snapshot) if snapshot.info.get("rtil") else None

    def measure() -> None:
        quality = Quality(ds, network, options.samples, options.seed, device)
        lines = [*quality.of_generator(snapshot.generator, branches), quality.of_reals()]
        if options.linear:
            lines.append(quality.of_linear_prior())
        by = "FID and KID" if options.inception else f"features of LPIPS' {options.net}"
        print(
            f"{snapshot.path}: {options.samples} samples against {len(quality.reference)} pictures of {ds.name}, {by}"
        )
        print(*table(lines), sep="\n")
        if options.out is not None:
            write_lines(lines, options.out)

    return Prepared([f"measure {options.samples} samples of {snapshot.path} against {ds.name}"], measure)


def write_lines(lines: "Sequence[QualityLine]", path: Path) -> None:
    """Write a measurement as CSV, atomically."""
    from rtil.files import atomic_path
    from rtil.quality.distances import Distances

    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["of", *Distances._fields])
        writer.writerows([line.of, *line.distances] for line in lines)


if __name__ == "__main__":
    sys.exit(main())
