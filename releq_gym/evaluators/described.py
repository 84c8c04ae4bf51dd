"""What a user's function computes, as a hash: whatever can change its answers changes that."""

from __future__ import annotations

import abc
import argparse
import builtins
import dataclasses
import dis
import enum
import functools
import hashlib
import importlib.util
import inspect
import json
import sys
import sysconfig
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, Protocol

import numpy as np

PLAIN = (type(None), type(...), bool, int, float, complex, str, range)
"""Values that their ``repr`` tells apart."""

OPAQUE = ("eval", "exec", "globals", "__import__", "open")
"""Builtins that reach what no look at the code finds."""

STATELESS = (object, abc.ABC, Generic, Protocol, types.SimpleNamespace, argparse.Namespace)
"""Installed bases that keep nothing of an object outside its ``__dict__``."""

BOOKKEEPING = frozenset(
    {
        "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__",
        "__annotations_cache__", "__dataclass_fields__", "__dataclass_params__", "__dict__",
        "__doc__", "__firstlineno__", "__match_args__", "__module__", "__orig_bases__",
        "__parameters__", "__static_attributes__", "__type_params__", "__weakref__", "_abc_impl",
    }
)  # fmt: skip
"""What stands in a class without changing what it does."""

UFUNCS = ("numpy", "scipy.special")
"""Where ufuncs are told by their names."""

INSTALLED = ("site-packages", "dist-packages")
"""Folders of packages that are replaced by their installer alone."""

PACKAGE = Path(__file__).resolve().parents[1]
"""This package, which counts as installed wherever it lies."""

STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


class IndescribableError(ValueError):
    """Something that no hash tells from another of its kind; says what."""


def describe_callable(function: object) -> str | None:
    """A hash of everything that a user's function can base its answer on, but for its arguments.

    That is its code and that of the functions, methods and classes of the user that it calls; what
    they have captured; their defaults and attributes; and the globals they read: numbers, strings,
    arrays and tensors by content, containers of them, objects, modules of torch with their weights.
    What belongs to an installed package counts by its name and the package's version.

    Args:
        function: A function, lambda, method, `functools.partial` or object with ``__call__``.

    Returns:
        None where something is used that cannot be told from another of its kind, for instance a
        module of the user's own, or an open file; `why_indescribable` says what. Files, the clock
        and what is set inside of packages are not looked at.
    """
    if function is None:
        return "none"
    try:
        return _hash(function)
    except IndescribableError:
        return None


def why_indescribable(function: object) -> str:
    """Why `describe_callable` returns None; empty where it does not."""
    try:
        _hash(function)
    except IndescribableError as error:
        return str(error)
    return ""


def _hash(function: object) -> str:
    try:
        text = json.dumps(_Describer().describe(function), separators=(",", ":"))
    except IndescribableError:
        raise
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise IndescribableError(f"something that cannot be read ({error})") from error
    return hashlib.sha256(text.encode()).hexdigest()


class _Describer:
    """Turns values into plain JSON, each once, so that what refers to itself comes to an end."""

    def __init__(self) -> None:
        # The values themselves stay here, lest another one gets the same id.
        self._seen: dict[int, tuple[int, object]] = {}

    def describe(self, value: Any) -> Any:
        kind = type(value)
        if kind in PLAIN:
            return [kind.__name__, repr(value)]
        if kind is bytes:
            return ["bytes", hashlib.sha256(value).hexdigest()]
        if kind is tuple:
            return ["tuple", *map(self.describe, value)]
        if id(value) in self._seen:
            return ["again", self._seen[id(value)][0]]
        self._seen[id(value)] = len(self._seen), value
        for kinds, method in (
            ((list,), self._list),
            ((set, frozenset), self._set),
            ((dict, OrderedDict), self._dict),
            ((types.FunctionType,), self._function),
            ((types.CodeType,), self._code),
        ):
            if kind in kinds:
                return [kind.__name__, method(value)]
        return self._array(value) or self._named(value) or self._object(value)

    def _list(self, values: list) -> list:
        return [self.describe(value) for value in values]

    def _set(self, values: set) -> list:
        return sorted(map(json.dumps, map(self.describe, values)))

    def _dict(self, values: dict) -> list:
        return [[self.describe(key), self.describe(value)] for key, value in values.items()]

    def _array(self, value: Any) -> list | None:
        """An array or tensor by its content."""
        torch = sys.modules.get("torch")
        kind = type(value).__name__
        if torch is not None:
            if isinstance(value, torch.dtype | torch.device):
                return [kind, repr(value)]
            if isinstance(value, torch.Tensor):
                kind += f" {value.dtype} {value.device} {value.requires_grad}"
                value = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
                shape = list(value.shape)
                value = value.flatten().view(torch.uint8).numpy()
                return [kind, shape, hashlib.sha256(value).hexdigest()]
        if isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap):
            raise IndescribableError(f"a {kind}, which may hold more than its values")
        if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            content = np.ascontiguousarray(value).tobytes()
            shape = list(value.shape)
            return [kind, str(value.dtype), shape, hashlib.sha256(content).hexdigest()]
        return None

    def _named(self, value: Any) -> list | None:
        """What belongs to an installed package, by its name there."""
        if isinstance(value, types.ModuleType):
            if not _is_installed(value):
                raise IndescribableError(
                    f"the module {value.__name__!r}, which is no installed package (import what is "
                    "used of it by name)"
                )
            return ["module", value.__name__, _version(value.__name__)]
        if isinstance(value, np.ufunc):
            return ["ufunc", *_home_of(value)]
        if isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__
            if owner is None or isinstance(owner, types.ModuleType | type):
                return ["builtin", value.__qualname__, owner and self.describe(owner)]
            return None
        name, place = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        found = sys.modules.get(name) if isinstance(name, str) else None
        if found is None or not isinstance(place, str) or not _is_installed(found):
            return None
        try:
            known = functools.reduce(getattr, place.split("."), found)
        except AttributeError:
            return None
        if known is not value and not isinstance(value, type):
            return None
        return ["named", name, place, _version(str(name))]

    def _object(self, value: Any) -> list:
        """Objects of the user's classes and modules of torch, and what is made of functions."""
        if isinstance(value, types.MethodType):
            return ["method", self.describe(value.__func__), self.describe(value.__self__)]
        if isinstance(value, functools.partial | functools.partialmethod):
            kind = type(value).__name__
            return [kind, *map(self.describe, (value.func, value.args, value.keywords))]
        if isinstance(value, staticmethod | classmethod):
            return [type(value).__name__, self.describe(value.__func__)]
        if isinstance(value, property):
            return ["property", *map(self.describe, (value.fget, value.fset, value.fdel))]
        if isinstance(value, enum.EnumType):
            return ["enum", value.__qualname__, *self._enum(value)]
        if isinstance(value, type):
            return ["class", value.__qualname__, *self._class(value)]
        if isinstance(value, enum.Enum):
            return ["member", self.describe(type(value)), value.name]
        # As `torch.no_grad` leaves them in what it decorates.
        guard = type(value).__module__ == "torch.autograd.grad_mode"
        if not guard and not _is_all_in_dict(value):
            raise IndescribableError(f"an object of the type {type(value).__name__}")
        return ["object", self.describe(type(value)), self._dict(vars(value))]

    def _class(self, kind: type) -> Iterator[Any]:
        """What its bases and its body say, but for annotations and what a dataclass generates."""
        if type(kind).__module__ not in ("builtins", "abc"):
            raise IndescribableError(f"the class {kind.__qualname__} of a metaclass")
        yield [self.describe(base) for base in kind.__bases__]
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        for field in fields:
            if field.default_factory is not dataclasses.MISSING:
                yield [field.name, self.describe(field.default_factory)]
        for name, value in vars(kind).items():
            if name not in BOOKKEEPING and not (fields and _is_generated(value)):
                yield [name, self.describe(value)]

    def _enum(self, kind: enum.EnumType) -> Iterator[Any]:
        """Its members, and what its body defines besides."""
        member: enum.Enum
        for member in kind:
            yield [member.name, self.describe(member.value)]
        made = types.FunctionType | property | staticmethod | classmethod
        for name, value in vars(kind).items():
            if isinstance(value, made):
                yield [name, self.describe(value)]

    def _function(self, function: types.FunctionType) -> list:
        code, closure = function.__code__, function.__closure__ or ()
        try:
            captured = [self.describe(cell.cell_contents) for cell in closure]
        except ValueError as error:
            if isinstance(error, IndescribableError):
                raise
            raise IndescribableError("a variable that has no value yet") from None
        if _is_installed_file(code.co_filename):
            module = str(function.__globals__.get("__name__"))
            return [module, code.co_qualname, _version(module), captured]
        rest = function.__defaults__, function.__kwdefaults__, vars(function)
        read = {name: self._global(function, name) for name in sorted(set(_globals_read(code)))}
        return [self._code(code), captured, *map(self.describe, rest), read]

    def _global(self, function: types.FunctionType, name: str) -> Any:
        if name in function.__globals__:
            try:
                return self.describe(function.__globals__[name])
            except IndescribableError as error:
                if str(error).startswith("the global"):
                    raise
                raise IndescribableError(f"the global {name!r}, {error}") from None
        if name in OPAQUE or not hasattr(builtins, name):
            raise IndescribableError(f"the global {name!r}")
        return "builtin"

    def _code(self, code: types.CodeType) -> list:
        for used in _modules_imported(code):
            found = importlib.util.find_spec(used.partition(".")[0]) if used else None
            if found is None or not _is_installed_file(found.origin):
                raise IndescribableError(f"an import of {used!r}, which is no installed package")
        return [
            code.co_code.hex(),
            code.co_exceptiontable.hex(),
            [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars],
            [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags],
            [self.describe(value) for value in code.co_consts],
        ]


def _is_generated(value: object) -> bool:
    """Whether a method was made by `dataclasses`: its fields tell all about it."""
    code = getattr(inspect.unwrap(value) if callable(value) else value, "__code__", None)
    return code is not None and code.co_qualname.startswith("__create_fn__.")


def _globals_read(code: types.CodeType) -> Iterator[str]:
    """The names that code looks up outside of itself, that of functions within it included."""
    for one in dis.get_instructions(code):
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            yield str(one.argval)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _globals_read(inner)


def _modules_imported(code: types.CodeType) -> Iterator[str]:
    for one in dis.get_instructions(code):
        if one.opname == "IMPORT_NAME":
            yield str(one.argval)


def _is_all_in_dict(value: object) -> bool:
    """Whether all that an object is stands in its ``__dict__``."""
    kinds = type(value).__mro__
    slots = any(vars(kind).get("__slots__") for kind in kinds)
    known = all(kind in STATELESS or not _is_installed_class(kind) for kind in kinds)
    torch = sys.modules.get("torch")
    module = torch is not None and isinstance(value, torch.nn.Module)
    return hasattr(value, "__dict__") and not slots and (known or module)


def _is_installed_class(kind: type) -> bool:
    found = sys.modules.get(kind.__module__)
    return found is not None and _is_installed(found)


def _is_installed(module: types.ModuleType) -> bool:
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None) or getattr(module, "__file__", None)
    return module.__name__ == "builtins" or _is_installed_file(origin)


def _is_installed_file(file: str | None) -> bool:
    if file is None:
        return False
    if file in ("built-in", "frozen") or file.startswith("<frozen "):
        return True
    path = Path(file).resolve()
    known = any(path.is_relative_to(folder) for folder in (*STANDARD, PACKAGE))
    return known or any(folder in path.parts for folder in INSTALLED)


def _home_of(ufunc: np.ufunc) -> tuple[str, str, str]:
    """Where a ufunc is told by its name, that name, and the version there."""
    for home in UFUNCS:
        if getattr(sys.modules.get(home), ufunc.__name__, None) is ufunc:
            return home, ufunc.__name__, _version(home)
    raise IndescribableError(f"the ufunc {ufunc.__name__!r} of neither NumPy nor SciPy")


def _version(module: str) -> str:
    top = sys.modules.get(module.partition(".")[0])
    return str(getattr(top, "__version__", ""))
