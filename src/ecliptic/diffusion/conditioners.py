"""`Conditioner`: prompts and images in, the tensors of one family out.

Hides parsing, tokens, chunks, weights, layers and what tools disagree on; each is its own module,
and this one only leads from one to the next. B prompts, T tokens, D width, E vector size.
"""

import warnings
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
from ecliptic.diffusion.encode.request import Request, Texts, make_request
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.images import image_conditioning
from ecliptic.diffusion.language import LanguageEncoder, T5Tensors, t5_tensors
from ecliptic.diffusion.micro_conditioning import Sizes
from ecliptic.diffusion.options import HowOptions, Options
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, InputError


class Conditioner:
    """The encoders of a family, ready to be called; made by `conditioner`."""

    def __init__(
        self,
        family: Family,
        encoders: Sequence[TextEncoder],
        *,
        image: Clip | None = None,
        force_zeros: bool = False,
        language: LanguageEncoder | None = None,
        language_width: int | None = None,
    ) -> None:
        self.family = family
        self.encoders = tuple(encoders)
        _check_contexts(self.encoders)
        self.image = image
        self.force_zeros = force_zeros
        self._language = language
        self._language_width = language_width
        self._files: dict[str, str] = {}  # token of an inversion -> SHA-256 of its file
        self._stacks = tuple(
            LoraStack(one.tower, one.rule.part, first=one.rule.folder == "text_encoder")
            for one in self.encoders
        )

    def __repr__(self) -> str:
        names = ", ".join(one.clip.card.name for one in self.encoders)
        return f"Conditioner({self.family.name!r}, {names or self.image!r})"

    def __call__(
        self,
        prompt: Texts | None = None,
        *,
        negative: Texts | None = None,
        prompt_2: Texts | None = None,
        negative_2: Texts | None = None,
        images: Any = None,
        patches: bool = False,
        t5: Tensor | None = None,
        negative_t5: Tensor | None = None,
        sizes: Sizes | None = None,
        images_per_prompt: int = 1,
        **how: Unpack[HowOptions],
    ) -> Conditioning:
        """Conditioning for B prompts, or for images, or for both.

        Args:
            prompt: a text or B of them.
            negative: what to steer away from; None and "" differ where the family says so.
            prompt_2: another wording for the second encoder.
            negative_2: likewise; as in diffusers it counts only beside `negative`.
            images: images, for families with an image encoder.
            patches: of IP-Adapter plus: the penultimate layer instead of the vector.
            t5: (B, T, D) last hidden state of T5, for SD3 and FLUX.
            negative_t5: likewise, of the negatives.
            sizes: what SDXL is told about the image.
            images_per_prompt: rows for each prompt, one behind the other.
            **how: the fields of `Options`: dialect, emphasis, long, clip_skip, compat, steps, grad.

        Raises:
            ConfigError: an option that is none, or that this family cannot follow.
            TextError: a prompt that its dialect refuses; the message says where.
            InputError: no prompts, or lists of different length.
            NumericalError: something would not be finite.

        Warns:
            TruncationWarning: tokens were lost, which are quoted.
            ConditioningWarning: something had no effect.
        """
        options = self._options(how)
        check_count("images_per_prompt", images_per_prompt)
        if prompt is None and images is None:
            wants = "images" if not self.encoders else "a prompt"
            raise InputError(f"{self.family.title} is conditioned on {wants}; pass one.")
        found = Conditioning(self.family)
        if prompt is not None:
            request = self._request(prompt, negative, prompt_2, negative_2)
            zeros = self.force_zeros
            call = TextCall(
                self.family, self.encoders, request, options, force_zeros=zeros, sizes=sizes
            )
            language = self._t5(request, t5, negative_t5)
            call.encode()
            found = call.conditioning(language)
        if images is not None:
            found = self._with_images(found, images, patches=patches)
        return found.repeat(images_per_prompt)

    def each(self, prompts: Sequence[str], **how: Unpack[HowOptions]) -> list[Conditioning]:
        """One conditioning per prompt, without negatives, each at its own length.

        Raises what a call raises; a prompt that changes over the steps is a ConfigError.
        """
        options = self._options(how)
        # the tensors of one prompt may not depend on which others are encoded beside it
        alone = replace(options.behaviour, mean_over_batch=False)
        request = self._request(prompts)
        options = replace(options, compat=alone)
        call = TextCall(self.family, self.encoders, request, options, positive_only=True)
        call.check_single()
        language = self._t5(request)
        call.encode()
        return call.each(language)

    def identity(self, **how: Unpack[HowOptions]) -> dict[str, Any]:
        """All but the prompt that decides the numbers, as JSON values, for the keys of caches."""
        options = self._options(how)
        return {
            "family": self.family.name,
            "force_zeros": self.force_zeros,
            "encoders": [self._encoder_identity(i, options) for i in range(len(self.encoders))],
            "inversions": dict(sorted(self._files.items())),
            "options": options.identity(),
        }

    def add_inversion(self, path: str | Path, token: str | None = None) -> tuple[Inversion, ...]:
        """Let prompts use the textual inversions of a file, under `token` or their own names.

        Raises:
            ConfigError: the name is taken, or no encoder has vectors in the file.
            ShapeError: vectors of another model; nothing is added.
            CheckpointError: the file cannot be used.
        """
        found = read_inversion(path, token)
        for one in found:
            if one.token in self._files:
                raise ConfigError(
                    f"an inversion is called {one.token!r} already; pass another token=."
                )
        vectors = [
            {one.token: one.for_encoder(e.rule.part, e.width) for one in found}
            for e in self.encoders
        ]
        for one in found:
            if all(of_encoder[one.token] is None for of_encoder in vectors):
                raise ConfigError(
                    f"{path} has vectors for {', '.join(one.vectors)}, and {self.family.title} "
                    "has no such encoder; use an inversion trained for it."
                )
        self._files |= {one.token: one.sha256 for one in found}
        for encoder, of_encoder in zip(self.encoders, vectors, strict=True):
            encoder.inversions |= {t: v for t, v in of_encoder.items() if v is not None}
        return found

    def add_lora(
        self, path: str | Path, scale: float = 1.0, name: str | None = None
    ) -> tuple[LoraReport, ...]:
        """Merge the text-encoder layers of a LoRA file; one report per encoder.

        Raises:
            ConfigError: the name is taken, or the file has nothing for these encoders.
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
                "for the denoiser alone, or for another model."
            )
        return tuple(reports)

    def rescale_lora(self, name: str, scale: float) -> None:
        """Give a merged LoRA another scale, exactly."""
        for stack in self._stacks:
            stack.rescale(name, scale)

    def remove_lora(self, name: str) -> None:
        """Take a LoRA out again; after the last one the weights are bit for bit what they were."""
        for stack in self._stacks:
            stack.remove(name)

    def _options(self, how: Mapping[str, Any]) -> Options:
        """Checked, and without a clip_skip that the chosen tool ignores."""
        options = Options.of(how)
        name = self.family.name
        if options.clip_skip and name in options.behaviour.ignores_skip:
            warnings.warn(
                f"{options.behaviour.name} ignores clip skip on {self.family.title}, and so does "
                'compat= after it; pass compat="diffusers" to apply it.',
                ConditioningWarning,
                stacklevel=3,
            )
            return replace(options, clip_skip=None)
        return options

    def _request(
        self,
        prompt: Texts,
        negative: Texts | None = None,
        prompt_2: Texts | None = None,
        negative_2: Texts | None = None,
    ) -> Request:
        if not self.encoders:
            raise ConfigError(f"{self.family.title} reads no text; pass images=.")
        return make_request(self.family, prompt, negative, prompt_2, negative_2)

    def _t5(
        self, request: Request, t5: Tensor | None = None, negative_t5: Tensor | None = None
    ) -> T5Tensors:
        return t5_tensors(
            self.family,
            self._language,
            request.language,
            (t5, negative_t5),
            width=self._language_width,
        )

    def _with_images(self, found: Conditioning, images: Any, *, patches: bool) -> Conditioning:
        rule = self.family.image
        if rule is None or self.image is None:
            raise ConfigError(
                f"this conditioner of {self.family.title} has no image encoder; "
                + ("pass one in encoders=." if rule else "leave images out.")
            )
        if patches:
            rule = replace(rule, layer=-2, negative="encoded zeros", token_axis=False)
        image, none = image_conditioning(self.image, images, rule)
        negative = found.negative or Conditioning(self.family)
        return replace(found, image=image, negative=replace(negative, image=none))

    def _encoder_identity(self, number: int, options: Options) -> dict[str, Any]:
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
    """Refuse encoders whose sequences cannot stand side by side."""
    contexts = {e.tokenizer.spec.context for e in encoders if e.own_layer is not None}
    if len(contexts) > 1:
        raise ConfigError(
            f"the text encoders read {' and '.join(map(str, sorted(contexts)))} tokens at a time, "
            "and their sequences stand side by side here; use encoders of one context."
        )
