"""Names for things: one small registry, and the error that an unknown name gets."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from releq_gym.plain_numbers import is_real, is_whole

T = TypeVar("T")


PLAIN: dict[str, tuple[str, Callable[[object], bool]]] = {
    "int": ("a whole number", is_whole),
    "float": ("a number", is_real),
    "bool": ("True or False", lambda value: isinstance(value, bool)),
    "str": ("a string", lambda value: isinstance(value, str)),
}
"""What a field of a simple type may be given, in words and as a check."""


class UnknownNameError(ValueError):
    """A name that nothing is registered under; says what is allowed and what is nearest.

    Args:
        kind: What the name is of.
        name: What was given.
        choices: What is known; a list or tuple stays in its order, anything else is sorted.
        hint: What else can be done.
    """

    def __init__(self, kind: str, name: object, choices: Iterable[str], hint: str = ""):
        in_order = isinstance(choices, list | tuple)
        self.kind, self.name, self.hint = kind, name, hint
        self.choices = list(choices) if in_order else sorted(choices)
        folded = {choice.lower(): choice for choice in self.choices}
        typed = str(name).lower()
        begun = [choice for choice in folded if choice.startswith(typed)] if typed else []
        nearest = begun or difflib.get_close_matches(typed, folded, n=1, cutoff=0.5)
        suggestion = f" Did you mean {folded[nearest[0]]!r}?" if nearest else ""
        parts = [part.partition("=")[0].strip() for part in typed.split(",")]
        if len(parts) > 1 and folded.keys() >= set(parts):
            suggestion = " Several are given one by one, without commas."
        apart = any("," in choice for choice in self.choices)
        listed = ", ".join(map(repr, self.choices) if apart else self.choices) or "none"
        super().__init__(
            f"Unknown {kind} {name!r}.{suggestion} Known: {listed}.{' ' + hint if hint else ''}"
        )

    def __reduce__(self):
        """Rebuild from the parts, so that the error crosses process borders."""
        return (UnknownNameError, (self.kind, self.name, self.choices, self.hint))


class Registry(Generic[T]):
    """Maps names to objects that register themselves when their file is imported.

    Every module of ``package`` is imported at the first look-up, so that a new entry is one new
    file in that folder and nothing else.

    Args:
        kind: What an entry is called in messages, for instance ``"reward"``.
        package: The package whose modules hold the entries; None where they stand beside it.
        hint: What else can be done where a name is unknown.
    """

    def __init__(self, kind: str, package: str | None = None, hint: str = ""):
        self.kind, self.package, self.hint = kind, package, hint
        self._entries: dict[str, T] = {}
        self._discovered = package is None

    def register(self, name: str) -> Callable[[T], T]:
        """Returns the decorator that files its argument under ``name``; refuses duplicates."""

        def file_entry(entry: T) -> T:
            known = self._entries.get(name)
            if known is not None and _origin(known) != _origin(entry):
                raise ValueError(f"The {self.kind} {name!r} is registered already; use a new name.")
            self._entries[name] = entry
            return entry

        return file_entry

    def __getitem__(self, name: str) -> T:
        """The entry called ``name``.

        Raises:
            UnknownNameError: Where there is none.
        """
        if name not in self:
            raise UnknownNameError(self.kind, name, self._entries, self.hint)
        return self._entries[name]

    def make(self, name: Any, /, **kwargs: Any) -> Any:
        """What is called ``name``, built with its parameters; a callable is returned as it is.

        Args:
            name: Of a registered dataclass, or a dataclass or an object of the user's own.
            **kwargs: The dataclass's fields.

        Raises:
            UnknownNameError: Where nothing has that name.
            ValueError: For an unknown or a missing parameter, parameters beside an object, or
                something that is neither a name nor callable.
        """
        if isinstance(name, str):
            return self._build(name, self[name], kwargs)
        if isinstance(name, type):
            return self._build(name.__name__, name, kwargs)
        if kwargs:
            raise ValueError(
                f"{self.kind}_kwargs go with a name or a class; {name!r} carries its own "
                "parameters. Make a function a frozen dataclass whose fields they are."
            )
        if not callable(name):
            raise ValueError(f"{self.kind}={name!r} is neither a name nor a callable.")
        return name

    def _build(self, name: str, factory: Any, kwargs: Mapping[str, Any]) -> Any:
        if not hasattr(factory, "__dataclass_fields__"):
            if isinstance(factory, type):
                raise ValueError(
                    f"The {self.kind} {name!r} is a plain class; make it a frozen dataclass, "
                    f"or give an object of it ({self.kind}={name}(...)) or a function."
                )
            if kwargs:
                raise ValueError(
                    f"The {self.kind} {name!r} is a function, which takes no parameters; make "
                    "it a frozen dataclass whose fields they are."
                )
            return factory
        allowed = [field.name for field in dataclasses.fields(factory)]
        unknown = [key for key in kwargs if key not in allowed]
        if unknown:
            raise ValueError(
                f"The {self.kind} {name!r} has no parameter {unknown[0]!r}; "
                f"it takes {', '.join(allowed) or 'none'}."
            )
        needed = [
            field.name
            for field in dataclasses.fields(factory)
            if field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
            and field.name not in kwargs
        ]
        if needed:
            raise ValueError(
                f"The {self.kind} {name!r} needs {', '.join(needed)}; pass "
                f"{self.kind}_kwargs={{{needed[0]!r}: ...}}."
            )
        try:
            made = factory(**kwargs)
        except TypeError:
            self._check_types(name, factory, kwargs)
            raise
        self._check_types(name, factory, kwargs)
        return made

    def _check_types(self, name: str, factory: Any, kwargs: Mapping[str, Any]) -> None:
        """Refuses what a field of a simple type cannot hold, which would fail much later."""
        for field in dataclasses.fields(factory):
            stated = getattr(field.type, "__name__", str(field.type))
            types = [one for one in stated.split(" | ") if one != "None"]
            if field.name not in kwargs or not types or not PLAIN.keys() >= set(types):
                continue
            value = kwargs[field.name]
            optional = value is None and "None" in stated
            if not optional and not any(PLAIN[one][1](value) for one in types):
                allowed = " or ".join(PLAIN[one][0] for one in types)
                raise ValueError(
                    f"The {self.kind} {name!r} takes {field.name}={value!r}, which has to be "
                    f"{allowed}."
                )

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if name not in self._entries:
            self._discover()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def names(self) -> list[str]:
        """All names, sorted."""
        self._discover()
        return sorted(self._entries)

    def _discover(self) -> None:
        if self._discovered or self.package is None:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._discovered = True


def typed(kind: str, name: str) -> Any:
    """What somebody types on a command line: ``"package.module:name"`` is imported.

    Names that stand in a file, which may be somebody else's, are not: an import runs code.

    Args:
        kind: What it is wanted for, for instance ``"cost"``.
        name: Of that form, or a registered one, which is returned as it is.

    Raises:
        ValueError: Where it cannot be imported.
    """
    if ":" in name:
        return imported(kind, name)
    if "." in name:  # no registered name has one
        raise ValueError(
            f"The {kind} {name!r} has to be a registered name or read 'package.module:name', with "
            "a colon. What it is made from, such as a file, goes into its arguments."
        )
    return name


def imported(kind: str, path: str, name: str = "name") -> Any:
    """What ``"package.module:name"`` names.

    Args:
        kind: What it is wanted for, for instance ``"net"``.
        path: Module and name.
        name: What the second half is called in messages.

    Raises:
        ValueError: Where it cannot be imported, whatever its module raises.
    """
    module, _, attribute = path.partition(":")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever a module of the user's raises
        raise ValueError(
            f"The {kind} {path!r} could not be imported ({type(error).__name__}: {error}). It has "
            f"to read 'package.module:{name}', with the package installed, on PYTHONPATH, or for "
            "a command in the current folder."
        ) from error
    if hasattr(found, attribute):
        return getattr(found, attribute)
    nearest = difflib.get_close_matches(attribute, vars(found), n=1)
    suggestion = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(
        f"The {kind} {path!r} could not be imported: {module} has no {attribute!r}.{suggestion} It "
        f"has to read 'package.module:{name}'."
    )


def named_arguments(
    argument: str, given: Mapping[str, Any] | None, taken: Sequence[str] = ()
) -> dict[str, Any]:
    """Further arguments, checked to be that and none of those that are passed by themselves.

    Args:
        argument: That holds them, such as ``"cost_kwargs"``.
        given: Names and values; None means none.
        taken: Names that are arguments of their own.

    Raises:
        ValueError: If they are no dict, or one is among ``taken``.
    """
    if not isinstance(given, Mapping | None):
        raise ValueError(f"{argument}={given!r} has to be a dict of names and values.")
    for name in taken:
        if name in (given or {}):
            raise ValueError(f"{argument} does not take {name!r}; pass {name}= itself.")
    return dict(given or {})


def _origin(entry: object) -> tuple[object, object]:
    """Where an entry was defined: a cell that runs again may register it again."""
    definition = getattr(entry, "build", entry)
    return (
        getattr(definition, "__module__", None),
        getattr(definition, "__qualname__", id(definition)),
    )
