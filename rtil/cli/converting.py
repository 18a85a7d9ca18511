"""Conversions, opened and run; the options are in :mod:`rtil.cli.convert`."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rtil.cli.convert import ConvertOptions
from rtil.cli.reconstruction_files import sha256_of
from rtil.devices import pick_device
from rtil.errors import Notice, RunError, UserError
from rtil.evaluation.candidates import Budget
from rtil.generators import StyleGAN2Generator
from rtil.generators.base import weight_hash
from rtil.interop.foreign import read_foreign
from rtil.interop.rosinality_export import construction, rosinality_checkpoint, save_rosinality
from rtil.interop.self_test import invert_own, own_samples, sheet, usual_steps
from rtil.pictures import save_png
from rtil.snapshot import is_snapshot, load_snapshot, save_snapshot


class Import:
    """Another project's checkpoint, opened: it is known what it holds."""

    def __init__(self, options: ConvertOptions) -> None:
        self.options, path = options, Path(options.file)
        self.device = pick_device(options.device)
        if not os.path.isfile(path):
            what = "is a folder" if os.path.isdir(path) else "does not exist"
            raise UserError(f"{path} {what}: give the file of a checkpoint")
        if is_snapshot(path):
            raise UserError(f"{path} is a snapshot already: use it as it is, or add --to rosinality")
        self.foreign = read_foreign(path)
        blocks, resolution = self.foreign.generator.num_blocks, self.foreign.generator.resolution
        self.steps = Budget(steps=options.steps or [usual_steps(resolution)]).per_round(blocks)

    def plan(self) -> Iterator[str]:
        """Say what would be done."""
        yield from self.foreign.lines()
        yield f"into {self.options.target}"

    def run(self) -> None:
        """Write the snapshot, and test it."""
        options, target = self.options, self.options.target
        print(*self.foreign.lines(), sep="\n")
        info = self.foreign.info | {"sha256": sha256_of(self.foreign.path)} | _card(options)
        save_snapshot(target, self.foreign.generator, info)
        print(f"wrote {target}", flush=True)
        if lacking := [f"--{name}" for name in ("licence", "source") if name not in info]:
            what = f"no {' and no '.join(lacking)}: whoever gets the snapshot should know its origin and terms"
            warnings.warn(what, Notice, stacklevel=2)
        if options.self_test:
            self._test()

    def _test(self) -> None:
        generator, target = self.foreign.generator.to(self.device), self.options.target
        pictures = own_samples(generator, self.options.seed)
        grid = target.with_name(f"{target.stem}-samples.png")
        save_png(sheet(pictures), grid)
        print(f"wrote {grid}: {len(pictures)} samples", flush=True)
        found = invert_own(generator, pictures[:1], self.steps, self.options.seed)
        steps = ",".join(map(str, self.steps))
        print(
            f"self-test: sample 0 inverted by ILO in {steps} steps: {found.start:.2f} dB at the start, "
            f"{found.reached:.2f} dB reached, {found.seconds:.0f} s",
            flush=True,
        )
        if not found.reached > found.start:
            what = "the inversion came no nearer to the prior's own sample: look at its samples, or give more --steps"
            warnings.warn(what, Notice, stacklevel=2)


class Export:
    """A prior that is to be written as rosinality's, opened."""

    def __init__(self, options: ConvertOptions) -> None:
        self.options = options
        self.snapshot = load_snapshot(options.file)
        rosinality_checkpoint(self.snapshot.generator)

    def plan(self) -> Iterator[str]:
        """Say what would be done."""
        yield f"{self.snapshot.path} in rosinality's layout into {self.options.target}"

    def run(self) -> None:
        """Write it, and read it back."""
        generator, target = self.snapshot.generator, self.options.target
        save_rosinality(target, generator, self.snapshot.info | _card(self.options))
        if self.options.self_test and weight_hash(read_foreign(target).generator) != self.snapshot.weight_hash:
            raise RunError(f"{target} does not read back as what was written: the disk may be damaged")
        assert isinstance(generator, StyleGAN2Generator)  # noqa: S101  rosinality_checkpoint
        print(f"wrote {target}: g_ema and latent_avg, for {construction(generator)}")


def _card(options: ConvertOptions) -> dict[str, Any]:
    given = {"licence": options.licence, "source": options.source}
    return {name: value for name, value in given.items() if value is not None}
