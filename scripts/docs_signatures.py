"""Shows of a frozen value or an error what it is made from: its fields."""

from __future__ import annotations

import inspect
from enum import Enum
from importlib import import_module

import griffe


class FieldSignatures(griffe.Extension):
    """Gives each class whose `__signature__` is made from its fields an `__init__` to show."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        """Complete all classes of the package."""
        for cls in _classes(pkg):
            if "__init__" in cls.members:
                continue
            module, _, name = cls.canonical_path.rpartition(".")
            signature = getattr(getattr(import_module(module), name, None), "__signature__", None)
            if isinstance(signature, inspect.Signature):
                cls.set_member("__init__", _maker(signature))


def _classes(module: griffe.Module) -> list[griffe.Class]:
    found = [member for member in module.members.values() if isinstance(member, griffe.Class)]
    for member in module.members.values():
        if isinstance(member, griffe.Module):
            found += _classes(member)
    return found


def _shown(default: object) -> str | None:
    if default is inspect.Parameter.empty:
        return None
    return f"{type(default).__name__}.{default.name}" if isinstance(default, Enum) else repr(default)


def _maker(signature: inspect.Signature) -> griffe.Function:
    kind = griffe.ParameterKind.positional_or_keyword
    fields = [
        griffe.Parameter(
            field.name,
            kind=kind,
            annotation=field.annotation,
            default=_shown(field.default),
        )
        for field in signature.parameters.values()
    ]
    return griffe.Function("__init__", parameters=griffe.Parameters(griffe.Parameter("self", kind=kind), *fields))
