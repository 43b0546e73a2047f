"""A PostgreSQL server for tests: the programs of the package pgserver, which have pgvector."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

_NOBODY = 65534  # PostgreSQL refuses to run as root
_SETTINGS = "-c listen_addresses='' -c shared_buffers=16MB -c max_connections=30"


def _find_programs() -> Path:
    spec = find_spec("pgserver")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs a PostgreSQL server with pgvector: pip install pgserver")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _run(*command: str | Path) -> None:
    user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": ()} if os.geteuid() == 0 else {}
    log = subprocess.run(  # type: ignore[call-overload] # the options of a user
        [str(part) for part in command],
        cwd="/",
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **user,
    )
    if log.returncode:
        name = Path(command[0]).name
        raise OSError(f"{name} ended with {log.returncode}")


@contextmanager
def run_postgres() -> Iterator[str]:
    """The folder of the socket of a server that listens nowhere else."""
    programs = _find_programs()
    folder = Path(tempfile.mkdtemp(prefix="ecliptic-pg-"))
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
    data = folder / "data"
    control = (programs / "pg_ctl", "-D", data, "-w", "-t", "60")
    try:
        try:
            _run(
                programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                "--locale=C", "--no-sync",
            )  # fmt: skip
            _run(*control, "-l", folder / "log", "-o", f"{_SETTINGS} -k {folder}", "start")
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"the PostgreSQL of pgserver does not start here: {error}")
        try:
            yield str(folder)
        finally:
            _run(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
