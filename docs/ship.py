"""``python -m docs.ship VANILLA RTIL``: make the shipped pair from two snapshots of equal training.

Both must agree in everything but ``rtil``. Weights are rounded to float16; quality is measured on what is shipped.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from rtil.data import open_dataset
from rtil.files import write_text
from rtil.machine import processor, versions
from rtil.pretrained import FOLDER, NAMES, SCHEME
from rtil.quality.features import PooledFeatures
from rtil.quality.measure import Quality
from rtil.runs import newest_snapshot
from rtil.sampling import branches_of
from rtil.snapshot import load_snapshot
from rtil.snapshot_header import CHECKSUM
from rtil.tensor_files import write_tensors
from rtil.training.config import BESIDE

MOST_BYTES = 4 * 10**6
BESIDE_THE_POINT = {"device", *(f"{what}_kimg" for what in BESIDE)}
"""Settings of a training that change nothing in a prior."""


def ship(sources: list[Path]) -> dict[str, Any]:
    """Write both priors, and return their card.

    Raises:
        ValueError: They differ in more than ``rtil``, or a file is too large.
    """
    infos = []
    for name, source in zip(NAMES, sources, strict=True):
        path = newest_snapshot(source) if source.is_dir() else source
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        info = {key: value for key, value in json.loads(metadata["info"]).items() if key not in BESIDE_THE_POINT}
        infos.append(info)
        half = {key: t.to(torch.float16) if t.is_floating_point() else t for key, t in tensors.items()}
        metadata.pop(CHECKSUM, None)
        write_tensors(FOLDER / f"{name}.safetensors", half, metadata | {"info": json.dumps(info)})
        if (size := (FOLDER / f"{name}.safetensors").stat().st_size) > MOST_BYTES:
            raise ValueError(f"{name} takes {size} bytes: at most {MOST_BYTES} are shipped")
    differing = {key for key in infos[0] if infos[0][key] != infos[1].get(key)}
    if differing != {"rtil"}:
        raise ValueError(f"the pair differs in {sorted(differing)}: only rtil may differ")
    quality = Quality(open_dataset(infos[0]["data"], infos[0]["resolution"], "train"), PooledFeatures("alex"))
    card: dict[str, Any] = {
        "settings": {key: value for key, value in infos[0].items() if key != "rtil"},
        "quality": f"{quality.count} samples against {len(quality.reference)} training pictures, AlexNet's features",
        "measured on": {**processor(), **versions()},
        "reals": quality.of_reals().distances._asdict(),
        "linear prior": quality.of_linear_prior().distances._asdict(),
    }
    for name in NAMES:
        snapshot = load_snapshot(SCHEME + name)
        branches = branches_of(snapshot) if snapshot.info["rtil"] else None
        card[name] = {
            "sha256": hashlib.sha256(snapshot.path.read_bytes()).hexdigest(),
            "bytes": snapshot.path.stat().st_size,
            "weight_hash": snapshot.weight_hash,
            **{line.of: line.distances._asdict() for line in quality.of_generator(snapshot.generator, branches)},
        }
    return card


if __name__ == "__main__":
    made = ship([Path(word) for word in sys.argv[1:]])
    write_text(FOLDER / "card.json", json.dumps(made, indent=1) + "\n")
    print(json.dumps(made, indent=1))
