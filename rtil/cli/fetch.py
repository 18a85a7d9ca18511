"""``python -m rtil.weights lpips``: fetch the ImageNet backbones that LPIPS needs, once."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rtil.cli.common import Prepared, run_command
from rtil.files import cache_folder


@dataclass
class FetchOptions:
    """Fetch the convolutions of AlexNet and VGG16, 64 MB to download, where they are not on this machine."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_fetching, FetchOptions, argv, "python -m rtil.weights lpips")


def open_fetching(options: FetchOptions) -> Prepared:
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
