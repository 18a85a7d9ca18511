"""Euclidean projection onto l1 balls (Duchi, Shalev-Shwartz, Singer and Chandra, ICML 2008, figure 1).

The point of the ball that is nearest to t is t with its entries drawn towards zero by theta, where theta is such that
the norm becomes the radius. With |t| sorted, u_1 >= u_2 >= ..,

    theta = (u_1 + .. + u_rho - radius) / rho,    rho = max {j : u_j > (u_1 + .. + u_j - radius) / j}.

That quotient grows with j up to rho and not beyond, so theta is its maximum. Sums and differences are float64: of 10^6
equal entries on a ball of radius 1 each is a millionth.
"""

import torch
from torch import Tensor

from rtil.devices import where_float64_is


@torch.no_grad()
def project_l1(t: Tensor, radius: Tensor | float) -> Tensor:
    """Return the nearest point of the l1 ball around zero, image by image.

    Args:
        t: [N, ...], finite.
        radius: Of the balls, >= 0: one number, or [N].

    Returns:
        Of t's shape and type, without gradient; t itself where it is inside.

    Example:
        >>> project_l1(torch.tensor([[3.0, -1.0], [0.25, 0.25]]), 1.0)
        tensor([[1.0000, 0.0000],
                [0.2500, 0.2500]])
    """
    rows = where_float64_is(t.flatten(1))
    one = torch.ones(len(t), 1, dtype=torch.float64, device=rows.device)
    radii = one * (radius.unsqueeze(1).to(rows.device) if isinstance(radius, Tensor) else radius)
    excess = rows.abs().sort(1, descending=True).values.double().cumsum(1) - radii
    inside = excess[:, -1:] <= 0
    theta = excess.div_(torch.arange(1, rows.shape[1] + 1, device=rows.device)).amax(1, keepdim=True)
    exact = rows.double()
    nearest = exact - torch.minimum(torch.maximum(exact, -theta), theta)
    return torch.where(inside, rows, nearest.to(t.dtype)).view_as(t).to(t.device)
