"""``rtil weights lpips``: fetch the ImageNet backbones that LPIPS needs, once."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rtil.cli.common import Prepared, run_command
from rtil.files import cache_folder


@dataclass
class WeightsOptions:
    """Fetch weights that are not ours where they are not on this machine.

    Args:
        name: lpips, the convolutions of AlexNet and VGG16: 64 MB to download.
    """

    name: Literal["lpips"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_fetching, WeightsOptions, argv, "rtil weights")


def open_fetching(options: WeightsOptions) -> Prepared:
    """Say where the weights go."""
    from rtil.weights.fetch import fetch_lpips

    def fetch() -> None:
        written = fetch_lpips()
        for path in written:
            print(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")
        if not written:
            print(f"LPIPS weights are on this machine (looked in {cache_folder()} and in torchvision's folder)")

    return Prepared([f"fetch what is missing into {cache_folder()}, or torchvision's folder"], fetch)


if __name__ == "__main__":
    sys.exit(main())
