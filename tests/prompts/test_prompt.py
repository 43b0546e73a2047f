import subprocess
import sys

import pytest

from ecliptic.errors import ConfigError, TextError
from ecliptic.prompts.prompt import Prompt, parse
from ecliptic.prompts.reading import Line, Segment
from ecliptic.prompts.tree import LoraUse, Scheduled, Swap, Text, Weighted, merge, walk


def test_plain_prompts_are_text_whatever_they_hold() -> None:
    text = "(a:1.2) AND [b:3] BREAK \\"
    prompt = parse(text)
    assert (prompt.dialect, prompt.text, prompt.print()) == ("plain", text, text)
    assert prompt.spans == [(text, 1.0)]
    assert prompt.alternatives == [(text, 1.0)]
    assert prompt.schedule(9) == [(9, text)]
    (side,) = prompt.readings()
    assert side.schedule == ((1, Line((Segment(text, 1.0, tuple(range(len(text)))),))),)
    assert prompt.tree == (Text(text, tuple(range(len(text)))),)
    assert (prompt.loras, prompt.notes, parse("").tree) == ((), (), ())


def test_unknown_dialects_and_lists_are_refused_with_a_fix() -> None:
    with pytest.raises(ConfigError, match=r"called 'auto'; choose one of 'plain', 'a1111'"):
        parse("a", "auto")  # type: ignore[arg-type]
    with pytest.raises(TextError, match="not list; parse each item of a list"):
        parse(["a"])  # type: ignore[arg-type]


def test_plain_prompts_cannot_say_weights() -> None:
    weighted = Weighted((Text("a"),), 1.2, ":", (0, 7))
    with pytest.raises(
        ConfigError, match="plain prompts cannot express Weighted, only Text; convert"
    ):
        Prompt("(a:1.2)", "plain", (weighted,)).print()


def test_notes_say_what_readings_leave_out() -> None:
    tree = (Swap((Text("a"),), (Text("b"),), (), (3, 12)), LoraUse("ink", 0.5, (13, 30)))
    swap, lora = Prompt("", "plain", tree).notes
    assert ".swap at position 3" in swap
    assert "'ink' at position 13" in lora


def test_walking_visits_what_is_inside_behind_its_node() -> None:
    change = Scheduled((Text("a"),), (Text("b"),), 3.0, False, (0, 7))
    assert list(walk((change, Text("c")))) == [change, Text("a"), Text("b"), Text("c")]


def test_neighbouring_texts_merge_and_empty_ones_go() -> None:
    assert merge((Text("a", (0,)), Text("b", (2,)), Text(""))) == (Text("ab", (0, 2)),)


def test_parsing_needs_no_torch() -> None:
    code = (
        "import sys; from ecliptic.prompts.prompt import parse; "
        "[parse('(a:1.2)', name).readings() for name in ('plain', 'a1111', 'comfyui')]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
