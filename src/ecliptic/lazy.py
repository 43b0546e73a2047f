"""Lazy public names: a package imports each of its names when it is first used.

A package lists its public names once, in its `__init__.py`, as imports that only type checkers and
editors run:

    if TYPE_CHECKING:
        from ecliptic.engine.loading import load as load

    __getattr__, __dir__ = lazy_names(__name__)

`name as name` marks a name as public for type checkers (PEP 484, stub files). `lazy_names` reads
the same lines when a name is first used, so nothing is imported before that.
"""

import ast
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make `__getattr__` and `__dir__` of a package (PEP 562); `__all__` has its public names.

    No module of the package may share a public name: once it is imported, Python replaces the name
    by the module.
    """

    def fetch(name: str) -> Any:
        if name == "__all__":
            return sorted(public_names(package))
        if name.startswith("__") or name not in (homes := public_names(package)):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if (home := homes[name]) == package:  # the name is a module
            return _import(f"{package}.{name}")
        return getattr(_import(home), name)

    def list_names() -> list[str]:
        special = (name for name in vars(sys.modules[package]) if name.startswith("__"))
        return sorted({*special, *public_names(package)})

    return fetch, list_names


def _import(name: str) -> ModuleType:
    """Import a module while Python does not look for garbage.

    PyTorch and what imports it make some hundred thousand objects that all stay, and each search
    walks over most of them. After the import of PyTorch all objects of the program count as old, as
    if the searches had been made. Other threads must not switch the searches off or on meanwhile,
    so this is left to the main one.
    """
    alone = threading.current_thread() is threading.main_thread()
    if name in sys.modules or not (alone and gc.isenabled()):
        return import_module(name)
    imported = "torch" in sys.modules
    gc.disable()
    try:
        return import_module(name)
    finally:
        if not imported and "torch" in sys.modules and gc.get_freeze_count() == 0:
            gc.freeze()  # all objects become permanent, ...
            gc.unfreeze()  # and then old
        gc.enable()


@cache
def public_names(package: str) -> dict[str, str]:
    """Name -> the module that defines it, for every public name of a package.

    Raises:
        ImportError: the package has no source, as in a bundle of bytecode only.
    """
    loader: Any = sys.modules[package].__loader__
    source = loader.get_source(package) if hasattr(loader, "get_source") else None
    if source is None:
        raise ImportError(
            f"the public names of {package} are read from its source, which is missing here; "
            "install ecliptic with its .py files."
        )
    return dict(find_names(ast.parse(source)))


def find_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name, module) of every `from module import name as name` under `if TYPE_CHECKING:`."""
    for block in tree.body:
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING":
            for line in block.body:
                if isinstance(line, ast.ImportFrom) and line.module:
                    names = (alias.name for alias in line.names if alias.name == alias.asname)
                    yield from ((name, line.module) for name in names)
