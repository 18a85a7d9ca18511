"""Pictures to train on and to invert: hardened reading, folders and zips, synthetic faces, training batches."""

from rtil.data.base import ImageDataset, Split
from rtil.data.cache import preload
from rtil.data.sets import open_dataset

__all__ = ["ImageDataset", "Split", "open_dataset", "preload"]
