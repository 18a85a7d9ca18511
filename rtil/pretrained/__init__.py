"""The pair of priors that comes with the package: vanilla and RTIL StyleGAN2, equally trained on the synthetic faces.

They open by name wherever a snapshot does: ``shipped:vanilla``, ``shipped:rtil``. The files hold the moving average in
float16; ``card.json`` says how it was trained, its quality, and the SHA-256 of each file. ``python -m docs.ship`` makes
all of it from two training runs.
"""

from collections.abc import Sequence
from pathlib import Path

from rtil.errors import UserError

FOLDER = Path(__file__).resolve().parent
SCHEME = "shipped:"
NAMES = ("vanilla", "rtil")


def shipped_names() -> Sequence[str]:
    """Return the names under which the priors open."""
    return [SCHEME + name for name in NAMES]


def path_of(snapshot: Path | str) -> Path:
    """Return the file of a name such as ``shipped:rtil``, and any other path as it is.

    Raises:
        UserError: No prior of that name is shipped.
    """
    text = str(snapshot)
    if not text.startswith(SCHEME):
        return Path(snapshot)
    name = text.removeprefix(SCHEME)
    if name not in NAMES:
        raise UserError(f"no prior '{text}' is shipped: valid are {', '.join(shipped_names())}")
    return FOLDER / f"{name}.safetensors"
