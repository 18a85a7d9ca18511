"""What the files of measurements and results hold, against what they should: tables by type, tensors by shape.

The checksum of a file shows chance damage only: whoever makes a file can make its checksum, too. Messages lack the
file's name, which :func:`rtil.inverse.sealed.content_of` puts before them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.schema import typed_table

TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.int64, torch.int32, torch.uint8)
"""What files of ours have ever held, and a checksum can be taken of."""


def table_of(values: Mapping[str, Any], kinds: Mapping[str, Any], where: str, optional: Sequence[str] = ()) -> Any:
    """Return a table of the types that belong to its names; others are left out.

    Raises:
        UserError: A name is missing, or a value is of another type.
    """
    missing = [name for name in kinds if name not in values and name not in optional]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}")
    return typed_table({name: values[name] for name in kinds if name in values}, kinds, where)


def tensor_of(tensors: Mapping[str, Tensor], name: str, shape: Sequence[int | None], dtype: torch.dtype) -> Tensor:
    """Return a tensor of a type and shape.

    Args:
        tensors: Of the file.
        name: Which one.
        shape: Its shape; None stands for any number of 1 or more, and a last ``...`` for any further ones.
        dtype: Its type.

    Raises:
        UserError: There is none, or another one.
    """
    if name not in tensors:
        raise UserError(f"the tensor {name} is missing")
    t = tensors[name]
    fits = t.ndim == len(shape) and all(n == m if m is not None else n > 0 for n, m in zip(t.shape, shape, strict=True))
    if not fits or t.dtype != dtype:
        valid = ", ".join("n" if m is None else str(m) for m in shape)
        raise UserError(f"{name} is {_short(t.dtype)} {list(t.shape)}: valid is {_short(dtype)} [{valid}]")
    return t


def check_finite(name: str, t: Tensor, images: Sequence[int] | None = None) -> None:
    """Raise UserError where a tensor [N, ...] holds NaN or infinity.

    Args:
        name: What messages call it.
        t: The tensor.
        images: Those of the N that count; None are all.
    """
    broken = (~t.isfinite()).flatten(1).any(1) if t.ndim > 1 else ~t.isfinite()
    found = [n for n in broken.nonzero().flatten().tolist() if images is None or n in images]
    if found:
        raise UserError(f"{name} holds NaN or infinity in images {found[:10]}: every entry must be finite")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
