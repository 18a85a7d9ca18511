"""A training of seconds."""

from rtil.training.config import config_of

CLOCKS = {"log_kimg": 0.04, "grid_kimg": 9, "snapshot_kimg": 9, "checkpoint_kimg": 0.04}


def config(faces, kimg, **changes):
    small = {"channels": {4: 8, 8: 8, 16: 8}, "z_dim": 16}
    if changes.get("arch") == "pggan":
        small |= {"batches": {4: 8, 8: 8, 16: 8}, "codes": [1, 3]}
    else:
        small |= {"mapping_layers": 2, "w_dim": 16, "batch": 8}
    data = {"data": str(faces), "resolution": 16, "kimg": kimg, "rtil": True, "device": "cpu"}
    return config_of(data | small | CLOCKS | changes)
