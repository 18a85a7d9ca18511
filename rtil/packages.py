"""Packages that cannot be imported: missing, or there and broken, such as a torchvision of another torch."""

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import packages_distributions
from types import TracebackType

OURS = ("rtil", "ilo", "mganprior")
NEEDED = (
    *("pytorch_lightning", "torchmetrics", "torchvision", "lpips", "matplotlib", "scipy", "PIL", "tensorboard"),
    *("jsonargparse", "yaml", "safetensors", "filelock", "platformdirs", "tqdm", "numpy", "jinja2"),
)


def broken_package(error: Exception) -> str | None:
    """Return in one line which package cannot be imported and what to do; None for any other error."""
    name = _importing(error.__traceback__)
    if isinstance(error, ImportError) and error.name and (name is None or isinstance(error, ModuleNotFoundError)):
        name = error.name.partition(".")[0]
    if name is None or name in OURS or name in sys.stdlib_module_names:
        return None
    reason = (str(error).splitlines() or [""])[0][:200]
    return f"the package {name} cannot be imported ({reason}): {_mend(name, error)}; rtil doctor tells of all"


def examined() -> Mapping[str, str]:
    """Return of each package that is needed whether it can be imported, else why not."""
    return {name: _state(name) for name in NEEDED}


def _state(name: str) -> str:
    try:
        import_module(name)
    except Exception as error:  # a broken one can bring any
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}; {_mend(name, error)}"
    return "ok"


def _mend(name: str, error: Exception) -> str:
    known = packages_distributions().get(name, [name.replace("_", "-")])[0]
    again = "" if isinstance(error, ModuleNotFoundError) else "--force-reinstall "
    return f"pip install {again}{re.sub(r'[^A-Za-z0-9._-]', '', known)}"


def _importing(trace: TracebackType | None) -> str | None:
    """Return the package whose own statements were running when something failed, if that was its import."""
    name = None
    while trace is not None:
        frame = trace.tb_frame
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if frame.f_code.co_name == "<module>" and package not in (*OURS, "__main__"):
            name = package
        trace = trace.tb_next
    return name
