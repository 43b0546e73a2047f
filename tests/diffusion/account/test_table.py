"""The report in a terminal of 80 columns."""

import warnings

import pytest

from ecliptic.diffusion import ConditioningWarning, report_table
from tests.diffusion.account.calls import HOSTILE, call


def test_a_weighted_prompt_reads_like_this() -> None:
    made = call("sdxl", "a (red:1.3) fox", negative="blurry")
    assert report_table(made.report()) == TABLE


def test_lines_fit_80_columns_and_hold_no_controls() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = call(
            "sd1",
            f"a [{HOSTILE}|dog] and {'long words ' * 50} AND (b:1.2):0.3",
            negative="[x:y:2] " * 9,
            steps=7,
        )
    text = report_table(made.report())
    assert max(map(len, text.splitlines())) <= 80
    assert all(character.isprintable() for character in text.replace("\n", ""))
    assert "dropped" in text
    assert "alternative 2, weight 0.3, steps 1 to 7" in text


def test_a_text_whose_tokens_are_not_counted_is_shown_whole() -> None:
    with pytest.warns(ConditioningWarning, match="no T5 to read prompt_2"):
        made = call("flux", "a fox", prompt_2="a\x1b wolf", t5=None)
    assert report_table(made.report()).splitlines()[-4:] == [
        "Prompt 2",
        "t5 (nothing: no T5 was given)",
        "tokens not counted",
        r"a\x1b wolf",
    ]


def test_columns_count_wide_characters_twice() -> None:
    rows = [
        line
        for line in report_table(call("sd1", "猫 cat").report()).splitlines()
        if line.startswith("0")
    ]
    assert rows[0].endswith("1")
    assert rows[0].index("猫") < rows[0].rindex("1")


TABLE = """\
Stable Diffusion XL base (sdxl)
options             dialect a1111, emphasis original, long truncate, compat
                    diffusers, chunk_ends own
tokens              (1, 77, 72) float32
pooled              (1, 36) float32
size_ids            (1, 6) float32
negative.tokens     (1, 77, 72) float32
negative.pooled     (1, 36) float32
negative.size_ids   (1, 6) float32
prompt              a red fox
negative            blurry

Prompt
clip_l (sequence), clip_g (sequence and projected pooled)
3 of 75 tokens
chunk  position  id    piece  text  weight
0      1         320   a      a     1
0      2         736   red    red   1.3
0      3         3240  fox    fox   1

Negative
clip_l (sequence), clip_g (sequence and projected pooled)
1 of 75 tokens
chunk  position  id     piece   text    weight
0      1         21977  blurry  blurry  1"""
