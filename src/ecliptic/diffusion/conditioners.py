"""`Conditioner` turns prompts and images into the tensors of one family.

Parsing, tokens, chunks, weights, layers and the choices of tools are modules of their own; this one
calls them in order. B prompts, T tokens, D width, E vector size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor

from ecliptic.adapters import Inversion, LoraReport, LoraStack, read_inversion, read_lora
from ecliptic.checks import check_count
from ecliptic.diffusion.conditioning import Conditioning, ConditioningWarning
from ecliptic.diffusion.encode.call import TextCall
from ecliptic.diffusion.encode.encoders import TextEncoder
from ecliptic.diffusion.encode.networks import LoraFiles, Networks
from ecliptic.diffusion.encode.request import Hires, Prompts, Request, make_request, make_second
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.images import encode_images
from ecliptic.diffusion.language import LanguageEncoder, T5Tensors, encode_t5
from ecliptic.diffusion.micro_conditioning import Sizes
from ecliptic.diffusion.options import HowOptions, Options
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, InputError, warn


class Conditioner:
    """The loaded encoders of a family, to be called with prompts; `conditioner` makes it."""

    def __init__(
        self,
        family: Family,
        encoders: Sequence[TextEncoder],
        *,
        image: Clip | None = None,
        force_zeros: bool = False,
        language: LanguageEncoder | None = None,
        language_width: int | None = None,
        any_size: bool = False,
        loras: LoraFiles | None = None,
    ) -> None:
        self.family = family
        self.encoders = tuple(encoders)
        _check_contexts(self.encoders)
        self.image = image
        self.force_zeros = force_zeros
        self._language = language
        self._language_width = language_width
        self._any_size = any_size
        self._files: dict[str, str] = {}  # token of an inversion -> SHA-256 of its file
        self._stacks = tuple(
            LoraStack(one.tower, one.rule.part, first=one.rule.folder == "text_encoder")
            for one in self.encoders
        )
        self._networks = Networks(self._stacks, loras)

    def __repr__(self) -> str:
        names = ", ".join(one.clip.card.name for one in self.encoders)
        return f"Conditioner({self.family.name!r}, {names or self.image!r})"

    def __call__(
        self,
        prompt: Prompts | None = None,
        *,
        negative: Prompts | None = None,
        prompt_2: Prompts | None = None,
        negative_2: Prompts | None = None,
        images: Any = None,
        patches: bool = False,
        t5: Tensor | None = None,
        negative_t5: Tensor | None = None,
        sizes: Sizes | None = None,
        images_per_prompt: int = 1,
        hires: Hires | None = None,
        **how: Unpack[HowOptions],
    ) -> Conditioning:
        """Encode B prompts, or images, or both.

        Args:
            prompt: a text or B of them.
            negative: the negative prompt; None and "" differ in some families.
            prompt_2: another wording for the second encoder.
            negative_2: likewise; as in diffusers, without effect if no `negative` means zeros.
            images: images, for families with an image encoder.
            patches: read the penultimate layer, not the vector, for IP-Adapter Plus.
            t5: (B, T, D) last hidden state of T5, for SD3 and FLUX.
            negative_t5: the same for the negatives.
            sizes: image sizes and scores for SDXL.
            images_per_prompt: rows for each prompt, next to each other.
            hires: the second pass of A1111, returned as `c.hires`; needs steps=.
            **how: the fields of `Options`: dialect, emphasis, long, clip_skip, compat, steps, grad.

        Raises:
            ConfigError: an unknown option, or one that this family does not support.
            TextError: a prompt is not valid in its dialect; the message gives the place.
            InputError: no prompts, or lists of different length.
            NumericalError: a result is not finite.

        Warns:
            TruncationWarning: tokens were dropped; the message quotes them.
            ConditioningWarning: an option had no effect, or zeros replaced a tensor; or a tag
                such as `<lora:name:0.8>` was not applied.
        """
        options = self._make_options(how)
        check_count("images_per_prompt", images_per_prompt)
        if prompt is None and images is None:
            wants = "images" if not self.encoders else "a prompt"
            raise InputError(f"{self.family.title} needs {wants}; pass one.")
        found = Conditioning(self.family)
        if prompt is not None:
            request = make_request(self.family, prompt, negative, prompt_2, negative_2)
            found = self._encode_pass(request, options, (t5, negative_t5), sizes)
            if hires is not None:
                second = make_second(
                    self.family, request, hires, options.steps, shares_t5=t5 is not None
                )
                later = replace(options, steps=hires.steps)
                more = self._encode_pass(second, later, (t5, negative_t5), sizes)
                found = replace(found, hires=more)
        if images is not None:
            found = self._add_images(found, images, patches=patches)
        return found.repeat(images_per_prompt)

    def each(self, prompts: Sequence[str], **how: Unpack[HowOptions]) -> list[Conditioning]:
        """Encode each prompt at its own length, without negatives.

        Raises what a call raises, and a ConfigError for a prompt that changes over the steps.
        """
        options = self._make_options(how)
        # the tensors of a prompt must not depend on the other prompts of its batch
        alone = replace(options.behaviour, mean_over_batch=False)
        request, networks = self._networks.read(make_request(self.family, prompts), options)
        options = replace(options, compat=alone)
        call = TextCall(self.family, self.encoders, request, options, positive_only=True)
        call.check_single()
        language = self._encode_t5(request)
        with self._networks.lock:
            call.encode(self._networks.merge)
        return [
            replace(one, networks=tuple(use for use in networks if use.prompt == number))
            for number, one in enumerate(call.assemble_each(language))
        ]

    def identity(self, **how: Unpack[HowOptions]) -> dict[str, Any]:
        """All that determines the result except the prompt, as JSON values for cache keys."""
        options = self._make_options(how)
        tagged = options.dialect == "a1111"  # without LoRAs too: earlier versions encoded the tags
        return {
            "family": self.family.name,
            "force_zeros": self.force_zeros,
            "encoders": [self._identify_encoder(i, options) for i in range(len(self.encoders))],
            "inversions": dict(sorted(self._files.items())),
            "options": options.identity(),
            **({"networks": self._networks.identity()} if tagged else {}),
        }

    def add_inversion(self, path: str | Path, token: str | None = None) -> tuple[Inversion, ...]:
        """Add the textual inversions of a file, for prompts to use by `token` or by their names.

        Raises:
            ConfigError: the name is in use, or the file has no vectors for these encoders.
            ShapeError: vectors of another model; nothing is added.
            CheckpointError: the file cannot be used.
        """
        found = read_inversion(path, token)
        for one in found:
            if one.token in self._files:
                raise ConfigError(
                    f"an inversion is already called {one.token!r}; pass another token=."
                )
        vectors = [
            {one.token: one.for_encoder(e.rule.part, e.width) for one in found}
            for e in self.encoders
        ]
        for one in found:
            if all(of_encoder[one.token] is None for of_encoder in vectors):
                raise ConfigError(
                    f"{path} has vectors for {', '.join(one.vectors)}, but {self.family.title} "
                    "has no such encoder; use an inversion trained for it."
                )
        self._files |= {one.token: one.sha256 for one in found}
        for encoder, of_encoder in zip(self.encoders, vectors, strict=True):
            encoder.inversions |= {t: v for t, v in of_encoder.items() if v is not None}
        return found

    def add_lora(
        self, path: str | Path, scale: float = 1.0, name: str | None = None
    ) -> tuple[LoraReport, ...]:
        """Merge the text-encoder layers of a LoRA file; returns one report per encoder.

        Raises:
            ConfigError: the name is in use, or the file has nothing for these encoders.
            ShapeError: layers of another model; nothing is changed.
            CheckpointError: the file cannot be used.
        """
        lora = read_lora(path)
        name = Path(path).stem if name is None else name
        reports: list[LoraReport] = []
        try:
            for stack in self._stacks:
                reports.append(stack.add(name, lora, scale))
        except Exception:
            for stack in self._stacks[: len(reports)]:
                stack.remove(name)
            raise
        if not any(report.applied for report in reports):
            self.remove_lora(name)
            raise ConfigError(
                f"{path} changes no layer of the text encoders of {self.family.title}; it may be "
                "for the denoiser alone, or for another model; use another LoRA."
            )
        return tuple(reports)

    def rescale_lora(self, name: str, scale: float) -> None:
        """Change the scale of a merged LoRA, exactly."""
        for stack in self._stacks:
            stack.rescale(name, scale)

    def remove_lora(self, name: str) -> None:
        """Remove a LoRA; after the last one, the weights are bit for bit the original ones."""
        for stack in self._stacks:
            stack.remove(name)

    def _encode_pass(
        self,
        request: Request,
        options: Options,
        t5: tuple[Tensor | None, Tensor | None],
        sizes: Sizes | None,
    ) -> Conditioning:
        request, networks = self._networks.read(request, options)
        zeros = self.force_zeros
        call = TextCall(
            self.family, self.encoders, request, options, force_zeros=zeros, sizes=sizes
        )
        language = self._encode_t5(request, *t5)
        with self._networks.lock:
            call.encode(self._networks.merge)
        return replace(call.assemble(language), networks=networks)

    def _make_options(self, how: Mapping[str, Any]) -> Options:
        """Check the options, and remove a clip_skip that the chosen tool ignores."""
        options = Options.of(how)
        name = self.family.name
        if options.clip_skip and name in options.behaviour.ignores_skip:
            warn(
                f"{options.behaviour.name} ignores clip skip on {self.family.title}, so it has no "
                'effect under this compat; pass compat="diffusers" to apply it.',
                ConditioningWarning,
                stacklevel=3,
            )
            return replace(options, clip_skip=None)
        return options

    def _encode_t5(
        self, request: Request, t5: Tensor | None = None, negative_t5: Tensor | None = None
    ) -> T5Tensors:
        return encode_t5(
            self.family,
            self._language,
            request.language,
            (t5, negative_t5),
            width=self._language_width,
            any_size=self._any_size,
        )

    def _add_images(self, found: Conditioning, images: Any, *, patches: bool) -> Conditioning:
        rule = self.family.image
        if rule is None or self.image is None:
            raise ConfigError(
                f"this conditioner of {self.family.title} has no image encoder; "
                + ("pass one in encoders=." if rule else "leave images out.")
            )
        if patches:
            rule = replace(rule, layer=-2, negative="encoded zeros", token_axis=False)
        image, none = encode_images(self.image, images, rule)
        negative = found.negative or Conditioning(self.family)
        return replace(found, image=image, negative=replace(negative, image=none))

    def _identify_encoder(self, number: int, options: Options) -> dict[str, Any]:
        encoder, stack = self.encoders[number], self._stacks[number]
        return {
            "part": encoder.rule.part,
            "weights": encoder.clip.card.space,  # LoRAs included
            "precision": encoder.clip.card.precision,
            "context": encoder.tokenizer.spec.context,
            "merges": encoder.tokenizer.spec.merges,
            "pad": encoder.pad,
            "layer": encoder.layer(options.clip_skip),
            "final_norm": encoder.rule.final_norm,
            "pooled": encoder.rule.pooled,
            "projects": encoder.projects(folders_do=options.behaviour.projects_folder_l),
            "loras": [list(one) for one in stack.identity],
        }


def _check_contexts(encoders: Sequence[TextEncoder]) -> None:
    """Raise ConfigError for encoders of different contexts, whose sequences cannot be joined."""
    contexts = {e.tokenizer.spec.context for e in encoders if e.own_layer is not None}
    if len(contexts) > 1:
        raise ConfigError(
            f"the text encoders have contexts of {' and '.join(map(str, sorted(contexts)))} "
            "tokens, but their sequences are joined token by token; use encoders of one context."
        )
