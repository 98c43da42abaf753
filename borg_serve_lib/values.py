"""Frozen values for the way from process start to the first answer.

attrs makes better ones and is used wherever a session comes later or never. Importing it takes 24 ms, though, with
Python itself starting in 9 and borg's whole `serve` answering after 165: a server started for each backup of each
client by ssh cannot spend that on declaring a few classes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import inspect
    from typing import Any, ClassVar, TypeVar

    from typing_extensions import dataclass_transform as dataclass_transform  # noqa: PLC0414  # passed on

    Self = TypeVar("Self", bound="Value")
else:

    def dataclass_transform(**_: object) -> object:
        return lambda cls: cls


def declared_fields(cls: type) -> tuple[str, ...]:
    """Return the names of the fields that a class and its bases declare by annotations, in order, without ClassVars."""
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        for name, annotation in getattr(base, "__annotations__", {}).items():
            if not _is_of_the_class(annotation):
                names[name] = None
    return tuple(names)


def _is_of_the_class(annotation: object) -> bool:
    # The text of the source, or, without `from __future__ import annotations`, what it stands for.
    text = annotation if isinstance(annotation, str) else str(annotation)
    return text.removeprefix("typing.").startswith("ClassVar")


def bound_fields(cls: type, names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the values of all fields from a call's arguments and the class's defaults. Raises TypeError."""
    given = dict(zip(names, args, strict=False))
    if len(args) > len(names) or not kwargs.keys().isdisjoint(given) or not kwargs.keys() <= set(names):
        raise TypeError(f"{cls.__name__} takes the fields {', '.join(names)}")
    given.update(kwargs)
    try:
        # In the order of declaration, so that equal values look and hash alike.
        return {name: given[name] if name in given else getattr(cls, name) for name in names}
    except AttributeError as error:
        raise TypeError(f"{cls.__name__} needs the field {error.name}") from None


class FieldsSignature:
    """What `help` shows of a class: its fields, unless it has an `__init__` of its own."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        from inspect import Parameter, Signature

        maker = next(base for base in owner.__mro__ if "__init__" in vars(base))
        if "__signature__" not in vars(maker):
            raise AttributeError("__signature__")
        annotations: dict[str, object] = {}
        for base in reversed(owner.__mro__):
            annotations.update(vars(base).get("__annotations__", {}))
        return Signature(
            [
                Parameter(
                    name,
                    Parameter.POSITIONAL_OR_KEYWORD,
                    default=getattr(owner, name, Parameter.empty),
                    annotation=annotations[name],
                )
                for name in declared_fields(owner)
            ]
        )


@dataclass_transform(frozen_default=True)
class Value:
    """Base of frozen values: fields are declared by annotations, with defaults as class attributes."""

    __signature__ = FieldsSignature()

    _names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._names = declared_fields(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = self._names
        if len(args) == len(names) and not kwargs:  # most are made like this, and it takes a fifth of the time
            self.__dict__.update(zip(names, args, strict=True))
        else:
            self.__dict__.update(bound_fields(type(self), names, args, kwargs))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({fields})"

    def evolve(self: Self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return type(self)(**(self.__dict__ | changes))
