"""Names are imported when they are used, and the error for an unknown name contains it."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import ecliptic
from ecliptic import inputs
from ecliptic.lazy import find_names, lazy_names, public_names

SOURCE = Path(ecliptic.__file__).parent
PACKAGES = [
    ".".join(("ecliptic", *init.parent.relative_to(SOURCE).parts))
    for init in sorted(SOURCE.rglob("__init__.py"))
]


def test_a_name_comes_from_the_module_that_defines_it() -> None:
    fetch, _ = lazy_names("ecliptic.inputs")
    assert fetch("ImageSpec") is ecliptic.ImageSpec
    assert ecliptic.load.__module__ == "ecliptic.engine.loading"


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(AttributeError, match=r"module 'ecliptic' has no attribute 'laod'"):
        _ = ecliptic.laod  # type: ignore[attr-defined]


def test_only_names_under_type_checking_that_name_themselves_are_public() -> None:
    listing = "if TYPE_CHECKING:\n    from a import b as b, c as d, e\nfrom f import g as g"
    assert dict(find_names(ast.parse(listing))) == {"b": "a"}


def test_the_public_names_are_listed() -> None:
    assert inputs.__all__ == sorted(public_names("ecliptic.inputs"))
    assert [name for name in dir(ecliptic) if not name.startswith("__")] == ecliptic.__all__


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_is_not_hidden_by_a_module(package: str) -> None:
    home = import_module(package)
    for name, module in public_names(package).items():
        assert getattr(home, name) is not None
        hidden = (Path(home.__file__ or "").parent / f"{name}.py").exists()
        assert not hidden or module == package, f"{package}.{name} is a module's name too"


def test_a_package_without_its_source_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    public_names.cache_clear()
    monkeypatch.setattr(sys.modules["ecliptic.inputs"], "__loader__", None)
    with pytest.raises(ImportError, match=r"install ecliptic with its \.py files"):
        _ = inputs.no_such_name  # type: ignore[attr-defined]
    public_names.cache_clear()


# Counts the searches for garbage among all objects while a name is imported with PyTorch.
SEARCHES = """
import gc, json, sys
found = []
gc.callbacks.append(lambda phase, info: found.append(info["generation"]))
{before}
import ecliptic
ecliptic.Clip
print(json.dumps([2 in found, "torch" in sys.modules, gc.isenabled(), gc.get_freeze_count() > 0]))
"""


@pytest.mark.parametrize(
    ("before", "enabled", "frozen"),
    [("", True, False), ("gc.disable()", False, False), ("gc.freeze()", True, True)],
    ids=["as Python starts", "none wanted", "objects that are never searched"],
)
def test_no_garbage_is_looked_for_while_pytorch_is_imported(
    before: str, *, enabled: bool, frozen: bool
) -> None:
    code = SEARCHES.format(before=before)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [False, True, enabled, frozen]


def test_another_thread_leaves_the_searches_alone() -> None:
    code = (
        "import gc, threading\nseen = []\n"
        "gc.disable = lambda: seen.append('disabled')\n"
        "import ecliptic\n"
        "work = threading.Thread(target=lambda: ecliptic.Clip)\nwork.start()\nwork.join()\n"
        "print(seen, gc.get_freeze_count())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[] 0\n"


def test_garbage_is_looked_for_again_when_an_import_fails(tmp_path: Path) -> None:
    code = (
        "import gc, sys\nfrom ecliptic.lazy import lazy_names\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\nimport package\n"
        "try:\n    package.name\nexcept ZeroDivisionError:\n    print(gc.isenabled())"
    )
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("1 / 0")
    (tmp_path / "package" / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\nfrom ecliptic.lazy import lazy_names\n"
        "if TYPE_CHECKING:\n    from package.module import name as name\n"
        "__getattr__, __dir__ = lazy_names(__name__)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"
