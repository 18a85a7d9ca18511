"""Everything a training run depends on, as plain values with units in their names."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rtil.branches import AdditiveBranches, Estimator, additive_branches
from rtil.devices import Precision
from rtil.errors import UserError, unknown
from rtil.generators import GENERATORS
from rtil.generators.stylegan2 import check_channels, resolutions

DEFAULT_CHANNELS = {4: 128, 8: 128, 16: 64, 32: 32, 64: 32, 128: 32, 256: 16}


@dataclass
class TrainingConfig:
    """Settings of a training run.

    Args:
        arch: Architecture of generator and discriminator.
        rtil: Give the intermediate layers random input (RTIL); otherwise vanilla.
        data: ``synthetic``, or the path of a folder or uncompressed zip of pictures.
        resolution: Side of the pictures in pixels, a power of two of at least 8.
        kimg: Length of the whole training in thousands of images.
        batch: Images per step, in total.
        seed: Root seed of every draw.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Type of the main phases; ``auto`` takes bfloat16 where the hardware multiplies it faster.
        channels: {side: width} of generator and discriminator, for sides from 4 to the resolution.
        z_dim: Entries of the latent code z.
        w_dim: Entries of the style w.
        mapping_layers: Depth of the mapping network.
        lr: Adam's learning rate, before the correction for lazy regularisation.
        r1_gamma: Weight of R1; the penalty is r1_gamma / 2 times the squared gradient.
        r1_interval: Steps between R1 steps; the penalty is scaled by it.
        path_weight: Weight of the path length regulariser; 0 switches it off.
        path_interval: Steps between path length steps; the penalty is scaled by it.
        path_batch_shrink: The path length step uses batch / this many images.
        path_decay: Speed of the running mean path length.
        style_mixing: Probability that a sample takes its styles from two codes.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images.
        ema_rampup: The half-life is at most this fraction of the images seen.
        mirror: Show every picture also mirrored.
        sigma: Standard deviation of RTIL's z1.
        branch_weights: lambda of each branch: a list, ``uniform``, or ``paper`` (1/2 on the plain branch).
        estimator: ``sampled`` (one branch per sample) or ``all`` (every branch, every step).
        log_kimg: Thousands of images between two lines of the log.
        grid_kimg: Thousands of images between two grids of samples.
        snapshot_kimg: Thousands of images between two snapshots.
        checkpoint_kimg: Thousands of images between two checkpoints.
    """

    arch: str = "stylegan2"
    rtil: bool = False
    data: str = "synthetic"
    resolution: int = 32
    kimg: float = 200
    batch: int = 32
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    channels: dict[int, int] | None = None
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    lr: float = 0.0025
    r1_gamma: float = 0.1
    r1_interval: int = 16
    path_weight: float = 2.0
    path_interval: int = 8
    path_batch_shrink: int = 2
    path_decay: float = 0.01
    style_mixing: float = 0.9
    ema_halflife_kimg: float = 10
    ema_rampup: float = 0.05
    mirror: bool = True
    sigma: float = 1.0
    branch_weights: list[float] | Literal["uniform", "paper"] = "uniform"
    estimator: Estimator = "sampled"
    log_kimg: float = 5
    grid_kimg: float = 25
    snapshot_kimg: float = 50
    checkpoint_kimg: float = 25

    def __post_init__(self) -> None:
        if self.arch not in GENERATORS:
            raise unknown("architecture", self.arch, GENERATORS)
        sides = resolutions(self.resolution)
        self.channels = check_channels(self.channels or DEFAULT_CHANNELS, self.resolution)
        positive = ["kimg", "batch", "lr", "r1_interval", "path_interval", "path_batch_shrink", "ema_halflife_kimg"]
        positive += ["log_kimg", "grid_kimg", "snapshot_kimg", "checkpoint_kimg", "z_dim", "w_dim", "mapping_layers"]
        for name in positive:
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} {getattr(self, name)} is not valid: use a number above 0")
        for name in ["r1_gamma", "path_weight"]:
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"{name} {getattr(self, name)} is not valid: use a number >= 0")
        if not 0 <= self.style_mixing <= 1:
            raise UserError(f"style_mixing {self.style_mixing} is not valid: use a probability in [0, 1]")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed {self.seed} is not valid: use a whole number from 0 to 2^63 - 1")
        self.branches_for(len(sides))

    @property
    def total_images(self) -> int:
        """Images until the end, a whole number of batches."""
        return max(1, round(self.kimg * 1000 / self.batch)) * self.batch

    def branches_for(self, num_blocks: int) -> AdditiveBranches:
        """Return the branches of a generator with ``num_blocks`` blocks."""
        return additive_branches(self.rtil, num_blocks, self.sigma, self.branch_weights, self.estimator)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        values = asdict(self)
        values["channels"] = {str(side): width for side, width in (self.channels or {}).items()}
        return values
