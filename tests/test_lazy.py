"""Names are imported when they are used, and the error for an unknown name contains it."""

import ast
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
