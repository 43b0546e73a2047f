"""A1111's tags of extra networks, such as `<lora:name:0.8>`: taken out before all other stages.

Source: `parse_prompt` of modules/extra_networks.py, and `activate` of
extensions-builtin/Lora/extra_networks_lora.py and modules/extra_networks_hypernet.py, in
AUTOMATIC1111's web UI. Tags of unknown kinds are taken out too. Only positive prompts have tags; in
a negative one they are words.
"""

import re
from collections.abc import Sequence

from ecliptic.prompts.limits import read_number
from ecliptic.prompts.traced import Traced, join
from ecliptic.prompts.tree import Network

_LORAS = ("lora", "lyco")  # "lyco" is an alias
_HYPERNET = "hypernet"
_TAG = re.compile(r"<(\w+):([^>]+)>")


def take_networks(prompt: Traced) -> tuple[Traced, tuple[Network, ...]]:
    """The prompt without its tags, and the tags.

    Raises:
        TextError: a multiplier is not a finite number.
    """
    found: list[Network] = []
    rest: list[Traced] = []
    start = 0
    for match in _TAG.finditer(prompt.text, 0, prompt.text.rfind(">") + 1):  # in linear time
        rest.append(prompt[start : match.start()])
        start = match.end()
        span = prompt[match.start() : start].span
        found.append(_read_network(match[1], match[2].split(":"), span))
    return join([*rest, prompt[start:]]) if found else prompt, tuple(found)


def write_network(network: Network) -> str:
    """The tag as it was written."""
    return f"<{network.kind}:{':'.join(network.items)}>"


def escape_tags(text: str, after: str) -> str:
    """Escape what would read as a tag in `text`, if `after` follows it."""
    end = max(0, (text + after).rfind(">"))
    return re.sub(r"<(?=\w+:)", r"<\\", text[:end]) + text[end:]


def _read_network(kind: str, items: Sequence[str], span: tuple[int, int]) -> Network:
    pairs = [item.split("=") for item in items]
    named = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    placed = ["=".join(pair) for pair in pairs if len(pair) != 2]
    name = placed[0] if placed else ""
    weight = denoiser = 1.0
    if kind in (*_LORAS, _HYPERNET):
        weight = read_number(placed[1], span[0]) if len(placed) > 1 else 1.0
    if kind in _LORAS:
        weight = read_number(named["te"], span[0]) if "te" in named else weight
        denoiser = read_number(placed[2], span[0]) if len(placed) > 2 else weight
        denoiser = read_number(named["unet"], span[0]) if "unet" in named else denoiser
    rank = named.get("dyn", placed[3] if len(placed) > 3 else None)
    return Network(kind, name, weight, denoiser, rank, tuple(items), span)
