"""Serves the exploring page: to this machine alone unless told otherwise, and without telling anybody of it."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rtil.errors import RunError
from rtil.snapshot import Snapshot

QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
MOST_WAITING = 8
FONTS = ("system-ui", "sans-serif")


@contextmanager
def serving(priors: Mapping[str, Snapshot], host: str, port: int, most_seconds: float, most_mb: float) -> Iterator[str]:
    """Serve the page within the ``with`` block, which gets its address.

    Args:
        priors: Snapshots of one resolution, by name.
        host: Address to listen at.
        port: Port; 0 is any that is free.
        most_seconds: Of an inversion.
        most_mb: Of an upload.

    Raises:
        RunError: The port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="rtil-explore-") as folder:
        os.environ |= QUIET | {"GRADIO_TEMP_DIR": folder}  # gradio reads them when it is imported
        import gradio as gr

        from rtil.explore.page import build

        most_bytes = int(most_mb * 1e6)
        page = build(priors, most_seconds, most_bytes).queue(max_size=MOST_WAITING, default_concurrency_limit=2)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port or _free_port(host),
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=most_bytes,
                theme=gr.themes.Base(font=FONTS, font_mono=("ui-monospace", "monospace")),
                footer_links=[],
            )
        except OSError as error:
            raise RunError(f"port {port} of {host} is taken: give another --port, or 0 for any") from error
        try:
            yield address
        finally:
            page.close(verbose=False)


def _free_port(host: str) -> int:
    import socket

    with socket.socket() as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])
