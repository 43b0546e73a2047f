"""`Conditioner` turns prompts and images into the tensors of one family.

Parsing, tokens, chunks, weights, layers and the choices of tools are modules of their own; this one
calls them in order. B prompts, T tokens, D width, E vector size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, Unpack

from torch import Tensor

from ecliptic.adapters import Inversion, LoraReport, Strength
from ecliptic.checks import check_count
from ecliptic.diffusion.adapted import Adapters
from ecliptic.diffusion.conditioning import Conditioning, NetworkUse
from ecliptic.diffusion.encode.call import TextCall
from ecliptic.diffusion.encode.effects import GivenCall, warn_without_effect
from ecliptic.diffusion.encode.encoders import TextEncoder
from ecliptic.diffusion.encode.networks import LoraFiles, Networks
from ecliptic.diffusion.encode.request import Hires, Prompts, Request, make_request, make_second
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.foreign_names import names_of
from ecliptic.diffusion.images import encode_images
from ecliptic.diffusion.language import T5Reader
from ecliptic.diffusion.language_encoder import LanguageEncoder
from ecliptic.diffusion.micro_conditioning import Sizes
from ecliptic.diffusion.options import HowOptions, Options
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, InputError, note_warnings

_Pass: TypeAlias = tuple[TextCall, tuple[NetworkUse, ...]]


class Conditioner:
    """The loaded encoders of a family, to be called with prompts; `conditioner` makes it."""

    def __init__(
        self,
        family: Family,
        encoders: Sequence[TextEncoder],
        *,
        image: Clip | None = None,
        force_zeros_for_empty_prompt: bool = False,
        language: LanguageEncoder | Literal[False] | None = None,
        language_width: int | None = None,
        any_size: bool = False,
        loras: LoraFiles | None = None,
    ) -> None:
        self.family = family
        self.encoders = tuple(encoders)
        self.image = image
        self.force_zeros_for_empty_prompt = force_zeros_for_empty_prompt
        self._t5 = T5Reader(family, language, width=language_width, any_size=any_size)
        self._adapters = Adapters(family, self.encoders)
        self._networks = Networks(self._adapters, loras)

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
        prompt_3: Prompts | None = None,
        negative_3: Prompts | None = None,
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
            prompt_2: another wording for the second encoder; in FLUX that is T5.
            negative_2: likewise; as in diffusers, without effect (a warning says so) if no
                `negative` means zeros.
            prompt_3: another wording for the third encoder, T5 of SD3.
            negative_3: likewise.
            images: images, for families with an image encoder.
            patches: read the penultimate layer, not the vector, for IP-Adapter Plus.
            t5: (B, T, D) last hidden state of T5, for SD3 and FLUX; it replaces their own T5.
            negative_t5: the same for the negatives.
            sizes: image sizes and scores for SDXL.
            images_per_prompt: rows for each prompt, next to each other.
            hires: the second pass of A1111, returned as `c.hires`; needs steps=.
            **how: the fields of `Options`: dialect, emphasis, long, clip_skip, compat, steps,
                chunk_ends, max_sequence_length, grad.

        Raises:
            ConfigError: an unknown option, or one that this family does not support.
            TextError: a prompt is not valid in its dialect; the message gives the place.
            InputError: no prompts, or lists of different length.
            NumericalError: a result is not finite.

        Warns:
            TruncationWarning: tokens were dropped; the message quotes them.
            ConditioningWarning: something given had no effect here (one warning says all of it),
                or zeros replaced a tensor; or a tag such as `<lora:name:0.8>` was not applied.
        """
        options = self._make_options(how, also=names_of(Conditioner.__call__))
        check_count("images_per_prompt", images_per_prompt)
        _check_kinds(sizes, hires)
        self._check_given(prompt, images)
        found, passes = Conditioning(self.family), list[_Pass]()
        further = {"prompt_2": prompt_2, "negative_2": negative_2}
        further |= {"prompt_3": prompt_3, "negative_3": negative_3}
        given: dict[str, Any] = {**further, "negative": negative, "t5": t5, "hires": hires}
        given |= {"negative_t5": negative_t5, "sizes": sizes, "images": images}
        with note_warnings() as warnings:
            if prompt is not None:
                request = make_request(self.family, prompt, negative, further)
                shares_t5 = t5 is not None or negative_t5 is not None
                passes = self._make_passes(request, options, sizes, hires, shares_t5=shares_t5)
            self._warn(how, passes, {**given, "patches": patches})
            for one in reversed(passes):  # the second pass first
                later = None if one is passes[-1] else found
                found = replace(self._encode_pass(*one, (t5, negative_t5)), hires=later)
            if images is not None:
                found = self._add_images(found, images, patches=patches)
        return found.repeat(images_per_prompt).note(warnings)

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
        self._warn(how, [(call, networks)], {})
        language = self._t5.read(replace(request, language=(request.language[0], ())), options)
        with self._networks.hold():
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
            "force_zeros": self.force_zeros_for_empty_prompt,
            **self._identify_weights(options),
            "options": options.identity(),
            **self._t5.identity(),
            **({"networks": self._networks.identity()} if tagged else {}),
        }

    def add_inversion(self, path: str | Path, token: str | None = None) -> tuple[Inversion, ...]:
        """Add the textual inversions of a file, for prompts to use by `token` or by their names.

        Returns:
            Those that were added; of a bundle, those that fit an encoder.

        Raises:
            ConfigError: the name is in use, or the file has no vectors for these encoders.
            ShapeError: vectors of another model; nothing is added.
            CheckpointError: the file cannot be used.

        Warns:
            ConditioningWarning: some inversions of a bundle fit no encoder; it says which.
        """
        with self._networks.hold():
            return self._adapters.add_inversion(path, token)

    def remove_inversion(self, token: str) -> None:
        """Remove an inversion; prompts then read its name as words again.

        Raises:
            ConfigError: no inversion is called so.
        """
        with self._networks.hold():
            self._adapters.remove_inversion(token)

    def add_lora(
        self, path: str | Path, scale: Strength = 1.0, name: str | None = None
    ) -> tuple[LoraReport, ...]:
        """Merge the text-encoder layers of a LoRA file; returns one report per encoder.

        Args:
            path: a file or folder, as for `read_lora`.
            scale: a number; or one for each block, of which the last is also for what follows the
                blocks; or either by encoder, {"clip_l": 0.8, "clip_g": [...]}.
            name: for `rescale_lora` and `remove_lora`; None: the file's stem.

        Raises:
            ConfigError: the name is in use, or the file has nothing for these encoders.
            ShapeError: layers of another model; nothing is changed.
            CheckpointError: the file cannot be used.

        Warns:
            ConditioningWarning: keys for text encoders have no effect; it counts and names them.
        """
        with self._networks.hold():
            return self._adapters.add_lora(path, scale, name)

    def rescale_lora(self, name: str, scale: Strength) -> None:
        """Change the scale of a merged LoRA, exactly."""
        with self._networks.hold():
            self._adapters.rescale_lora(name, scale)

    def remove_lora(self, name: str) -> None:
        """Remove a LoRA; after the last one, the weights are bit for bit the original ones."""
        with self._networks.hold():
            self._adapters.remove_lora(name)

    def _check_given(self, prompt: Prompts | None, images: Any) -> None:
        """Raise InputError without anything to encode."""
        if prompt is None and images is None:
            wants = "a prompt; pass one." if self.encoders else "images; pass some."
            raise InputError(f"{self.family.title} needs {wants}")

    def _encode_pass(
        self,
        call: TextCall,
        networks: tuple[NetworkUse, ...],
        t5: tuple[Tensor | None, Tensor | None],
    ) -> Conditioning:
        """Encode the prompts of one pass."""
        language = self._t5.read(call.request, call.options, t5)
        with self._networks.hold():
            call.encode(self._networks.merge)
        return replace(call.assemble(language), networks=networks)

    def _make_passes(
        self,
        request: Request,
        options: Options,
        sizes: Sizes | None,
        hires: Hires | None,
        *,
        shares_t5: bool,
    ) -> list[_Pass]:
        """Parse the prompts of a call, and those of A1111's second pass."""
        first, networks = self._make_call(request, options, sizes)
        if hires is None:
            return [(first, networks)]
        second = make_second(self.family, first.request, hires, options.steps, shares_t5=shares_t5)
        later = replace(options, steps=hires.steps)
        return [(first, networks), self._make_call(second, later, sizes)]

    def _make_options(self, how: Mapping[str, Any], also: Sequence[str] = ()) -> Options:
        """Check the options, and remove a clip_skip that the chosen tool ignores."""
        options = Options.of(how, also)
        if self.family.name in options.behaviour.ignores_skip:
            return replace(options, clip_skip=None)  # `_warn` says so
        return options

    def _warn(
        self, how: Mapping[str, Any], passes: Sequence[_Pass], arguments: Mapping[str, Any]
    ) -> None:
        """Warn of what has no effect in a call of one or two passes, or of none."""
        self._networks.warn(use for _, uses in passes for use in uses)
        text, later, *_ = (*(call for call, _ in passes), None, None)
        has_t5 = self._t5.encoder is not None
        warn_without_effect(
            GivenCall(self.family, self.encoders, how, arguments, text, later, has_t5=has_t5)
        )

    def _make_call(self, request: Request, options: Options, sizes: Sizes | None) -> _Pass:
        """Parse the prompts, and find the networks that they name."""
        request, networks = self._networks.read(request, options)
        zeros = self.force_zeros_for_empty_prompt
        call = TextCall(
            self.family, self.encoders, request, options, force_zeros=zeros, sizes=sizes
        )
        return call, networks

    def _add_images(self, found: Conditioning, images: Any, *, patches: bool) -> Conditioning:
        rule = self.family.image
        if rule is None or self.image is None:
            raise ConfigError(
                f"this conditioner of {self.family.title} has no image encoder; "
                + ("pass one in encoders=." if rule else "leave images out.")
            )
        if patches and not rule.patches:
            raise ConfigError(
                f"{self.family.title} always reads the same layer; patches is for "
                '"ip-adapter", so leave it out.'
            )
        if patches:
            rule = replace(rule, layer=-2, negative="encoded zeros", token_axis=False)
        image, none = encode_images(self.image, images, rule)
        negative = found.negative or Conditioning(self.family)
        facts = found.facts
        if found.tokens is None and found.pooled is None:
            facts = replace(facts, positive="images", negative=rule.negative)
        return replace(found, image=image, negative=replace(negative, image=none), facts=facts)

    def _identify_weights(self, options: Options) -> dict[str, Any]:
        """The encoders without the LoRAs that a call in another thread may have merged."""
        with self._networks.hold():
            return {
                "encoders": [self._identify_encoder(i, options) for i in range(len(self.encoders))],
                "inversions": dict(sorted(self._adapters.files.items())),
            }

    def _identify_encoder(self, number: int, options: Options) -> dict[str, Any]:
        encoder, stack = self.encoders[number], self._adapters.stacks[number]
        return {
            "part": encoder.rule.part,
            "weights": encoder.clip.card.space,  # LoRAs included
            "precision": encoder.clip.card.precision,
            "context": encoder.context,
            "merges": encoder.tokenizer.spec.merges,
            "pad": encoder.pad,
            "layer": encoder.layer(options.clip_skip),
            "final_norm": encoder.rule.final_norm,
            "pooled": encoder.rule.pooled,
            "projects": encoder.projects(folders_do=options.behaviour.projects_folder_l),
            "loras": [
                [sha256, list(scale) if isinstance(scale, tuple) else scale]
                for sha256, scale in stack.identity
            ],
        }


def _check_kinds(sizes: object, hires: object) -> None:
    """Raise ConfigError for numbers or mappings in place of the classes that hold them."""
    for name, given, kind in (("sizes", sizes, Sizes), ("hires", hires, Hires)):
        if given is not None and not isinstance(given, kind):
            raise ConfigError(f"{name} must be {kind.__name__}(...) or None, got {given!r}.")
