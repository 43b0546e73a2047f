"""Prompts for compel's dialect, and compel itself as the reference reader."""

import warnings
from functools import cache
from typing import Any

import pytest
from hypothesis import strategies as st

from ecliptic.prompts.compel import grammar as compel
from ecliptic.prompts.reading import Line, Reading
from ecliptic.prompts.tree import loras
from tests import peers

Weighted = list[tuple[str, float]]

PLAIN = """
a|a cat|hot-dog|a cat, a dog|a,b,,c|1.5 apples|3d render|C# code|e.g. this|what?!|a/b|100%
x:1|key=value|a [cat:dog:0.5]|<lora:x:1>|BREAK|a BREAK b AND c|a (word:1.2) b|  spaced   out
line one\nline two|tab\there|é ü|日本 語|😀 face|it's|-5 degrees|+1|a - b|a + b|-|+|--|a -b +c
3-d|x-y-z|word.|word,|word...|"|""|" "|a " b|'quoted'|()|( )|(a|a)|(a))|((a)|((a))|) a (
""".strip()
WEIGHTS = r"""
a cat++|a cat+|cat-|cat---|cat+ dog-|apple+++-|apple-+|C++|a-b+|a+b+|cat++dog|(a)+|(a)++ b|(a)-
(blue cat)1.3|(blue cat)0.5|(a)1|(a)0|(a).5|(a)1.|(a)1.2.3|(a) 1.3|(a) +|(x)+1|(a)-1|(a)-0.5|(a)+1.5
(a+ b)++|a (b (c)1.3)1.1|((a)1.2)1.2|(((a)+)+)+|(a (b)- c)+|"a cat"1.2|"a cat"++|"a" b|"a, b"+
("a b"+ c)1.2|(a, b)1.1|(a. b)+|(a.b)+|(1.2)+|(a=b)+|(a -)+|(- a)+|(a-)+|cat.attend(1.2)
cat.attend(++)
(a b).attend(0.5)|"a b".attend(--)|cat .attend( 1.2 )|cat.attend(x)|cat.attend(-1)|a.attend(1
()+|()1.2|""+|(""+ a)|a ()+ b|(a)1.0 b|a (b)1.0 c|(a)+(b)+|(a)+ (b)+
a(b)+|(a)b|(a)+b|word(x)|word (x)|x(y)z
""".strip()
CALLS = r"""
("a","b").and()|("a","b").and(1,0.5)|("a","b").add(1,0.5)|("a", "b") .and (1, 2)|("a").and(2)
("a","b").and(1,0.5) tail|x ("a","b").and()|("a", ()).and(1,2)|("a","").and()|((a b), c).and()
("fire","").blend(0.7,1)|("a","b").blend()|("a","b").blend(1,0.5)|("a","b").blend(1,-0.5)
("a","b").blend(1, .5, no_normalize)|("a","b").blend(no_normalize)|(a, b).blend(1,1)
("a+ b","c").blend(1,1)|("a"+, "b").blend(1,1)|("k=v", "x").blend(1,2)|("a","b").blend(1;2)
("a","b").blend|("a","b").blend(1,1|(a b, c).blend(1,1)|a ("a","b").blend(1,1)
a cat.swap(dog)|a cat.swap(dog) here|(a cat).swap(a dog)|"a cat".swap("a dog")|cat.swap()|().swap(x)
cat.swap(dog, s_start=0.1)|cat.swap(dog, t_end=0.3, s_end=1)|cat.swap(dog, flag)|cat.swap(a.b)
(a cat.swap(dog))1.2 x|cat+.swap(dog)|(cat.swap(dog)+)|("a.swap(b)", "c").and()|cat.swap(dog
withLora(name)|withLora(name,0.5) a cat|a withLora(x_y-z, -1) b|useLora(a, 1.5) x useLora(b)
withLora(a) ("a","b").blend(1,1) withLora(b,2)|(a withLora(x) b)+|withLora(a b)|withLora()|withLora
""".strip()
ESCAPES = r"""
\(a\)|a \(b\) c|\"a\"|\(a|a\)|(a \) b)+|(\(a\))+|"say \"hi\" now"|"say \"hi\" now"++|a\,b|a\.b
C\+\+|a\-
a\=b|(a\=b)+|back\slash|a\\b|\\|\\(a|a\|(a\)|\n|"a\nb"|"a\tb"+|(\"a\")1.2|\\"q|(a\+)+|(a\+ b)1.5
""".strip()
PROMPTS = [
    prompt.replace("\\n", "\n") if name == "plain" else prompt
    for name, group in (("plain", PLAIN), ("", WEIGHTS), ("", CALLS), ("", ESCAPES))
    for line in group.splitlines()
    for prompt in line.split("|")
]
REFUSED = [  # by compel, with its own exception or one of its parser library
    ('("a","b").blend(1)', "position 16"),
    ('("a","b").and(1,2,3)', "3 weight"),
    ('("a","b").blend(1,1) tail', "position 21"),
    ('("a.swap(b)","c").blend(1,1)', "swap"),
    ('("a","b").blend(x,1)', "'x' at position 16"),
    ('("a","b").and(1, no_normalize)', "no_normalize"),
]


@cache
def parser() -> Any:
    """compel's parser; skips the test if compel is not installed."""
    peers.transformers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("compel.prompt_parser")
        return module, module.PromptParser()


def read_by_compel(text: str) -> tuple[list[Any], Weighted]:
    """The parts and LoRAs that compel reads in `text`."""
    module, found = parser()
    conjunction = found.parse_conjunction(text)
    parts: list[Any] = []
    for part, weight in zip(conjunction.prompts, conjunction.weights, strict=True):
        if isinstance(part, module.Blend):
            sides = zip(part.prompts, part.weights, strict=True)
            blended = [(_fragments(module, side), one) for side, one in sides]
            parts.append(("blend", part.normalize_weights, blended))
        else:
            parts.append((_fragments(module, part), weight))
    loras = [(one.model, float(one.weight)) for one in conjunction.lora_weights]
    return parts or [([("", 1.0)], 1.0)], loras  # compel cannot encode an empty prompt; we can


def _fragments(module: Any, part: Any) -> Weighted:
    """Texts with weights; the first side of a swap, as compel encodes for plain samplers."""
    found: Weighted = []
    for child in part.children:
        swap = isinstance(child, module.CrossAttentionControlSubstitute)
        found += [(one.text, one.weight) for one in (child.original if swap else [child])]
    return found


def read_by_us(text: str) -> tuple[list[Any], Weighted]:
    """The parts and LoRAs that we read in `text`."""
    tree = compel.read(text)
    return parts_of(compel.reading_of(tree)), list(loras(tree))


def parts_of(reading: Reading) -> list[Any]:
    """A reading in the form of `read_by_compel`."""
    if isinstance(reading, Line):
        return [(_texts(reading), 1.0)]
    parts = [(_texts(part), weight) for part, weight in reading.parts]
    return [("blend", reading.normalize, parts)] if reading.kind == "blend" else parts


def _texts(line: Reading) -> Weighted:
    assert isinstance(line, Line)
    return [(part.text, part.weight) for part in line.parts if hasattr(part, "text")]


WORDS = st.sampled_from(
    [
        "a",
        "cat",
        "hot-dog",
        "x:1",
        "[b]",
        "C",
        "é",
        r"\(x\)",
        r"a\,b",
        "3d",
        "withLora",
        "a|b",
        "+y",
    ]
)
SIGNS = st.sampled_from(["", "", "+", "++", "-", "--"])
OPERATORS = st.sampled_from(["+", "--", "1.3", "0.5", ".5", "0", "", ".attend(1.2)", " ++", "+1"])
GAPS = st.sampled_from([" ", " ", "", ", ", "\n", ". "])


def _row(one: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(one, GAPS).map("".join)
    return st.lists(pair, max_size=4).map("".join)


def _deeper(one: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    row = _row(one)
    return st.one_of(
        st.tuples(row, OPERATORS).map(lambda found: f"({found[0]}){found[1]}"),
        st.tuples(WORDS, SIGNS).map("".join),
        st.tuples(WORDS, row).map(lambda found: f"{found[0]}.swap({found[1]}, s_start=0.1)"),
        st.sampled_from(["withLora(x, 0.5)", "withLora(y-1)", ",", ".", '"a b"', '"x, y"1.2']),
    )


TEXTS = _row(st.recursive(st.tuples(WORDS, SIGNS).map("".join), _deeper, max_leaves=8))
_ITEM = st.one_of(
    WORDS,
    _row(st.tuples(WORDS, SIGNS).map("".join)).map('"{}"'.format),
    _row(st.tuples(WORDS, SIGNS).map("".join)).map("(x {})".format),
)
JOINED = st.tuples(
    st.lists(_ITEM, min_size=2, max_size=2).map(", ".join),
    st.sampled_from([".blend(1, 0.5)", ".blend(1,.5,no_normalize)", ".and()", ".and(1,2)"]),
).map(lambda found: f"({found[0]}){found[1]}")
GENERATED = st.one_of(TEXTS, JOINED)
