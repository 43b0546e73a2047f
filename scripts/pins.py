"""Print constraints.txt: the exact version of every package that the extras pull in.

Run it in the environment of `make install`. Local version labels (`+cpu`) are removed, so that the
lines work on every machine. CUDA packages are an error, because the file is there to pin a CPU
build of torch.
"""

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print the pins, sorted by name."""
    pins: dict[str, str] = {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for required in (project["dependencies"], *project["optional-dependencies"].values()):
        collect(map(Requirement, required), pins, own=project["name"])
    if cuda := [name for name in pins if name.startswith(("nvidia-", "triton"))]:
        sys.exit(
            f"{', '.join(cuda)}: this torch is a CUDA build; run `make pins` with a CPU build."
        )
    print("# Versions that were tested together; every install uses `-c constraints.txt`.")
    print("# Written by `make pins`. torch is pinned first of all: a bare `torch` pulls in CUDA.")
    print("\n".join(f"{name}=={version}" for name, version in sorted(pins.items())))


def collect(required: Iterable[Requirement], pins: dict[str, str], own: str) -> None:
    """Add the installed versions of `required` and of their dependencies to `pins`."""
    for requirement in required:
        name = canonicalize_name(requirement.name)
        if name == own or name in pins or not _applies(requirement):
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name} is required but not installed; run `make install` first.")
        pins[name] = found.version.partition("+")[0]
        collect(map(Requirement, found.requires or ()), pins, own)


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


if __name__ == "__main__":
    main()
