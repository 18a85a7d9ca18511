"""``python -m docs.tutorials``: run every notebook and keep its outputs beside it."""

import time

import nbformat

from docs.tutorials.execute import NOTEBOOKS, executed

if __name__ == "__main__":
    for path in NOTEBOOKS:
        start = time.monotonic()
        nbformat.write(executed(path), path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s, {path.stat().st_size / 1000:.0f} kB")
