"""Messages of the library in the words of the command line: flags in place of Python's arguments.

The library says "pass heads=(image, text)"; who typed a command reads "pass --heads image,text".
"""

import re

from ecliptic.errors import did_you_mean

FLAGS = {  # argument in Python -> flag
    "activation": "--activation",
    "heads": "--heads",
    "image_spec": "--image-spec",
    "tokenizer_spec": "--tokenizer-spec",
    "part": "--part",
    "revision": "--revision",
    "offline": "--offline",
    "device": "--device",
    "precision": "--precision",
    "kernels": "--kernels",
    "pixels": "--pixels",
    "preprocess": "--preprocess",
    "image_size": "--image-size",
    "batch_size": "--batch-size",
    "layout": "--layout",
    "to": "--to",
    "overwrite": "--force",
    "encoders": "--encoders",
    "dialect": "--dialect",
    "emphasis": "--emphasis",
    "long": "--long",
    "clip_skip": "--clip-skip",
    "compat": "--compat",
    "steps": "--steps",
    "chunk_ends": "--chunk-ends",
    "loras": "--loras",
    "negative": "--negative",
    "prompt_2": "--prompt-2",
    "negative_2": "--negative-2",
    "prompt_3": "--prompt-3",
    "negative_3": "--negative-3",
    "max_sequence_length": "--max-sequence-length",
    "t5": "--t5",
    "any_size": "--any-size",
    "templates": "--templates",
    "remove_others": "--remove-others",
    "calibrated": "--calibrated",
    "backbone": "--backbone",
    "columns": "--columns",
    "method": "--method",
    "few_shot": "--method",
    "strokes": "--strokes",
    "way": "--way",
    "seconds": "--seconds",
}
PHRASES = {  # what has another form on the command line, or none
    r"\bper_label=True": "--method per-label",
    r"\bthe promise known=": "--abstain known=",
    r"\bpass several=False": "leave --method several out",
    r"\bseveral=True": "--method several",
    r"; give the labels as a mapping": "",
    r", or pass overflow=\"truncate\" to cut them(?: without this warning)?": "",
    r"pass a `long` layout with more chunks, such as long=\"chunk\"": "split it with --long chunk",
    r", or pass t5= as a tensor": "",
    r", or its tensors to a call": "",
    r"\bt5=FOLDER to the conditioner": "--t5 FOLDER",
    r"\bt5=False": "--no-t5",
    r", as in conditioner\(\"sdxl\", \"[^\"]*\"\)": " with --for",
    r"loras=\.\.\., a folder or the paths by name, when you make the conditioner": "loras=FOLDER",
    r"read the text with errors=\"replace\"": "save the text as UTF-8",
    r"; call to_diffusers\(\) of each part of c\.alternatives": "; encode each part of AND alone",
    r"; call to_diffusers\(\) of c\.at\(step\)": "; write the prompt of one step, unscheduled",
    r", and c\.alternatives has the weight": "",
    r"pass the folder of T5 when you make the conditioner": "pass --t5 FOLDER",
    r"\bhires= is a second pass": "--hires-steps is a second pass",
    r"\bhires= has other": "--hires-prompt has other",
    r"merge (them|the file) with add_lora": r"merge \1 with --lora",
    r"embed the pictures anew with reembed\b": "embed the pictures anew with --reembed",
    r"pass the model to Library\.open": "name the model with --model",
    r"use convention=\"guarded\"": "use --metric refclipscore",
    r"\btoken=": "--inversion FILE=",
    r"\bwith (both )?ImageLimits\(": r"in Python with \1ImageLimits(",
    r"\b(?<!=)ImageSpec\(([^()]*?)(?:, \.\.\.)?\)": r"--image-spec '\1'",
    r"\b(?<!=)TokenizerSpec\(([^()]*?)(?:, \.\.\.)?\)": r"--tokenizer-spec '\1'",
}
USAGE = {  # how typer says what is wrong with a value -> plainly
    r"Input should be less than or equal to (\S+)": r"must be \1 or less.",
    r"Input should be greater than or equal to (\S+)": r"must be \1 or more.",
    r"Input should be a valid integer\b.*": "must be a whole number.",
    r"Input should be a valid number\b.*": "must be a number.",
}
_CHOICE = re.compile(r"Value error, (?P<said>'(?P<name>.*)' is not one of (?P<known>.*))\.")
_VALUE = (
    r"\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|True|None|\.\.\.|\((?P<pair>[\w, ]+)\)"
    r"|[A-Z]\w+\((?P<fields>[^()]*)\)|(?P<bare>\w[\w.]*\w|\w)|"
)
_ARGUMENT = re.compile(rf"(?<![\w-])(?P<name>{'|'.join(FLAGS)})=(?:{_VALUE})")


def name_flags(message: object) -> str:
    """`message` with the flags that stand for the arguments it names."""
    text = str(message)
    for phrase, instead in PHRASES.items():
        text = re.sub(phrase, instead, text)
    return _ARGUMENT.sub(_write_flag, text)


def plain_usage(message: str) -> str:
    """What is wrong with the value of a flag, with the name that may have been meant."""
    for phrase, instead in USAGE.items():
        message = re.sub(phrase, instead, message)
    return _CHOICE.sub(_name_near, message)


def _name_near(found: re.Match[str]) -> str:
    near = did_you_mean(found["name"], re.findall(r"'([^']*)'", found["known"]))
    return f"{found['said']}; {near}" if near else f"{found['said']}."


def _write_flag(found: re.Match[str]) -> str:
    flag = FLAGS[found["name"]]
    if found["pair"]:
        return f"{flag} {found['pair'].replace(' ', '')}"
    if found["fields"] and found["fields"] != "...":
        return f"{flag} '{found['fields']}'"
    value = found["double"] or found["single"] or found["bare"]
    return f"{flag} {value}" if value else flag
