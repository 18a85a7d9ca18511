"""Pickles in the place of models: nothing in them runs: one line, exit code 2, nothing lost.

Numbers are those of the table in docs/faults/models.md.
"""

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from rtil.cli.convert import main as convert
from rtil.cli.eval import main as evaluate
from rtil.cli.measure import main as measure
from rtil.cli.quality import main as quality
from rtil.cli.reconstruct import main as reconstruct
from rtil.cli.sample import main as sample
from rtil.cli.train import main as train
from rtil.errors import UserError
from rtil.quality.features import inception
from rtil.snapshot import load_snapshot
from rtil.weights.classifiers import read_weights
from tests.faults import models
from tests.faults.fuzz import TRIES


def test_40_no_pickle_runs_anything_wherever_a_model_is_read(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, touched = tmp_path / "pickles", tmp_path / "touched"
    folder.mkdir()
    written = models.canaries(folder, touched)
    tried, library, each = 0, 3, 8

    def command(main: Callable[..., int], *words: str) -> Callable[[Path], None]:
        def door(path: Path) -> None:
            assert main([word.replace("PATH", str(path)) for word in words]) == 2
            assert path.name in capsys.readouterr().err

        return door

    photo = ("--input", "faces/0.png", "--fit", "--task", "cs", "--rate", "0.1")
    doors: list[Callable[[Path], object]] = [
        load_snapshot,
        read_weights,
        inception,
        command(sample, "--snapshot", "PATH"),
        command(quality, "--snapshot", "PATH"),
        command(convert, "PATH", "--out", "x.safetensors"),
        command(convert, "PATH", "--to", "rosinality", "--out", "x.pt"),
        command(measure, *photo, "--out", "y.safetensors", "--snapshot", "PATH"),
        command(reconstruct, *photo, "--snapshot", "PATH"),
        command(evaluate, "--task", "inversion", "--checkpoints", "a=PATH"),
        command(train, "--out", "run", "--resume", "PATH"),
    ]
    for n, path in enumerate(written):
        for m, door in enumerate(doors):
            if m >= library and (n + m) % each and TRIES < 500:
                continue  # commands take their time; each sees some of the pickles, all of them where many are tried
            with contextlib.suppress(UserError):
                door(path)
            tried += 1
    assert not touched.exists()
    assert tried >= 120
    with capsys.disabled():
        print(f"\ncanaries: {tried} times read by {len(doors)} doors, executed {int(touched.exists())}")


def test_40_the_canaries_sing_where_they_are_unpickled(tmp_path: Path) -> None:
    """So that the test above can fail."""
    import pickle

    (tmp_path / "pickles").mkdir()
    for path in models.canaries(tmp_path / "pickles", tmp_path / "touched"):
        if path.suffix == ".pkl" and "nested" not in path.name:
            pickle.loads(path.read_bytes())  # noqa: S301
            assert (tmp_path / "touched").exists(), path
            (tmp_path / "touched").unlink()


def test_12_a_pickle_that_asks_for_memory_gets_none(tmp_path: Path) -> None:
    bomb = b"\x80\x04N" + b"r" + struct.pack("<I", 2**31) + b"."  # LONG_BINPUT: the unpickler in C takes 16 GB
    (tmp_path / "a.pkl").write_bytes(bomb)
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError):
        load_snapshot(tmp_path / "a.pkl")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
