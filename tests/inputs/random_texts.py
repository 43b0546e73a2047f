"""Seeded random texts that are hard to clean, to split and to merge; `texts.py` has fixed ones."""

import random
from collections.abc import Callable, Iterator, Sequence

from ecliptic.inputs import written_vocabulary
from tests.inputs.texts import HARD, SPECIALS

_SPACES = (
    " \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2007\u200b\u2028\u2029\u202f\u205f\u3000"
)
_APOSTROPHES = "'\u2019\u2018\u02bc\uff07\x92"
_ENDINGS = ["s", "t", "re", "ve", "m", "ll", "d", "\u017f", "x", "", "s't"]
_ENTITIES = (
    "&amp; &amp;amp; &lt;b&gt; &eacute; &Eacute &#39; &#x27;s &#0; &#128; &#x1F600; &#xD800; &# &; "
    "&notit; &nbsp; &rsquo;re &hellip; &copy2 &#; &#x; &amp;#233; &frac12; &NewLine; &zwnj; &#65;"
)
_EMOJI = "👩👨👧👦\u200d\ufe0f\u20e3🏽🏿🇫🇷🇩🇪🏳🌈❤☃😀🧑🚀©™1#"
_MARKS = (
    "\u0300\u0301\u0316\u0327\u0338\u0345\u0489\u05b0\u064b\u093c\u0e31\u1ab0\u20dd\u3099\ufe20"
)
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_NUMBERS = "0123456789.,\u00bd\u00b2\u0663\u2167"
_FEW = ["a", "la", "<>w/", "-.", "\u6f22\u00e9", "x\u0301", "\u03a3o"]  # for words of one run
_BLOCKS = (  # first and last code point of scripts and kinds of characters, in hexadecimal
    "61-7a 41-5a 30-39 21-2f 3a-40 80-9f a1-ff 100-24f 250-2ff 370-3ff 400-52f 531-58a 590-5f4 "
    "600-6ff 900-97f e01-e5b 10a0-10ff 1100-11ff 13a0-13fd 1e00-1eff 1f00-1fff 2010-205e 2070-209c "
    "20a0-20bf 2100-218b 2190-23ff 2460-24ff 2c60-2c7f 3041-30ff 4e00-9fff a640-a69f a720-a7ff "
    "ab30-abbf ac00-d7a3 e000-e0ff f900-faff fb00-fb4f fe30-fe6f ff01-ffee fff9-ffff 10400-1044f "
    "1d165-1d17f 1d400-1d7ff 1e900-1e95f 1f100-1f1ff 1f600-1f64f 20000-20100 e0001-e007f"
)


def random_texts(count: int, seed: int = 0) -> Iterator[str]:
    """Texts of one to six pieces of every kind, joined by a space, by nothing or by any space."""
    source = random.Random(seed)
    kinds = _Pieces(source).kinds()
    for _ in range(count):
        parts = [source.choice(kinds)() for _ in range(source.randint(1, 6))]
        text = source.choice([" ", " ", "", source.choice(_SPACES)]).join(parts)
        yield source.choice([text, text, text.lower(), text.upper(), text.title()])


class _Pieces:
    """Draws pieces of texts from `source`."""

    def __init__(self, source: random.Random) -> None:
        self.source, self.blocks = source, _BLOCKS.split()

    def kinds(self) -> list[Callable[[], str]]:
        """A function for each kind of piece."""
        tokens = [name.removesuffix("</w>") for name in written_vocabulary() if name.isascii()]
        some, choice = self.some, self.source.choice
        return [
            self.planes,
            self.block,
            lambda: self.block() + self.block(),
            lambda: self.block() + some(_MARKS, 10),
            self.contraction,
            self.mojibake,
            lambda: some(_EMOJI, 8),
            lambda: some(_NUMBERS, 10),
            lambda: some(_PUNCTUATION, 12),
            lambda: some([chr(code) for code in range(128)], 12),
            lambda: some("etaoinshrdlu", choice([12, 40, 300])),
            lambda: some(choice(_FEW), 80),
            lambda: some(tokens, 3),
            lambda: some(_ENTITIES.split(), 3),
            lambda: some(_SPACES, 4),
            lambda: choice(HARD),
            lambda: choice(SPECIALS) + choice(["", " ", "x", ">"]),
        ]

    def some(self, units: Sequence[str], most: int) -> str:
        """One to `most` of the units."""
        return "".join(self.source.choices(units, k=self.source.randint(1, most)))

    def planes(self) -> str:
        """Characters of all planes, assigned or not."""
        codes = (self.source.randrange(0x110000) for _ in range(self.source.randint(1, 12)))
        return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)

    def block(self) -> str:
        """Characters of one script or kind."""
        first, last = (int(code, 16) for code in self.source.choice(self.blocks).split("-"))
        return self.some([chr(code) for code in range(first, last + 1)], 8)

    def contraction(self) -> str:
        """Such as "don't", of any apostrophe, before or behind anything."""
        start = self.source.choice(["don", "WE", "x1", "", "'", "\u00e9", "!"])
        ends = [*_ENDINGS, *map(str.upper, _ENDINGS)]
        return start + self.source.choice(_APOSTROPHES) + self.source.choice(ends)

    def mojibake(self) -> str:
        """Characters of one script, read in a wrong encoding."""
        wrong = self.source.choice(["latin-1", "cp1252", "cp437", "mac-roman"])
        return self.block().encode().decode(wrong, errors="replace")
