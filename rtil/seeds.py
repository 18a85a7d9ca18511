"""Every random draw has its own seed, derived from (root seed, purpose, index).

No code in this project touches torch's global random state. A draw names what it is for, so that adding one
draw never shifts another, resuming needs no saved state, and batch composition cannot change a result.
"""

import hashlib

import torch


def derive_seed(root: int, purpose: str, *index: int | str) -> int:
    """Return a 63-bit seed that depends on all of its arguments.

    Args:
        root: The user's ``--seed``.
        purpose: What is drawn, for instance ``"train/z"``.
        index: Position of the draw: images seen, image name, round, ...

    Example:
        >>> derive_seed(0, "train/z", 32) == derive_seed(0, "train/z", 32)
        True
        >>> derive_seed(0, "train/z", 32) == derive_seed(0, "train/z", 64)
        False
    """
    text = repr((int(root), purpose, *index)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(root: int, purpose: str, *index: int | str) -> torch.Generator:
    """Return a fresh CPU generator seeded by :func:`derive_seed`.

    Draws are made on the CPU and moved, so that every device sees the same numbers.
    """
    return torch.Generator().manual_seed(derive_seed(root, purpose, *index))
