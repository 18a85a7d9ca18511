"""What the tests of documents share: the blocks of a page, and options that make its commands small."""

import re

from rtil.weights.backbones import find_backbone

SMALL_NETWORK = "--resolution 16 --channels {4:8,8:8,16:8} --mapping_layers 2 --z_dim 16 --w_dim 16 --batch 8"
SMALL_PGGAN = "--resolution 16 --channels {4:8,8:8,16:8} --z_dim 16 --batches {4:8,8:8,16:8}"
SMALL = {
    "rtil train --arch pggan": f"{SMALL_PGGAN} --kimg 0.048 --device cpu",
    "rtil train": f"{SMALL_NETWORK} --kimg 0.032 --device cpu",
    "rtil quality": "--samples 64 --no_linear",
    "rtil eval --method ilo --images 8": "--images 2 --steps 2 --device cpu --lpips none --no_linear",
    "rtil eval --method ilo --task": "--images 2 --steps 2 --device cpu --lpips none --no_linear",
    "rtil eval --method ilo,csgm --task cs --": "--images 2 --steps 2 --device cpu --lpips none --no_linear",
    "rtil eval --config configs/eval/classifier.yaml": "--steps 2 --device cpu --classifier_side 32",
    "rtil eval --config classifier": "--steps 2 --device cpu --classifier_side 32",
    "rtil eval": "--images 3 --steps 2 --device cpu --lpips none",
    "rtil study": "",
    "rtil merge": "",
    "rtil report": "",
    "rtil prepare own": "",
    "rtil prepare": "--resolution 16",
    "rtil sample": "--count 2 --device cpu",
    "rtil measure": "",
    "rtil reconstruct": "--steps 2 --device cpu",
    "rtil render": "--device cpu",
    "rtil convert": "--steps 1 --device cpu",
    "rtil doctor": "",
}
"""Options appended to a command that starts so, the first of them; they win over what the page says."""
LANGUAGES = ("bash", "python")
"""What runs; a block in another language, or in none, is text."""
SCRIPTS = {"python train.py": "rtil train", "python eval.py": "rtil eval", "python datasets/prepare.py": "rtil prepare"}
NEED_A_NETWORK = ["rtil weights lpips"]
NEED_LPIPS = [] if find_backbone("alex") else ["rtil quality"]


def blocks(page: str, language: str) -> list[str]:
    """Return the code of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def commands(page: str) -> list[str]:
    """Return the commands of a page that can run here, one for each line, continued ones joined."""
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", "").splitlines() if line]
    return [line for line in lines if not line.startswith(tuple(NEED_A_NETWORK + NEED_LPIPS))]


def small(command: str) -> list[str]:
    """Return the words that make a command small."""
    for script, name in SCRIPTS.items():
        command = command.replace(script, name)
    return next(options for start, options in SMALL.items() if command.startswith(start)).split()
