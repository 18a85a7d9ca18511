"""A griffe extension: docstrings as mkdocs understands them.

Sphinx's roles become links to what is meant where the docstring stands, if the site has a place for it, and an example
of doctest becomes a section of examples.
"""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(attr|class|data|func|meth|mod):`~?(\.?)([\w.]+)`")
EXAMPLE = re.compile(r"^Example:(?=\n +>>>)", re.MULTILINE)
PACKAGES = ("rtil", "ilo", "mganprior")


class Roles(griffe.Extension):
    """Turns ``:class:`X``` into a link to X."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite a package's docstring, which is no object to griffe."""
        self.on_object(obj=pkg)

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring is not None:
            text = EXAMPLE.sub("Examples:", obj.docstring.value)
            obj.docstring.value = ROLE.sub(lambda role: link(obj, *role.groups()), text)


def link(obj: griffe.Object, role: str, dot: str, name: str) -> str:
    """Return a link to what a docstring of obj calls by that name; to the class, where it is a field of one."""
    path = f"{obj.module.path}.{name}" if dot else meant(obj, name)
    path = path.rpartition(".")[0] if role == "attr" else path
    return f'<autoref identifier="{path}" optional><code>{name}</code></autoref>'


def meant(obj: griffe.Object, name: str) -> str:
    """Return the full path of what has that name in obj, in its class and what that inherits, or in its module."""
    first, dot, rest = name.partition(".")
    scope = None if first in PACKAGES else obj
    while scope is not None:
        if first in scope.all_members:
            return str(scope.all_members[first].canonical_path) + dot + rest
        scope = scope.parent
    return name
