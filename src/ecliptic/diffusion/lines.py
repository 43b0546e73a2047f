"""Lines of a prompt through one encoder: tokens, chunks, vectors, weights, blends.

C chunks, T tokens, D width, E vector size.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.diffusion.blending import blend, blend_pooled, concatenate, concatenate_pooled
from ecliptic.diffusion.emphasis import emphasise
from ecliptic.diffusion.emphasis_mean import original_batch
from ecliptic.diffusion.encoders import TextEncoder
from ecliptic.diffusion.layouts import LaidOut, equalise, lay_out
from ecliptic.diffusion.options import Options
from ecliptic.diffusion.pieces import Piece
from ecliptic.diffusion.rows import Rows, Token
from ecliptic.diffusion.stream import tokenise
from ecliptic.diffusion.wording import Wording
from ecliptic.errors import NumericalError
from ecliptic.prompts import Break, Line, Reading, Segment

EMPTY = Line((Segment(""),))


@dataclass(frozen=True, eq=False)
class Prepared:
    """A line as tokens, and where each of them went."""

    stream: tuple[Token | Break, ...]
    laid: LaidOut


class LineEncoder:
    """Encodes lines and readings with one encoder under one call's options."""

    def __init__(self, encoder: TextEncoder, options: Options, *, negative: bool) -> None:
        self.encoder = encoder
        self.options = options
        behaviour, family_skip = options.behaviour, options.clip_skip
        skip = family_skip if behaviour.skips_negative or not negative else None
        self.layer = encoder.layer(skip)
        self._prepared: dict[Line, Prepared] = {}
        self._pieces: dict[Line, Piece] = {}
        self._empty: Piece | None = None
        self._single: dict[bytes, Tensor] = {}  # the empty prompt, which emphasis asks for often

    def prepare(self, line: Line) -> Prepared:
        """Tokens and chunks of `line`; nothing is encoded."""
        if line not in self._prepared:
            encoder, spec = self.encoder, self.encoder.tokenizer.spec
            stream = tokenise(
                line,
                encoder.tokenizer,
                self._wording(),
                inversions=encoder.inversions,
                match=self.options.match,
            )
            laid = lay_out(
                stream,
                self.options.layout,
                context=spec.context,
                start=spec.start_of_text,
                end=spec.end_of_text,
                pad=encoder.pad,
            )
            self._prepared[line] = Prepared(tuple(stream), laid)
        return self._prepared[line]

    def encode(self, readings: Iterable[Reading]) -> None:
        """Encode all lines of `readings` in one batch, for `piece` to find."""
        lines = [line for reading in readings for line in lines_of(reading)]
        shared = self.options.shares_means
        wanted = lines if shared else list(dict.fromkeys(lines))
        if shared or any(line not in self._pieces for line in wanted):
            for line, piece in zip(wanted, self._encoded(wanted, shared=shared), strict=True):
                self._pieces[line] = piece

    def piece(self, reading: Reading) -> Piece:
        """What the encoder made of `reading`."""
        if isinstance(reading, Line):
            if reading not in self._pieces:
                self.encode([reading])
            return self._pieces[reading]
        parts = [self.piece(part) for part, _ in reading.parts]
        weights = [weight for _, weight in reading.parts]
        if reading.kind == "blend":
            return self._blended(parts, weights, normalize=reading.normalize)
        return self._concatenated(parts, weights)

    def empty(self) -> Piece:
        """The empty prompt, one chunk."""
        if self._empty is None:  # never one that was padded beside longer prompts
            self._empty = self._encoded([EMPTY], shared=False)[0]
        return self._empty

    def _wording(self) -> Wording:
        behaviour, padded = self.options.behaviour, self.encoder.rule.pad == "zero"
        if padded:
            return Wording(behaviour.exclamation, behaviour.cleaning_zero_padded)
        return Wording("word", behaviour.cleaning)

    def _encoded(self, lines: Sequence[Line], *, shared: bool) -> list[Piece]:
        rows = [self.prepare(line).laid.rows for line in lines]
        if shared:
            spec = self.encoder.tokenizer.spec
            rows = equalise(rows, end=spec.end_of_text, pad=self.encoder.pad)
        rule, grad = self.encoder.rule, self.options.grad
        outputs = self.encoder.run(rows, self.layer, pooled=rule.pooled is not None, grad=grad)
        counts = [len(one.ids) for one in rows]
        sequences: Sequence[Tensor | None] = [None] * len(rows)
        if outputs.sequence is not None:
            z = torch.split(outputs.sequence, counts)
            sequences = original_batch(z, rows) if shared else list(map(self._weighted, rows, z))
        folders_do = self.options.behaviour.projects_folder_l
        vectors = self.encoder.projects(folders_do=folders_do)
        pooled = outputs.vectors if vectors else outputs.pooled
        firsts = [sum(counts[:i]) for i in range(len(counts))]
        return [
            self._piece(one, z, None if pooled is None else pooled[first], line)
            for one, z, first, line in zip(rows, sequences, firsts, lines, strict=True)
        ]

    def _weighted(self, rows: Rows, z: Tensor) -> Tensor:
        return emphasise(
            rows,
            z,
            self._sequence,
            self.options.weighting,
            pad=self.encoder.pad,
            end_of_text=self.encoder.tokenizer.spec.end_of_text,
        )

    def _sequence(self, rows: Rows) -> Tensor:
        """(C, T, D) of rows that emphasis asks for; the empty prompt is encoded once."""
        plain = len(rows.ids) == 1 and not rows.vectors and rows.mask is None
        key = rows.ids.numpy().tobytes() if plain else b""
        if key and key in self._single:
            return self._single[key]
        found = self.encoder.run([rows], self.layer, pooled=False, grad=self.options.grad).sequence
        assert found is not None  # emphasis acts on sequences alone
        if key:
            self._single[key] = found
        return found

    def _piece(self, rows: Rows, z: Tensor | None, pooled: Tensor | None, line: Line) -> Piece:
        ids = rows.ids.to(self.encoder.clip.device)
        used = torch.ones_like(rows.ids, dtype=torch.bool) if rows.used is None else rows.used
        used = used.to(ids.device)
        sequence = None if z is None else z[used]  # (T, D)
        piece = Piece(sequence, pooled, self.encoder.in_use(ids)[used])
        check_piece(piece, lambda: text_of(line))
        return piece

    def _blended(
        self, parts: Sequence[Piece], weights: Sequence[float], *, normalize: bool
    ) -> Piece:
        sequences = [part.sequence for part in parts if part.sequence is not None]
        pooled = [part.pooled for part in parts if part.pooled is not None]
        longest = max(parts, key=lambda part: part.length)
        empty = self.empty().sequence
        return Piece(
            blend(sequences, weights, normalize=normalize, empty=empty) if sequences else None,
            blend_pooled(pooled, weights, normalize=normalize) if pooled else None,
            longest.mask,
        )

    def _concatenated(self, parts: Sequence[Piece], weights: Sequence[float]) -> Piece:
        sequences = [part.sequence for part in parts if part.sequence is not None]
        pooled = [part.pooled for part in parts if part.pooled is not None]
        empty = self.empty().sequence
        return Piece(
            concatenate(sequences, weights, empty=empty) if sequences else None,
            concatenate_pooled(pooled) if pooled else None,
            torch.cat([part.mask for part in parts]),
        )


def lines_of(reading: Reading) -> list[Line]:
    """Every line inside `reading`, in order."""
    if isinstance(reading, Line):
        return [reading]
    return [line for part, _ in reading.parts for line in lines_of(part)]


def text_of(line: Line) -> str:
    """The words of `line` for a message."""
    return "".join(part.text for part in line.parts if isinstance(part, Segment))


def check_piece(piece: Piece, name: Callable[[], str]) -> None:
    """Raise NumericalError, naming the prompt, if anything in `piece` is not finite."""
    for tensor in (piece.sequence, piece.pooled):
        if tensor is not None and not bool(tensor.isfinite().all()):
            raise NumericalError(
                f"the encoder gave NaN or infinity for {name()!r}; fp16 overflows in some models, "
                'so load with precision="fp32" or "bf16"; if that fails, a weight is damaged.'
            )
