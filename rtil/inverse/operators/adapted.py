"""How colour pictures enter a physics that expects other ones: grey, complex, or one channel at a time.

Nothing is guessed: a scanner's measurements may be of a grey picture or of one colour channel, and only who measured
knows. So both are said, as two answers:

    colour   ``rgb``          the three channels, as they are
             ``grey``         one channel, the luma 0.299 R + 0.587 G + 0.114 B; colours are left to the prior
             ``channelwise``  each channel as a picture of its own, through the same physics
    values   ``real``         as they are
             ``complex``      the same numbers of a complex type: imaginary part 0
             ``two-channel``  likewise, with real and imaginary part as two channels, as deepinv's MRI has them
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rtil.errors import UserError, unknown
from rtil.inverse.operators.colorize import LUMA

Colour = Literal["rgb", "grey", "channelwise"]
Values = Literal["real", "complex", "two-channel"]


class Adapted:
    """An object with ``A`` that takes colour pictures [N, 3, H, W], around one that takes others.

    Calling it measures with the noise of the other one, which is drawn as that one draws it.

    Args:
        foreign: With ``A``, such as a physics of deepinv.
        colour: See the module.
        values: See the module.

    Attributes:
        name: For reports: ``MRI (grey, two-channel)``.
        noise_model: The other one's, or None.

    Raises:
        UserError: colour or values are not valid, or do not fit each other.

    Example:
        >>> class Spectrum:
        ...     def A(self, x):  # complex pictures [N, 1, H, W]
        ...         return torch.fft.fft2(x, norm="ortho")
        >>> Adapted(Spectrum(), colour="channelwise", values="complex").A(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 3, 1, 8, 8])
    """

    def __init__(self, foreign: Any, colour: Colour = "rgb", values: Values = "real") -> None:
        for kind, given, valid in (("colour", colour, get_args(Colour)), ("values", values, get_args(Values))):
            if given not in valid:
                raise unknown(kind, given, valid)
        if values == "two-channel" and colour == "rgb":
            raise UserError("values 'two-channel' are of one channel: use colour 'grey' or 'channelwise' with them")
        self.foreign, self.colour, self.values = foreign, colour, values
        self.name = f"{type(foreign).__name__} ({colour}, {values})"
        self.noise_model = getattr(foreign, "noise_model", None)

    def A(self, x: Tensor) -> Any:
        """Measure pictures [N, 3, H, W] without noise."""
        return self._through(self.foreign.A, x)

    def __call__(self, x: Tensor) -> Any:
        """Measure pictures [N, 3, H, W] with noise."""
        return self._through(self.foreign, x)

    def entering(self, x: Tensor) -> Tensor:
        """Return pictures [N, 3, H, W] as they enter the physics; channelwise 3 N of them."""
        if self.colour == "grey":
            x = (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        elif self.colour == "channelwise":
            x = x.flatten(0, 1)[:, None]
        if self.values == "real":
            return x
        return torch.complex(x, torch.zeros_like(x)) if self.values == "complex" else torch.cat([x, 0 * x], 1)

    def _through(self, measure: Callable[[Tensor], Any], x: Tensor) -> Any:
        y = measure(self.entering(x))
        return y if self.colour != "channelwise" else _per_picture(y, len(x))


def _per_picture(y: Any, pictures: int) -> Any:
    """Give measurements of channels [3 N, ...] the shape [N, 3, ...]."""
    if isinstance(y, Tensor):
        return y.unflatten(0, (pictures, -1))
    return [_per_picture(y[i], pictures) for i in range(len(y))]
