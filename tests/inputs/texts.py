"""Texts that are hard to clean and to split, and hypothesis strategies of them."""

from hypothesis import settings, strategies as st

FIXED = settings(deadline=None, derandomize=True)  # the same texts in every run

HARD = (
    "a photo of a cat",
    "don't WON'T we'll I'M they’re 'ſ",
    "naïve café cafe\u0301 Zürich İstanbul ΟΔΟΣ ﬁne ﬃ ǅ",
    "cafÃ© â€œquotedâ€\x9d Ã la mode Ð¿Ñ€Ð¸Ð²ÐµÑ‚ schÃ¶n ï¿½ \x85",
    "&amp;amp;lt; &lt;b&gt; &eacute; &#39; &#x1F600; &#0; &notit; &nbsp;x&nbsp; &amp &LT",
    "مرحبا بالعالم \u202eevil\u202c שלום",
    "猫が好き 한국어 ｆｕｌｌ　ｗｉｄｔｈ ｶﾀｶﾅ",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 👍🏽 ☃️",
    "Z̷̡̛a̶l̵g̸o̷",
    "nul\x00 bell\x07 vt\x0b ff\x0c esc\x1b[31m del\x7f \x1c\x1f bom\ufeff \u2028\u2029",
    "12345 3.14 ½ ² ٣ Ⅷ 1,000,000",
    "!!! ... --- <<>> ¯\\_(ツ)_/¯ #tag @me $9 _under_score_",
    "\t tabs\nand\r\nlines\u00a0\u3000 ",
    "<script> &amp; </w> <w>",
    "aaaaaaaaaaaaaaaaaaaa abababab loooooool",
)
SPECIALS = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<start_of_text>",
    "<END_OF_TEXT>",
    "<ſtart_of_text>",
)


def _misdecode(text: str) -> str:
    return text.encode().decode("latin-1")


_characters = st.characters(exclude_categories=["Cs"])
_plain = st.characters(min_codepoint=0, max_codepoint=127)
_latin = st.characters(min_codepoint=0x80, max_codepoint=0x24F)
_pieces = st.one_of(
    st.text(_characters, max_size=12),
    st.text(_plain, max_size=20),
    st.text(_plain | _latin, max_size=12),
    st.text("&#;xaltmpgq0123456789 <>", max_size=12),
    st.text(_characters, max_size=6).map(_misdecode),
    st.sampled_from(HARD).flatmap(lambda hard: st.sampled_from(hard.split(" "))),
    st.sampled_from(HARD),
)


def texts(*, specials: bool = True) -> st.SearchStrategy[str]:
    """Texts of up to eight hard pieces; with `specials`, special strings among them."""
    pieces = _pieces | st.sampled_from(SPECIALS) if specials else _pieces
    return st.lists(pieces, max_size=8).flatmap(
        lambda parts: st.sampled_from([" ", "", "\n"]).map(lambda joint: joint.join(parts))
    )
