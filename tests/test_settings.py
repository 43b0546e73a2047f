"""Settings survive a round trip, and errors name the field."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, strategies as st

from ecliptic.errors import SettingsError
from ecliptic.model import ClipConfig, ResNetConfig, TextConfig, ViTConfig
from ecliptic.settings import MAX_TOML, from_dict, load_toml, to_dict
from ecliptic.train import TrainSettings


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0
    mode: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    steps: int = 3
    out: Path = Path("runs")
    sizes: tuple[int, ...] = (1, 2)
    note: str | None = None
    inner: Inner = field(default_factory=Inner)


CONFIGS = [
    ClipConfig(),
    ClipConfig(embed=1024, image=ResNetConfig()),
    ClipConfig(image=ResNetConfig(heads=8, block="basic")),
    ClipConfig(image=None),
    ClipConfig(text=None, image=ViTConfig(activation="quick_gelu")),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_model_sizes_survive_a_round_trip(config: ClipConfig) -> None:
    data = to_dict(config)
    assert from_dict(ClipConfig, {"image": None, "text": None} | data) == config


@given(st.integers(), st.floats(allow_nan=False), st.lists(st.integers(), max_size=5))
def test_values_survive_a_round_trip(steps: int, rate: float, sizes: list[int]) -> None:
    value = Outer(steps=steps, sizes=tuple(sizes), inner=Inner(rate=rate))
    assert from_dict(Outer, to_dict(value)) == value


def test_toml_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('steps = 5\n[inner]\nrate = 2\nmode = "b"\n')
    read = load_toml(Outer, path, ["inner.rate=0.5", "out=elsewhere", "sizes=[4]"])
    assert read == Outer(5, Path("elsewhere"), (4,), None, Inner(0.5, "b"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "override 'steps' needs the form table.field=value"),
        ("inner..rate=1", "needs the form table.field=value"),
        ("steps.x=1", "'steps' is a value, not a table"),
        ("sizes=[1,", "is not valid TOML"),
        ('note="a', "is not valid TOML"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, message: str) -> None:
    (tmp_path / "run.toml").write_text("steps = 5\n")
    with pytest.raises(SettingsError, match=message):
        load_toml(Outer, tmp_path / "run.toml", [override])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"stesp": 1}, "no field 'stesp'; did you mean 'steps'"),
        ({"steps": "1"}, "settings.steps must be int, got str '1'"),
        ({"steps": True}, "settings.steps must be int, got bool"),
        ({"inner": {"mode": "c"}}, "settings.inner.mode must be one of 'a', 'b'"),
        ({"inner": 3}, "settings.inner must be a table"),
        ({"sizes": 3}, "settings.sizes must be a list"),
    ],
)
def test_mistakes_are_named(data: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace(".", r"\.")):
        from_dict(Outer, data)


def test_a_union_of_towers_needs_its_kind() -> None:
    with pytest.raises(SettingsError, match=r"settings\.image\.kind must be one of vit, resnet"):
        from_dict(ClipConfig, {"image": {"width": 64}})
    with pytest.raises(SettingsError, match=r"kind must be one of vit, resnet, got \[1\]"):
        from_dict(ClipConfig, {"image": {"kind": [1]}})


def test_a_single_class_may_be_told_its_kind() -> None:
    source = {"path": "synsets.tsv"}
    plain = {"data": {"texts": {"sources": [source]}}}
    told = {"data": {"texts": {"sources": [{"kind": "wordnet", **source}]}}}
    found = from_dict(TrainSettings, told)
    assert found == from_dict(TrainSettings, plain)
    assert "kind" not in to_dict(found)["data"]["texts"]["sources"][0]
    with pytest.raises(SettingsError, match=r"sources\[0\]\.kind must be one of wordnet, got 'x'"):
        from_dict(TrainSettings, {"data": {"texts": {"sources": [{"kind": "x", **source}]}}})
    with pytest.raises(SettingsError, match="no field 'kind'"):
        from_dict(TrainSettings, {"data": {"kind": "data"}})
    assert from_dict(TrainSettings, {"processes": {"kind": "fsdp"}}).processes.kind == "fsdp"


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("a = = 1")
    with pytest.raises(SettingsError, match=r"x\.toml is not valid TOML"):
        load_toml(Outer, tmp_path / "x.toml")
    for text in ("a = " + "[" * 100_000, "steps = 1" + "0" * 5000, "# \udcff"):
        (tmp_path / "x.toml").write_text(text, errors="surrogateescape")
        with pytest.raises(SettingsError, match=r"x\.toml is not"):
            load_toml(Outer, tmp_path / "x.toml")
    (tmp_path / "x.toml").write_text("#" * (MAX_TOML + 1))
    with pytest.raises(SettingsError, match="has more than 1048576 bytes"):
        load_toml(Outer, tmp_path / "x.toml")
    (tmp_path / "x.toml").write_text("[inner]\nrate = 1" + "0" * 400)
    with pytest.raises(SettingsError, match=r"inner\.rate must be float"):
        load_toml(Outer, tmp_path / "x.toml")
    with pytest.raises(SettingsError, match="no settings file"):
        load_toml(Outer, tmp_path / "none.toml")
    (tmp_path / "x.toml").write_text("")
    with pytest.raises(SettingsError, match=r"needs the form table\.field=value"):
        load_toml(Outer, tmp_path / "x.toml", ["steps"])
    assert isinstance(load_toml(Outer, tmp_path / "x.toml"), Outer)
    assert TextConfig() == from_dict(TextConfig, {})
