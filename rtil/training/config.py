"""Everything a training run depends on, as plain values with units in their names; one class per architecture."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from rtil.errors import UserError, unknown
from rtil.layout import (
    DEFAULT_CHUNK,
    BranchKind,
    BranchWeights,
    Estimator,
    NormOrder,
    Upsampling,
    check_channels,
    resolutions,
)
from rtil.precision import Precision
from rtil.schema import typed_table
from rtil.training.growing import GrowthPreset, GrowthSchedule, growth_schedule

if TYPE_CHECKING:
    from rtil.branches import Branches

DEFAULT_CHANNELS = {4: 128, 8: 128, 16: 64, 32: 32, 64: 32, 128: 32, 256: 16}
BESIDE = ("log", "grid", "snapshot", "checkpoint", "quality", "study")
"""What happens beside the steps, every so many kimg, and changes none of them."""
PROCESSES = ("devices", "num_nodes", "strategy", "accumulate")
"""How a batch is shared out, which changes a training by rounding only."""
BY_SIDE = ("channels", "stages", "batches")
"""Settings {side: value}, whose keys JSON turns into text."""


@dataclass
class TrainingConfig(ABC):
    """Settings that every architecture has.

    Args:
        arch: Architecture of generator and discriminator: stylegan2 or pggan; other settings depend on it.
        rtil: Give the intermediate layers random input (RTIL); otherwise vanilla.
        branches: Kind of that input: ``additive`` (Gaussian noise after blocks, for ILO) or ``mixture`` (several codes
            mixed at a cut, for mGANprior).
        data: ``synthetic``, or the path of a folder or uncompressed zip of pictures.
        resolution: Side of the pictures in pixels, a power of two of at least 8.
        kimg: Length of the whole training in thousands of images.
        seed: Root seed of every draw.
        device: ``auto`` (``cuda`` where there is one, else ``cpu``), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        devices: Devices of this kind on each machine, a process for each, which share every batch: N of them train
            what one does, up to rounding. ``auto`` is as many as ``torchrun`` or SLURM started, else all GPUs, else 1.
        num_nodes: Machines, each with as many devices.
        strategy: ``auto`` (as many processes as devices, none beside the only one) or ``ddp`` (a group of processes,
            even of one).
        accumulate: Turns in which each device takes its share of a batch: less memory, more time.
        precision: Type of the main phases; ``auto`` takes bfloat16 where the hardware multiplies it faster.
        activation_checkpointing: Keep each block's input only and compute the block again in the backward pass: less
            memory, more time, the same numbers. For large pictures.
        channels: {side: width} of generator and discriminator, for sides from 4 to the resolution.
        z_dim: Entries of the latent code z.
        lr: Adam's learning rate (StyleGAN2: before the correction for lazy regularisation).
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images.
        ema_rampup: The half-life is at most this fraction of the images seen; 0 averages nothing.
        mirror: Show every picture also mirrored.
        workers: Processes that read pictures, where there are too many for memory; null is one for each core, at most
            4; 0 reads between the steps.
        sigma: Standard deviation of z1, at least 0 (branches: additive).
        codes: Codes of each branch, the first one 1 (branches: mixture).
        mixture_side: Side in pixels of the features at which codes mix (branches: mixture); null is resolution / 8, at
            least 4.
        chunk: Codes whose activations are kept at one time (branches: mixture); fewer take less memory and more time.
        branch_weights: lambda of each branch: a list, ``uniform``, or ``paper`` (1/2 on the plain branch).
        estimator: ``sampled`` (one branch per sample, or per step where D compares a whole batch) or ``all`` (every
            branch, every step).
        log_kimg: Thousands of images between two lines of the log.
        grid_kimg: Thousands of images between two grids of samples.
        snapshot_kimg: Thousands of images between two snapshots.
        checkpoint_kimg: Thousands of images between two checkpoints.
        quality_kimg: Thousands of images between two measurements of quality, each of which takes about a minute on a
            CPU; null measures nothing. See ``rtil quality``.
        study_kimg: Thousands of images between two inversions of the same eight validation pictures by ILO, half a
            minute on a CPU at 32 px; null inverts nothing.
    """

    arch: str = "stylegan2"
    rtil: bool = False
    branches: BranchKind = "additive"
    data: str = "synthetic"
    resolution: int = 32
    kimg: float = 200
    seed: int = 0
    device: str = "auto"
    devices: int | Literal["auto"] = 1
    num_nodes: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    accumulate: int = 1
    precision: Precision = "auto"
    activation_checkpointing: bool = False
    channels: dict[int, int] | None = None
    z_dim: int = 512
    lr: float = 0.001
    ema_halflife_kimg: float = 10
    ema_rampup: float = 0.05
    mirror: bool = True
    workers: int | None = None
    sigma: float = 1.0
    codes: list[int] = field(default_factory=lambda: [1, 10, 20])
    mixture_side: int | None = None
    chunk: int = DEFAULT_CHUNK
    branch_weights: BranchWeights = "uniform"
    estimator: Estimator = "sampled"
    log_kimg: float = 5
    grid_kimg: float = 25
    snapshot_kimg: float = 50
    checkpoint_kimg: float = 25
    quality_kimg: float | None = None
    study_kimg: float | None = None

    def __post_init__(self) -> None:
        resolutions(self.resolution)
        for name in BY_SIDE:
            if getattr(self, name, None) is not None:
                setattr(self, name, {int(side): value for side, value in getattr(self, name).items()})
        self.channels = check_channels(self.channels or DEFAULT_CHANNELS, self.resolution)
        self._check_choices_and_finiteness()
        self._check(lambda x: x > 0, "a number above 0", "kimg", "ema_halflife_kimg", "z_dim", "chunk")
        self._check(lambda x: 0 < x <= 1, "a number above 0, at most 1", "lr")
        self._check(bool, "'synthetic', or the path of pictures", "data")
        self._check(lambda x: x > 0, "a number above 0", "log_kimg", "grid_kimg", "snapshot_kimg", "checkpoint_kimg")
        self._check(lambda x: x is None or x > 0, "a number above 0, or null", "quality_kimg", "study_kimg")
        self._check(lambda x: x >= 0, "a number >= 0", "ema_rampup", "sigma")
        self._check(lambda x: x is None or x >= 0, "a whole number >= 0, or null", "workers")
        self._check(lambda x: x == "auto" or x >= 1, "a whole number of 1 or more, or auto", "devices")
        self._check(lambda x: x >= 1, "a whole number of 1 or more", "num_nodes", "accumulate")
        self._check(lambda x: 0 <= x < 2**63, "a whole number from 0 to 2^63 - 1", "seed")
        self.make_branches()

    def _check_choices_and_finiteness(self) -> None:
        hints = get_type_hints(type(self))
        for name, value in asdict(self).items():
            if get_origin(hints[name]) is Literal and value not in get_args(hints[name]):
                raise unknown(name, value, get_args(hints[name]))
            numbers = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
            if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
                raise UserError(f"{name} {value} is not valid: use finite numbers")

    def _check(self, is_valid: Callable[[Any], bool], wanted: str, *names: str) -> None:
        for name in names:
            if not is_valid(getattr(self, name)):
                raise UserError(f"{name} {getattr(self, name)} is not valid: use {wanted}")

    @property
    def changeable(self) -> set[str]:
        """Names of the settings that may change when a run goes on."""
        of_machine = {"device", "chunk", "activation_checkpointing", "workers", *PROCESSES}
        return {"kimg", *of_machine, *(f"{what}_kimg" for what in BESIDE)}

    @property
    @abstractmethod
    def total_images(self) -> int:
        """Images until the end, a whole number of batches."""

    @abstractmethod
    def batch_at(self, images_seen: int) -> int:
        """Return the size of the batch that starts after so many images."""

    @abstractmethod
    def check_processes(self, count: int) -> None:
        """Check that so many processes can share every batch evenly.

        Raises:
            UserError: They cannot.
        """

    def make_branches(self) -> "Branches":
        """Return the branches that are trained."""
        from rtil.branches import additive_branches, mixture_branches  # torch, which --help does not wait for

        if self.branches == "additive":
            num_blocks = len(resolutions(self.resolution))
            return additive_branches(self.rtil, num_blocks, self.sigma, self.branch_weights, self.estimator)
        side, weights = self.mixture_side, self.branch_weights
        return mixture_branches(self.rtil, self.resolution, self.codes, side, weights, self.estimator, self.chunk)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, of which :func:`config_of` makes the same settings."""
        values = asdict(self)
        for name in BY_SIDE:
            if values.get(name) is not None:
                values[name] = {str(side): value for side, value in values[name].items()}
        return values


@dataclass
class StyleGAN2Config(TrainingConfig):
    """Settings of StyleGAN2.

    The defaults reach a quality in the fewest minutes on a processor: many small steps, a strong R1, and neither path
    length nor mixing (docs/results.md). Karras et al. and RTIL train otherwise; see configs/train/*_256.yaml.

    Args:
        batch: Images per step, in total.
        w_dim: Entries of the style w.
        mapping_layers: Depth of the mapping network.
        r1_gamma: Weight of R1; the penalty is r1_gamma / 2 times the squared gradient.
        r1_interval: Steps between R1 steps; the penalty is scaled by it.
        path_weight: Weight of the path length regulariser; 0 switches it off.
        path_interval: Steps between path length steps; the penalty is scaled by it.
        path_batch_shrink: The path length step uses batch / this many images.
        path_decay: Share of a step's path length in the running mean, above 0 and at most 1.
        style_mixing: Probability that a sample takes its styles from two codes.
    """

    lr: float = 0.002
    batch: int = 8
    w_dim: int = 512
    mapping_layers: int = 2
    r1_gamma: float = 0.5
    r1_interval: int = 16
    path_weight: float = 0.0
    path_interval: int = 8
    path_batch_shrink: int = 2
    path_decay: float = 0.01
    style_mixing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(lambda x: x > 0, "a number above 0", "batch", "r1_interval", "path_interval", "path_batch_shrink")
        self._check(lambda x: x > 0, "a number above 0", "w_dim", "mapping_layers")
        self._check(lambda x: x >= 0, "a number >= 0", "r1_gamma", "path_weight")
        self._check(lambda x: 0 <= x <= 1, "a probability in [0, 1]", "style_mixing")
        self._check(lambda x: 0 < x <= 1, "a number above 0, at most 1", "path_decay")

    @property
    def total_images(self) -> int:
        """Images until the end, a whole number of batches."""
        return max(1, round(self.kimg * 1000 / self.batch)) * self.batch

    def batch_at(self, images_seen: int) -> int:
        """Return the size of every batch."""
        return self.batch

    def check_processes(self, count: int) -> None:
        """Check that so many processes can share every batch and path length step; see :class:`TrainingConfig`."""
        from rtil.discriminators.stylegan2 import MAX_GROUP, group_size
        from rtil.training.ranks import check_shares

        shares = count * self.accumulate
        check_shares(
            f"batch {self.batch}", self.batch, group_size(self.batch), shares, f"use a multiple of {MAX_GROUP * shares}"
        )
        if self.path_weight:
            n = max(1, self.batch // self.path_batch_shrink)
            step = f"the path length step of batch {self.batch} with path_batch_shrink {self.path_batch_shrink}"
            check_shares(step, n, 1, shares, f"let it have a multiple of {shares}")


@dataclass
class PGGANConfig(TrainingConfig):
    """Settings of the progressively grown GAN (Karras et al. 2018).

    The networks are by default those of the RTIL authors. Their training differs from these defaults, which are for
    short ones: learning rate 0.001, growth ``rtil``, estimator ``all``, an average over a fixed number of steps; see
    configs/train/pggan_rtil_256.yaml.

    Args:
        growth: Lengths and batches of the stages, and nothing else: ``default`` (equally many images, half of that at 4
            px, half as many again at the end), ``rtil`` (as many steps in each) or ``karras``; they are scaled to kimg.
        stages: {side: kimg} of every stage in place of the preset's; they add up to kimg. The first half of a stage
            fades in, but for the first.
        batches: {side: images per step} in place of the preset's.
        gp_weight: Weight of the gradient penalty.
        drift: Weight of the squared scores of reals.
        reset_adam: Forget Adam's moments at the start of a stage (Karras).
        fade_reals: Show reals in the resolution that the generator fades from, too (Karras).
        normalize_latent: Scale z to unit mean square (Karras).
        upsampling: ``bilinear`` (RTIL) or ``nearest`` (Karras).
        norm_order: Pixel norm ``before_act`` (RTIL) or ``after_act`` (Karras).
        torgb_gain: Gain of the ToRGBs: 1.414 (RTIL) or 1 (Karras).
        d_pixel_norm: Pixel norm in the discriminator, too (RTIL).
    """

    arch: str = "pggan"
    branches: BranchKind = "mixture"
    lr: float = 0.003
    growth: GrowthPreset = "default"
    stages: dict[int, float] | None = None
    batches: dict[int, int] | None = None
    gp_weight: float = 10.0
    drift: float = 0.001
    reset_adam: bool = False
    fade_reals: bool = False
    normalize_latent: bool = False
    upsampling: Upsampling = "bilinear"
    norm_order: NormOrder = "before_act"
    torgb_gain: float = 2**0.5
    d_pixel_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(lambda x: x > 0, "a number above 0", "torgb_gain")
        self._check(lambda x: x >= 0, "a number >= 0", "gp_weight", "drift")
        self._check(lambda x: x == 1, "1 with pggan, whose D compares a whole batch, and more --devices", "accumulate")
        self.schedule()

    @property
    def changeable(self) -> set[str]:
        """Names of the settings that may change when a run goes on; not kimg, from which the stages follow."""
        return super().changeable - {"kimg"}

    def schedule(self) -> GrowthSchedule:
        """Return the stages of growing."""
        return growth_schedule(self.growth, self.resolution, self.kimg, self.batches, self.stages)

    @property
    def total_images(self) -> int:
        """Images until the end, a whole number of batches in every stage."""
        return self.schedule().total_images

    def batch_at(self, images_seen: int) -> int:
        """Return the size of the batch that starts after so many images."""
        return self.schedule().batch_at(images_seen)

    def check_processes(self, count: int) -> None:
        """Check that so many processes can share the batch of every stage; see :class:`TrainingConfig`."""
        from rtil.training.ranks import check_shares

        for stage in self.schedule().stages:
            what = f"batch {stage.batch} at {stage.side} px"
            check_shares(what, stage.batch, 1, count, f"set --batches to multiples of {count}")


CONFIGS: Mapping[str, type[TrainingConfig]] = {"stylegan2": StyleGAN2Config, "pggan": PGGANConfig}
"""The settings by the name of their architecture."""


def config_of(settings: Mapping[str, Any]) -> TrainingConfig:
    """Return the settings of a run from JSON values, as :meth:`TrainingConfig.to_json` makes them.

    Raises:
        UserError: An architecture, name or value is not valid.
    """
    arch = settings.get("arch", TrainingConfig.arch)
    if not isinstance(arch, str) or arch not in CONFIGS:
        raise unknown("architecture", arch, CONFIGS)
    known = [f.name for f in fields(CONFIGS[arch])]
    for name in settings:
        if name not in known:
            raise unknown(f"setting of {arch}", name, known)
    kinds = get_type_hints(CONFIGS[arch])
    try:
        config = CONFIGS[arch](**settings)
    except (TypeError, ValueError, AttributeError) as error:
        if not isinstance(error, UserError):
            typed_table(settings, kinds, "the settings")  # says which of them it was
        raise
    typed_table(settings, kinds, "the settings")
    return config
