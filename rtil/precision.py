"""The types in which layers can compute, by name; without torch, so that settings name them at no cost."""

from typing import Literal

Precision = Literal["auto", "float32", "bfloat16"]
