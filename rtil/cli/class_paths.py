"""Objects of classes that a user names: ``module.Class``, or a table with the path of the class and its arguments."""

from collections.abc import Mapping
from typing import Any

from rtil.errors import UserError


def instance_of(base: type, given: str | Mapping[str, Any], option: str) -> Any:
    """Return an object of a class, a child of ``base``, with arguments checked against its types.

    Args:
        base: What it has to be.
        given: The class's path (its name alone, if it is known by then), or
            ``{"class_path": path, "init_args": {name: value}}``.
        option: What to call it in messages.

    Raises:
        UserError: There is no such class, or it does not take these arguments.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--object", type=base)
    try:
        return parser.instantiate(parser.parse_object({"object": given}))["object"]
    except Exception as error:
        reason = str(error).removeprefix('Parser key "object":') if isinstance(error, ArgumentError) else str(error)
        raise UserError(
            f"{option} {given} cannot be made ({' '.join(reason.split())}): give module.Class, or "
            "{class_path: module.Class, init_args: {name: value}}"
        ) from error
