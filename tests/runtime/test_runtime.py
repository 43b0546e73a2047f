"""A runtime describes its choices, uses its device and precision; nothing else runs towers."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch

import ecliptic
from ecliptic.engine import load
from ecliptic.errors import ConfigError, MissingTowerError
from ecliptic.model import TwoTowers
from ecliptic.runtime import NUMERICS, Runtime, runtime as runtime_module
from tests import tiny
from tests.engine.models import reload

SOURCE = Path(ecliptic.__file__).parent
# Calls that compute with a tower's own methods, and the files that have a reason to.
TOWER_CALLS = {"outputs", "sequence", "states", "patches", "look", "encode_image", "encode_text"}
ROUTES_FOR_GRADIENTS = {
    "diffusion/encode/encoders.py",  # grad=True
    "train/trainee.py",
}
ROUTES_FOR_LOOKING_INSIDE = {
    "diffusion/text_encoder.py",  # diffusers asks for every hidden layer
    "engine/implementations.py",  # the doctor compares layer by layer
}


def model(kind: str = "vit") -> TwoTowers:
    return tiny.model(tiny.checkpoint(kind))


@pytest.mark.parametrize("precision", [*NUMERICS, "auto"])
def test_a_model_is_placed_in_the_precision_and_says_so(precision: str) -> None:
    runtime = Runtime(model(), precision)
    wanted = NUMERICS["fp32" if precision == "auto" else precision]
    assert runtime.precision == wanted.name
    assert {p.dtype for p in runtime.model.image_tower.parameters()} == {wanted.weights}
    assert runtime.model.logit_scale.dtype == torch.float32
    first = runtime.describe()[0]
    assert (first.what, first.chosen, first.why) == (
        "precision",
        "fp32 on cpu" if wanted.name == "fp32" else f"{wanted.name}, norms in fp32 on cpu",
        wanted.why,
    )


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of auto, fp32, bf16, fp16, got 'fp4'"):
        Runtime(model(), "fp4")


def test_a_model_cast_afterwards_is_described_as_it_is() -> None:
    runtime = Runtime(model())
    runtime.model.double()
    assert runtime.precision == "torch.float64"
    assert runtime.describe()[0].why == "the weights were cast to it after loading"


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("vit", ["precision", "text", "image", "activation", "image kernels", "text kernels"]),
        ("resnet", ["precision", "text", "image", "activation", "text kernels"]),
        ("text", ["precision", "text", "activation", "text kernels"]),
        ("resnet_image", ["precision", "image"]),
    ],
)
def test_only_what_is_there_is_described(kind: str, wanted: list[str]) -> None:
    assert [choice.what for choice in Runtime(model(kind)).describe()] == wanted


def test_gelu_needs_no_choice() -> None:
    runtime = Runtime(tiny.model(tiny.checkpoint("vit", "gelu")))
    assert "activation" not in [choice.what for choice in runtime.describe()]


def test_a_missing_tower_is_named() -> None:
    with pytest.raises(MissingTowerError, match="no image side"):
        Runtime(model("text")).image(torch.zeros(1, 3, 32, 32))
    with pytest.raises(MissingTowerError, match="no text side"):
        Runtime(model("image")).text(torch.zeros(1, 16, dtype=torch.long))


def test_the_shape_of_a_hidden_layer_is_known_before_it_is_computed() -> None:
    runtime = Runtime(model())
    hidden = runtime.image_sequence(torch.zeros(2, 3, 32, 32), layer=-2)
    assert hidden.shape == (2, *runtime.image_sequence_shape(-2))
    with pytest.raises(ConfigError, match="layer 9 does not exist"):
        runtime.image_sequence_shape(9)


def test_what_load_makes_is_held_by_the_clip(tmp_path: Path) -> None:
    clip = reload(tiny.checkpoint("vit"), tmp_path / "vit", precision="bf16")
    assert clip.runtime.model is clip.model
    assert clip.runtime.precision == clip.card.precision == "bf16"
    assert load().runtime.describe()


def _calls(path: Path) -> list[Any]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in TOWER_CALLS
    ]


def _touches_a_tower(node: ast.Attribute) -> bool:
    owner = ast.unparse(node.value)
    return any(word in owner for word in ("tower", ".model", "block", "attention"))


def test_nothing_else_runs_a_tower_for_inference() -> None:
    """`model` has the towers, `runtime` runs them; the exceptions are listed above with reasons."""
    allowed = ROUTES_FOR_GRADIENTS | ROUTES_FOR_LOOKING_INSIDE
    found = {
        f"{path.relative_to(SOURCE)}:{node.lineno} {ast.unparse(node)}"
        for path in SOURCE.rglob("*.py")
        if path.parent.name not in ("model", "runtime")
        and str(path.relative_to(SOURCE)) not in allowed
        for node in _calls(path)
        if _touches_a_tower(node)
    }
    assert not found, f"use `Runtime` for inference: {sorted(found)}"


def test_pixels_for_a_gpu_are_page_locked_and_converted_there() -> None:
    """A stand-in records the order; the copy itself needs a GPU."""
    steps: list[Any] = []

    class Pixels:
        device = torch.device("cpu")

        def pin_memory(self) -> "Pixels":
            steps.append("pin")
            return self

        def to(self, *given: Any, **options: Any) -> "Pixels":
            steps.append((given, options))
            return self

    class Tower:
        def parameters(self) -> Any:
            yield type("Weight", (), {"device": torch.device("cuda"), "dtype": torch.bfloat16})

    move: Any = runtime_module._move_to
    move(Tower(), Pixels())
    cuda = torch.device("cuda")
    assert steps == ["pin", ((cuda,), {"non_blocking": True}), ((cuda, torch.bfloat16), {})]
