"""``rtil explore``: a page in the browser to try priors on: measure, watch them invert side by side, move z1.

    $ pip install "rtil[demo]"
    $ rtil explore

Only this machine reaches it, unless ``--host`` says otherwise; nothing is told to anybody, and what was uploaded goes
with the process.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtil.cli.common import Prepared, run_command
from rtil.errors import UserError

HERE = "127.0.0.1"
MOST_PORT = 65535


@dataclass
class ExploreOptions:
    """Try priors in the browser.

    Args:
        checkpoints: name=PATH, once or more, of one resolution; null is the newest vanilla and RTIL runs in runs/train,
            or the shipped pair where there is no run.
        host: Address to listen at. Any other than that of this machine lets all who reach it use its processor.
        port: Port; 0 is any that is free.
        most_seconds: An inversion that takes longer ends with what it shows.
        most_mb: Largest upload in megabytes.
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
    """

    checkpoints: dict[str, str] | None = None
    host: str = HERE
    port: int = 7860
    most_seconds: float = 120.0
    most_mb: float = 10.0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.port <= MOST_PORT:
            raise UserError(f"port is {self.port}: valid is 0 to {MOST_PORT}")
        for name in ("most_seconds", "most_mb"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}: valid is a number above 0")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_page, ExploreOptions, argv, "rtil explore")


def open_page(options: ExploreOptions) -> Prepared:
    """Open the priors, which must agree in resolution."""
    import importlib.util

    from rtil.devices import pick_device
    from rtil.priors import chosen_pair
    from rtil.snapshot import load_snapshot

    if importlib.util.find_spec("gradio") is None:
        raise UserError("the page needs gradio: pip install 'rtil[demo]'")
    device = pick_device(options.device)
    priors = {name: load_snapshot(Path(path), device) for name, path in chosen_pair(options.checkpoints).items()}
    sides = {name: snapshot.generator.resolution for name, snapshot in priors.items()}
    if len(set(sides.values())) != 1:
        text = ", ".join(f"{name} {side} px" for name, side in sides.items())
        raise UserError(f"checkpoints differ in resolution ({text}): give those of one")

    def serve() -> None:
        from rtil.explore.serve import serving

        with serving(priors, options.host, options.port, options.most_seconds, options.most_mb) as address:
            print(f"explore at {address} (Ctrl-C ends it)", flush=True)
            if options.host != HERE:
                print(f"warning: whoever reaches {options.host} can use it", file=sys.stderr, flush=True)
            wait()

    return Prepared([f"prior {name}: {snapshot.path}" for name, snapshot in priors.items()], serve)


def wait() -> None:
    """Wait until somebody stops the process."""
    import threading

    threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
