"""Settings of every test: two threads, fixed seeds, no network, data beside the checkout."""

import os
import random
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

# Before torch is imported, so that numbers and times do not depend on the machine's cores. The
# workers of xdist share the cores, and threads that wait for each other take several times as long.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ[_variable] = "1"
    os.environ.setdefault(_variable, "2")
# Processes that a test starts find the package too, installed or not.
_SOURCE = str(Path(__file__).parents[1] / "src")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_SOURCE, os.environ.get("PYTHONPATH")]))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # transformers' warning after a fork
# What tests measure is kept apart from what the user's own processes remember.
_CACHE = tempfile.TemporaryDirectory(prefix="ecliptic-tests-")  # removed at the end
os.environ["ECLIPTIC_CACHE"] = _CACHE.name
os.environ.pop("COLUMNS", None)  # workers of xdist set it, and tables would be that narrow

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long tests take an hour; the others have the seconds of pyproject.toml."""
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("fuzz"):
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data sets and golden numbers beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs the data folder `shared` beside the checkout, which is missing")
    return SHARED


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _only_this_machine() -> Any:
    """A connection to anywhere but this machine fails at once, as it would without a network."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if host and host not in ("localhost", "::1") and not host.startswith("127."):
            raise ConnectionRefusedError(
                f"tests use no network, but this one connects to {address}"
            )
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_locally)
        yield
