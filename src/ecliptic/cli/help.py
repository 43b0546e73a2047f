"""The help of a command: its flags in panels, in the order people need them, and examples.

Typer has panels too, but only with rich, whose import would double the time to show the help.
"""

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand

from ecliptic.cli.examples import EXAMPLES

PANELS: dict[str, tuple[str, ...]] = {  # title -> names of parameters; the others come last
    "Input": (
        *("labels", "labels_file", "templates", "images", "queries", "queries_file", "image"),
        *("rules", "safety_checker", "text", "texts", "column", "id_column", "kind", "limit"),
        *("negative", "prompt_2", "negative_2", "prompt_3", "negative_3", "data", "resume"),
        *("metric", "captions", "columns", "words", "prefix"),
        *("hires_steps", "hires_prompt", "hires_negative"),
        *("head", "backbone", "train"),
        *("like", "unlike", "like_weight", "unlike_weight", "where"),
        *("keep", "names", "prune", "prune_all", "retry", "reembed", "deep", "drop", "now"),
    ),
    "Model": (
        *("model", "random", "family", "encoders", "t5", "no_t5", "lora", "loras", "inversion"),
        *(
            "any_size",
            "device",
            "precision",
            "kernels",
            "preprocess",
            "pixels",
            "image_size",
            "batch_size",
            "cache",
            "offline",
        ),
    ),
    "Measuring": ("batch", "seconds", "peer"),
    "int8": ("seen_images", "seen_texts", "min_cosine", "report"),
    "Labelled images": (
        *("calibrate", "method", "abstain", "classifier", "evaluate"),
        *("tune", "recall", "wanted_precision", "confidence", "save"),
        *("audit", "group", "prevalence"),
    ),
    "Reading prompts": (
        "dialect",
        "emphasis",
        "long",
        "clip_skip",
        "compat",
        "steps",
        "max_sequence_length",
        "chunk_ends",
    ),
    "Drawing": (
        *("source_text", "target_text", "way", "mask", "near", "strokes", "stroke_count"),
        *(
            "drawn_steps",
            "drawn_size",
            "strength",
            "guidance",
            "clip_guidance",
            "each",
            "count",
            "scale",
        ),
        *("prompt", "cutouts", "decode"),
    ),
    "Output": (
        *("out", "to", "layout", "top_k", "k", "offset", "diversity", "exact", "threshold", "plot"),
        *("page", "open_page", "copy_to", "paths0", "explain", "store", "calibrated"),
        *("least", "best", "save_head"),
        *("per_item", "examples", "level", "sample", "seed"),
        *("remove_others", "json", "as_json", "force", "show", "fingerprint", "slack", "strict"),
    ),
    "If the checkpoint does not say": (
        *("activation", "heads", "image_spec", "tokenizer_spec", "part", "revision"),
    ),
}
OTHERS = "Other"


def in_panels(options: Iterable[Any]) -> list[tuple[str, list[Any]]]:
    """(title, options) of each panel that has some."""
    left = {option.name: option for option in options}
    panels = [(title, [left.pop(n) for n in names if n in left]) for title, names in PANELS.items()]
    return [(title, some) for title, some in (*panels, (OTHERS, list(left.values()))) if some]


class HelpfulCommand(TyperCommand):
    """A command whose help has panels, and examples at its end; it ignores no value it is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse a flag that is given twice: its first value would count for nothing."""
        given = list(args)
        left = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:  # of completion, which reads half a line
            found: list[Any] = self.make_parser(ctx).parse_args(args=given)[2]
            for one in dict.fromkeys(found):
                holds_one = one.param_type_name == "option" and not (one.multiple or one.is_flag)
                if holds_one and found.count(one) > 1:
                    ctx.fail(f"{max(one.opts, key=len)} is given twice, but takes one value.")
        return left

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, and the options by panel."""
        shown = [one for one in self.get_params(ctx) if not getattr(one, "hidden", False)]
        arguments = [one for one in shown if one.param_type_name == "argument"]
        options = [one for one in shown if one.param_type_name == "option"]
        for title, some in [("Arguments", arguments), *in_panels(options)]:
            if some:
                with formatter.section(title):
                    formatter.write_dl([one.get_help_record(ctx) for one in some])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples; a long one is not wrapped, so that it can be copied."""
        path = ctx.command_path.partition(" ")[2]
        write_examples(EXAMPLES.get(path, ()), formatter)


def write_examples(examples: Iterable[str], formatter: Any) -> None:
    """Write commands to copy."""
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"{'':{formatter.current_indent}}{example}\n")
