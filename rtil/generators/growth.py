"""Progressive growing (Karras et al. 2018, section 2): networks that show a part of their blocks."""

from typing import Any

from rtil.errors import UserError


class Growing:
    """What PGGAN's generator and its discriminator share: how many blocks are shown, and how far the last one is.

    Attributes:
        channels: {side: width} of all blocks, from 4 px to the final side.
        resolution: Side of the pictures now shown.
        num_blocks: Blocks now shown.
        fade: How far the last of them has faded in, in [0, 1].
    """

    channels: dict[int, int]
    resolution: int
    num_blocks: int
    fade: float

    def grow(self, blocks: int | None = None, fade: float = 1.0) -> None:
        """Show the blocks of the lower sides only.

        Args:
            blocks: How many, from 1 (4x4) to all; None is all.
            fade: Share of the last one in the picture, 0..1; below 1 the block before it shows too.

        Raises:
            UserError: If there are not so many blocks, or nothing to fade from.
        """
        most = len(self.channels)
        blocks = most if blocks is None else blocks
        if not 1 <= blocks <= most:
            raise UserError(f"{blocks} blocks cannot be shown: this {max(self.channels)} px network has 1..{most}")
        if not 0 <= fade <= 1:
            raise UserError(f"fade {fade} is not valid: use a number from 0 (block before) to 1 (block itself)")
        if blocks == 1 and fade != 1:
            raise UserError(f"fade {fade} is not valid for the first block, which has none before it: use 1")
        self.num_blocks, self.fade, self.resolution = blocks, float(fade), 2 ** (blocks + 1)

    def config_with(self, **own: Any) -> dict[str, Any]:
        """Return constructor arguments as plain JSON values, of the growth reached too, with the network's own."""
        return {
            "resolution": max(self.channels),
            "channels": {str(side): width for side, width in self.channels.items()},
            **own,
            "blocks": self.num_blocks,
            "fade": self.fade,
        }
