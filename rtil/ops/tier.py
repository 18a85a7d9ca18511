"""Which implementation of an operation runs: ``RTIL_OPS=ref|native|auto``."""

import os

from rtil.errors import unknown

TIERS = ("ref", "native", "auto")


def active_tier() -> str:
    """Return ``ref`` or ``native``; ``auto`` means the fastest that is there."""
    wanted = os.environ.get("RTIL_OPS", "auto")
    if wanted not in TIERS:
        raise unknown("RTIL_OPS tier", wanted, TIERS)
    return "native" if wanted == "auto" else wanted
