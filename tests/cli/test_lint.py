"""`ecliptic lint --dialect`: checks prompts of image generators by their own syntax."""

import json
from typing import Any


def test_the_dialect_decides_what_is_a_finding(run: Any) -> None:
    prompt = "a (red:1.3) fox in deep snow"
    assert "weight-syntax" in run("lint", prompt).stdout
    assert run("lint", prompt, "--dialect", "a1111", "--strict").exit_code == 0
    compel = run("lint", prompt, "--dialect", "compel", "--strict")
    assert compel.exit_code == 1
    assert compel.stdout.startswith("1:3: warning [other-dialect]")


def test_a_prompt_that_cannot_be_read_is_a_finding_and_no_crash(run: Any) -> None:
    result = run("lint", "a (fox:1.2.3) runs", "--dialect", "a1111", "--json")
    (finding,) = json.loads(result.stdout)[0]["findings"]
    assert (finding["code"], finding["severity"]) == ("unreadable", "error")


def test_an_unknown_dialect_names_those_there_are(run: Any) -> None:
    result = run("lint", "a fox", "--dialect", "midjourney")
    assert result.exit_code == 2
    assert all(name in result.stderr for name in ("plain", "a1111", "comfyui", "compel"))
