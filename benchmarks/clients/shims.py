"""Stand-ins for packages that a client imports and that its loader of adapters never uses."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Collection
from types import ModuleType
from typing import Any


class Anything:
    """An object that may be called, subclassed, decorated with and asked for any attribute."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *given: Any, **_: Any) -> Any:
        """A decorator gives back what it decorates."""
        return given[0] if len(given) == 1 and callable(given[0]) else Anything()

    def __getattr__(self, name: str) -> Any:
        """Anything, except what Python itself looks for."""
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


class Hollow(ModuleType):
    """A module that has every name: a class of its own for each."""

    def __getattr__(self, name: str) -> Any:
        """A class that was never there before."""
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (Anything,), {})
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what nothing else finds, if it is on the list."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = tuple(names)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """A hollow module for a listed package and all below it."""
        listed = any(fullname == name or fullname.startswith(f"{name}.") for name in self.names)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if listed else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """See `Hollow`."""
        module = Hollow(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has nothing to run."""


def stand_in(names: Collection[str], over: bool = False) -> None:
    """Let the imports of some packages succeed.

    Args:
        names: of packages and modules.
        over: before the client's own of that name, not only where there is none.
    """
    finder = Finder(names)
    if over:
        sys.meta_path.insert(0, finder)
    else:
        sys.meta_path.append(finder)
