"""The solvers by name: those of this project, and those that installed packages register.

A package adds a solver by an entry point of the group ``rtil.solvers``, whose name is the method's and whose value is
its class, a :class:`rtil.inverse.solver.Solver`:

    [project.entry-points."rtil.solvers"]
    mine = "my_package:MySolver"
"""

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from rtil.errors import UserError, unknown
from rtil.inverse.settings import SolverSettings

if TYPE_CHECKING:
    from rtil.inverse.solver import Solver

GROUP = "rtil.solvers"
BUILT_IN = {
    "ilo": ("ilo.ilo:ILO", "ilo.settings:ILOSettings"),
    "csgm": ("ilo.csgm:CSGM", "ilo.settings:CSGMSettings"),
    "pulse": ("ilo.pulse:PULSE", "ilo.settings:PULSESettings"),
    "langevin": ("ilo.langevin:Langevin", "ilo.settings:LangevinSettings"),
    "multicut": ("ilo.multicut:MultiCut", "ilo.settings:MultiCutSettings"),
    "sparse": ("ilo.sparse:SparseDeviation", "ilo.settings:SparseSettings"),
    "mganprior": ("mganprior.mganprior:MGANPrior", "mganprior.settings:MGANPriorSettings"),
}
"""{name: (its solver, its settings)}; the settings can be had without the solver, and so without torch."""


def method_names() -> list[str]:
    """Return the names of all solvers, this project's first."""
    return [*BUILT_IN, *_plugins()]


def settings_class(name: str) -> type[SolverSettings]:
    """Return the class of a solver's settings.

    Raises:
        UserError: An unknown name, or the package of that solver cannot be loaded.
    """
    if name in BUILT_IN:
        return _load(BUILT_IN[name][1])
    return solver_class(name).Settings


def solver_class(name: str) -> "type[Solver]":
    """Return the class of a solver.

    Raises:
        UserError: An unknown name, or the package of that solver cannot be loaded.
    """
    if name in BUILT_IN:
        return _load(BUILT_IN[name][0])
    plugins = _plugins()
    if name not in plugins:
        raise unknown("method", name, [*BUILT_IN, *plugins])
    try:
        found = plugins[name].load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"method '{name}' ({plugins[name].value}) cannot be loaded ({error}): mend or remove its package"
        ) from error
    from rtil.inverse.solver import Solver

    if not (isinstance(found, type) and issubclass(found, Solver)):
        raise UserError(f"method '{name}' ({plugins[name].value}) is no rtil.inverse.solver.Solver: mend its package")
    return found


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in BUILT_IN}


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
