"""Sequence and vectors of one pass equal transformers': every layer, norm, mask, splice."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.model import Activation, ClipConfig, TextConfig, TextOutputs, TextTower, random_model
from tests import peers
from tests.runtime.lone import text_outputs

ATOL = 2e-5
END = 59
CONFIG = TextConfig(vocabulary=60, context=16, width=32, depth=3, heads=4, mlp=96, end_of_text=END)


def tower(activation: Activation = "gelu", projection: bool = True, seed: int = 0) -> TextTower:
    config = TextConfig(**{**vars(CONFIG), "activation": activation, "projection": projection})
    embed = 24 if projection else config.width
    model = random_model(ClipConfig(embed=embed, image=None, text=config), seed).text_tower
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():  # norms and biases too
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def ids(rows: int = 4) -> Tensor:
    """(rows, 16) ids with ends of text at various places, and random ids after them."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, END, (rows, 16), generator=generator)
    tokens[torch.arange(rows), torch.randint(3, 11, (rows,), generator=generator)] = END
    tokens[:, 14] = END  # a second one must not be pooled
    return tokens


def vectors_of(tokens: Tensor, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*tokens.shape, CONFIG.width, generator=generator)


def masks(tokens: Tensor) -> dict[str, Tensor | None]:
    """No mask; padding after the end hidden; a hole in the middle; all but the start hidden."""
    places, ends = torch.arange(16), (tokens == END).int().argmax(-1)
    hole = torch.ones(tokens.shape, dtype=torch.bool)
    hole[:, 2:5] = False
    return {
        "none": None,
        "padding": places <= ends[:, None],
        "hole": hole,
        "start only": (places == 0).expand(tokens.shape),
    }


def peer(ours: TextTower, attention: str = "eager") -> Any:
    """transformers' class for the same weights."""
    library, c = peers.transformers(), ours.config
    config = library.CLIPTextConfig(
        vocab_size=c.vocabulary,
        hidden_size=c.width,
        intermediate_size=c.mlp,
        num_hidden_layers=c.depth,
        num_attention_heads=c.heads,
        max_position_embeddings=c.context,
        hidden_act=c.activation,
        layer_norm_eps=c.eps,
        projection_dim=24,
        eos_token_id=c.end_of_text,
        bos_token_id=1,
        pad_token_id=0,
        attn_implementation=attention,
    )
    kind = library.CLIPTextModelWithProjection if c.projection else library.CLIPTextModel
    model = kind(config).eval()
    model.load_state_dict(rename(ours, "text_model." if c.projection else ""), strict=True)
    return model


def rename(ours: TextTower, prefix: str) -> dict[str, Tensor]:
    """Our weights under transformers' names; deliberately not from the table of the package."""
    state = {
        f"{prefix}embeddings.token_embedding.weight": ours.token_embedding.weight,
        f"{prefix}embeddings.position_embedding.weight": ours.positions,
        f"{prefix}final_layer_norm.weight": ours.ln_final.weight,
        f"{prefix}final_layer_norm.bias": ours.ln_final.bias,
    }
    if ours.projection is not None:
        state["text_projection.weight"] = ours.projection.T
    for number, block in enumerate(ours.blocks):
        at = f"{prefix}encoder.layers.{number}."
        for side in ("weight", "bias"):
            thirds = getattr(block.attention.qkv, side).chunk(3)
            for letter, third in zip("qkv", thirds, strict=True):
                state[f"{at}self_attn.{letter}_proj.{side}"] = third
            state[f"{at}self_attn.out_proj.{side}"] = getattr(block.attention.out, side)
            state[f"{at}layer_norm1.{side}"] = getattr(block.ln_1, side)
            state[f"{at}layer_norm2.{side}"] = getattr(block.ln_2, side)
            state[f"{at}mlp.fc1.{side}"] = getattr(block.mlp.up, side)
            state[f"{at}mlp.fc2.{side}"] = getattr(block.mlp.down, side)
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def theirs(model: Any, tokens: Tensor, mask: Tensor | None, embedded: Tensor | None) -> Any:
    """The peer's output; it takes no vectors, so its embedding returns the spliced ones."""
    table = model.get_input_embeddings()
    hook = table.register_forward_hook(lambda *_: embedded)
    attention = None if mask is None else mask.long()
    out = model(input_ids=tokens, attention_mask=attention, output_hidden_states=True)
    hook.remove()
    return out


def check(found: TextOutputs, wanted: TextOutputs, atol: float = ATOL) -> None:
    for name in ("sequence", "pooled", "vectors"):
        a, b = getattr(found, name), getattr(wanted, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert bool(torch.isfinite(a).all()), name
            torch.testing.assert_close(a, b, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("masked", ["none", "padding", "hole", "start only"])
@pytest.mark.parametrize("spliced", [False, True])
@pytest.mark.parametrize("projection", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@torch.no_grad()
def test_both_outputs_equal_transformers(
    activation: Activation, projection: bool, spliced: bool, masked: str
) -> None:
    model, tokens = tower(activation, projection), ids()
    mask, embedded = masks(tokens)[masked], vectors_of(tokens) if spliced else None
    library = peer(model)
    out = theirs(library, tokens, mask, embedded)
    norm = (library.text_model if projection else library).final_layer_norm
    rows, ends = torch.arange(len(tokens)), (tokens == END).int().argmax(-1)
    pooled = out.last_hidden_state[rows, ends]
    vectors = out.text_embeds if projection else out.pooler_output
    for layer, hidden in enumerate(out.hidden_states):
        for index in (layer, layer - len(out.hidden_states)):
            for normed in (True, False):
                wanted = TextOutputs(norm(hidden) if normed else hidden, pooled, vectors)
                for run in (model.outputs, lambda *a, **k: text_outputs(model, *a, **k)):
                    found = run(
                        tokens, layer=index, final_norm=normed, embedded=embedded, mask=mask
                    )
                    check(found, wanted)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_masked_rows_of_the_output_equal_transformers_too(attention: str) -> None:
    """Outputs at masked places matter: pipelines pass them to the diffusion model."""
    model, tokens = tower(), ids()
    mask = masks(tokens)["padding"]
    assert mask is not None
    out = theirs(peer(model, attention), tokens, mask, None)
    found = text_outputs(model, tokens, layer=-1, final_norm=False, mask=mask).sequence
    assert found is not None
    torch.testing.assert_close(found[~mask], out.hidden_states[-1][~mask], rtol=0, atol=ATOL)


@torch.no_grad()
def test_a_token_that_may_see_nothing_looks_at_all_alike_and_is_never_nan() -> None:
    """As in transformers' eager attention; also for a row in which all tokens are hidden."""
    model, tokens = tower(), ids()
    mask = torch.ones(tokens.shape, dtype=torch.bool)
    mask[0] = False
    mask[1, :3] = False
    out = theirs(peer(model), tokens, mask, None)
    for run in (model.outputs, lambda *a, **k: text_outputs(model, *a, **k)):
        for layer in (-1, -2, 0):
            found = run(tokens, layer=layer, final_norm=False, mask=mask)
            wanted = TextOutputs(
                out.hidden_states[layer], found.pooled, out.text_embeds
            )  # its projection checks the pooled state
            check(found, wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_masks_that_hide_everything_are_finite_in_half_precision(dtype: torch.dtype) -> None:
    model, tokens = tower().to(dtype), ids()
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    for found in (model.outputs(tokens, mask=mask), text_outputs(model, tokens, mask=mask)):
        for tensor in (found.sequence, found.pooled, found.vectors):
            assert tensor is not None
            assert tensor.dtype == dtype
            assert bool(torch.isfinite(tensor).all())


@torch.no_grad()
def test_a_mask_of_true_is_no_mask() -> None:
    model, tokens = tower(), ids()
    every = torch.ones(tokens.shape, dtype=torch.bool)
    check(model.outputs(tokens, mask=every), model.outputs(tokens))


@torch.no_grad()
def test_spliced_vectors_that_are_the_lookup_change_nothing() -> None:
    model, tokens = tower(), ids()
    embedded = model.token_embedding(tokens)
    check(model.outputs(tokens, embedded=embedded), model.outputs(tokens), atol=0)


@torch.no_grad()
def test_ids_outside_the_vocabulary_are_not_looked_up_where_vectors_are_spliced() -> None:
    model, tokens = tower(), ids()
    embedded = model.token_embedding(tokens)
    wanted = model.outputs(tokens, embedded=embedded)
    tokens[:, 1] = 99999  # the id of a learned word, and the largest: pooling must not use it
    check(model.outputs(tokens, embedded=embedded), wanted, atol=0)
    check(text_outputs(model, tokens, embedded=embedded), wanted)


@torch.no_grad()
def test_what_is_not_asked_for_is_none() -> None:
    model, tokens = tower(), ids()
    whole = model.outputs(tokens)
    for run in (model.outputs, lambda *a, **k: text_outputs(model, *a, **k)):
        check(run(tokens, layer=None), TextOutputs(None, whole.pooled, whole.vectors))
        check(run(tokens, pooled=False), TextOutputs(whole.sequence, None, None))
        with pytest.raises(ConfigError, match="nothing is left to compute; ask for one"):
            run(tokens, layer=None, pooled=False)


def test_without_pooling_no_end_of_text_is_needed() -> None:
    tokens = torch.zeros(1, 16, dtype=torch.long)
    for run in (tower().outputs, lambda *a, **k: text_outputs(tower(), *a, **k)):
        assert run(tokens, pooled=False).sequence is not None
        with pytest.raises(ShapeError, match="row 0 of the tokens has no end-of-text"):
            run(tokens)


def test_gradients_reach_the_spliced_vectors_and_every_weight() -> None:
    model, tokens = tower(), ids()
    model.requires_grad_(True)
    embedded = vectors_of(tokens).requires_grad_(True)
    found = model.outputs(tokens, layer=-2, embedded=embedded, mask=masks(tokens)["hole"])
    assert found.sequence is not None
    assert found.vectors is not None
    (found.sequence.square().mean() + found.vectors.square().mean()).backward()
    assert embedded.grad is not None
    assert float(embedded.grad.abs().min()) > 0
    for name, weight in model.named_parameters():
        if name != "token_embedding.weight":  # replaced, so it has no gradient
            assert weight.grad is not None, name
            assert float(weight.grad.abs().max()) > 0, name
    assert model.token_embedding.weight.grad is None


def test_the_gradient_of_a_spliced_vector_is_that_of_the_lookup() -> None:
    model, tokens = tower(), torch.arange(16)[None] * 3
    tokens[0, 9] = END
    model.requires_grad_(True)
    model.outputs(tokens).vectors.square().sum().backward()  # type: ignore[union-attr]
    wanted = model.token_embedding.weight.grad[tokens[0]]  # type: ignore[index]
    embedded = model.token_embedding(tokens).detach().requires_grad_(True)
    model.outputs(tokens, embedded=embedded).vectors.square().sum().backward()  # type: ignore[union-attr]
    assert embedded.grad is not None
    torch.testing.assert_close(embedded.grad[0], wanted)


@pytest.mark.parametrize("shape", [(4, 15, 32), (3, 16, 32), (4, 16, 31), (4, 16)])
def test_vectors_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"embedded is .*32 values each: \(4, 16, 32\)"):
        tower().outputs(ids(), embedded=torch.zeros(shape))


@pytest.mark.parametrize("shape", [(4, 15), (1, 16), (16,), (4, 16, 16)])
def test_masks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"mask is .*tokens are \(4, 16\).*its own True"):
        tower().outputs(ids(), mask=torch.ones(shape, dtype=torch.bool))


@torch.no_grad()
def test_states_take_spliced_vectors_and_masks_as_outputs_do() -> None:
    model, tokens = tower(), ids()
    given: dict[str, Any] = {"embedded": vectors_of(tokens), "mask": masks(tokens)["hole"]}
    for look in (False, True):
        states = model.states(tokens, look=look, **given)
        wanted = TextOutputs(states.last, states.pooled, states.vectors)
        check(model.outputs(tokens, **given), wanted)
    for weights in states.attention:
        assert float(weights[:, :, :, 2:5].abs().max()) == 0  # the hole
