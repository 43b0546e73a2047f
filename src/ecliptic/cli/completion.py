"""What the shell completes: names of models and template sets. It imports no torch.

Choices such as dialects and families are completed by typer.
"""


def complete_models(incomplete: str) -> list[str]:
    """Names of the catalog, and the built-in model, that begin with `incomplete`."""
    from ecliptic.checkpoints import catalog

    return [name for name in ("mini", *catalog.names()) if name.startswith(incomplete)]


def complete_templates(incomplete: str) -> list[str]:
    """Template sets that begin with `incomplete`."""
    from ecliptic.inputs import template_sets

    return [name for name in template_sets() if name.startswith(incomplete)]
