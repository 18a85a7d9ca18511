"""``python -m rtil.weights lpips``: fetch the ImageNet backbones that LPIPS needs, once."""

import argparse
import sys

from rtil.errors import UserError
from rtil.files import cache_folder
from rtil.weights.fetch import fetch_lpips


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m rtil.weights", description=__doc__)
    parser.add_argument("what", choices=["lpips"], help="lpips: convolutions of AlexNet and VGG16, 64 MB to download")
    parser.parse_args(arguments)
    try:
        written = fetch_lpips()
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")
    if not written:
        print(f"LPIPS weights are on this machine (looked in {cache_folder()} and in torchvision's folder)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
