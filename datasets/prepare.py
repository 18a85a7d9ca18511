"""Prepare pictures for training: ``python datasets/prepare.py SOURCE OUT.zip``, as ``rtil prepare``."""

import sys

from rtil.cli.prepare import main

if __name__ == "__main__":
    sys.exit(main())
