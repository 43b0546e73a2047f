"""Converts plain data (TOML, JSON) to checked dataclasses and back; imports no torch.

A field may be a number, string, bool, path, `Literal`, tuple, optional value, another dataclass, or
a union of dataclasses, which is a table with a `kind` key: the class's name in lower case
without "Config" ("vit", "resnet"). A single class of such a name may be told its own `kind`.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from ecliptic.checks import is_finite
from ecliptic.errors import SettingsError, did_you_mean
from ecliptic.storage import read_text

T = TypeVar("T")
MAX_TOML = 1 << 20  # bytes of a settings file


def load_toml(
    cls: type[T], path: Path, overrides: Iterable[str] = (), where: str | None = None
) -> T:
    """Read `cls` from a TOML file; each override is "table.field=value" in TOML syntax.

    Errors about fields begin with `where`, or the name of the file.

    Raises:
        SettingsError: not a regular file, not TOML, an unknown field (with the nearest known one),
            or a wrong type.
    """
    try:
        text = read_text(path, SettingsError, MAX_TOML)
    except FileNotFoundError:
        raise SettingsError(f"there is no settings file {path}; check the path.") from None
    except OSError as error:
        name = f"{path}"[:200]  # it may be too long
        raise SettingsError(f"{name} cannot be read: {error.strerror}; check the path.") from None
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    apply_overrides(data, overrides)
    return from_dict(cls, data, where or path.name)


def from_dict(cls: type[T], data: Mapping[str, Any], where: str = "settings") -> T:
    """Make an instance of the dataclass `cls`; missing fields have their defaults."""
    if not isinstance(data, Mapping):
        raise SettingsError(f"{where} must be a table of {cls.__name__}'s fields, got {data!r}.")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in data:
        if key not in names:
            fix = did_you_mean(key, names) or f"known are {', '.join(names)}."
            raise SettingsError(f"{where} has no field {key!r}; {fix}")
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    if missing := [name for name in _needed(cls) if name not in values]:
        raise SettingsError(f"{where} is incomplete: it lacks {', '.join(missing)}.")
    return cls(**values)


def _needed(cls: type) -> list[str]:
    """The fields that have no default."""
    no = dataclasses.MISSING
    fields = dataclasses.fields(cls)
    return [one.name for one in fields if one.init and one.default is no is one.default_factory]


def to_dict(value: Any) -> Any:
    """Convert to plain data that `from_dict` reads; fields that are None are left out."""
    return _make_plain(value, Any)


def _make_plain(value: Any, hint: Any) -> Any:
    """Plain data of a value whose field has the type `hint`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value))
        plain = {"kind": _kind(type(value))} if len(_dataclasses_in(hint)) > 1 else {}
        for field in dataclasses.fields(value):
            if (item := getattr(value, field.name)) is not None:
                plain[field.name] = _make_plain(item, hints[field.name])
        return plain
    if isinstance(value, tuple | list):
        arms = get_args(hint)  # (type, ...) or one type for each value
        same = len(arms) != len(value) or (len(arms) == 2 and arms[1] is Ellipsis)
        hints_of = [arms[0] if arms else Any] * len(value) if same else arms
        return [_make_plain(item, arm) for item, arm in zip(value, hints_of, strict=True)]
    if isinstance(value, Mapping):
        return {key: _make_plain(item, Any) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def apply_overrides(data: dict[str, Any], overrides: Iterable[str]) -> None:
    """Change plain data in place; each override is "table.field=value" in TOML syntax.

    A bare word is a string: `trains=text`. Lists, tables and other strings are written as in TOML.

    Raises:
        SettingsError: an override of another form.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise SettingsError(f"override {override!r} needs the form table.field=value.")
        *tables, last = (part.strip() for part in key.split("."))
        inner = data
        for table in tables:
            inner = inner.setdefault(table, {})
            if not isinstance(inner, dict):
                raise SettingsError(f"override {override!r}: {table!r} is a value, not a table.")
        inner[last] = _read_value(override, text.strip())


def _read_value(override: str, text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError) as error:
        if text[:1] in tuple("[{\"'"):  # meant as TOML
            raise SettingsError(
                f"override {override!r} is not valid TOML: {error}; write lists as [1, 2], strings "
                'in them as "text", and quote the whole for the shell.'
            ) from None
        return text


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(hint, value, where)
    if dataclasses.is_dataclass(hint):
        cls = typing.cast(type, hint)
        if _names_itself(cls, value):
            return _convert_kind([cls], value, where)
        return from_dict(cls, value, where)
    if origin is Literal:
        if value not in args:
            raise SettingsError(f"{where} must be one of {', '.join(map(repr, args))}: {value!r}.")
        return value
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if hint is float and type(value) is int and is_finite(value):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    wanted = origin or hint
    stray = isinstance(value, bool) and wanted is not bool  # a bool is an int in Python
    if hint is not Any and (stray or not isinstance(value, wanted)):
        raise SettingsError(
            f"{where} must be {wanted.__name__}, got {type(value).__name__} {value!r}."
        )
    return value


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise SettingsError(f"{where} must be a list, got {value!r}.")
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise SettingsError(f"{where} must have {len(args)} values, got {len(value)}: {value!r}.")
    return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, value)))  # noqa: B905


def _convert_union(hint: Any, value: Any, where: str) -> Any:
    if value is None and type(None) in get_args(hint):
        return None
    classes = _dataclasses_in(hint)
    if len(classes) > 1:
        return _convert_kind(classes, value, where)
    problems = []
    for arm in get_args(hint):
        if arm is type(None):
            continue
        try:
            return _convert(arm, value, where)
        except SettingsError as error:
            problems.append(error)
    raise problems[0]


def _convert_kind(classes: list[type], value: Any, where: str) -> Any:
    """The one of `classes` that the table `value` names."""
    kinds = {_kind(cls): cls for cls in classes}
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise SettingsError(f"{where}.kind must be one of {', '.join(kinds)}, got {kind!r}.")
    rest = {key: item for key, item in value.items() if key != "kind"}
    return from_dict(kinds[kind], rest, where)


def _names_itself(cls: type, value: Any) -> bool:
    """Whether a table says what it is, though nothing else could stand there."""
    if not isinstance(value, Mapping) or "kind" not in value or not cls.__name__.endswith("Config"):
        return False
    return all(field.name != "kind" for field in dataclasses.fields(cls))


def _dataclasses_in(hint: Any) -> list[type]:
    arms = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return [arm for arm in arms if dataclasses.is_dataclass(arm) and isinstance(arm, type)]


def _kind(cls: type) -> str:
    return cls.__name__.removesuffix("Config").lower()
