"""Files are opened, read and written by `storage` alone, which waits for none and follows no link.

The tests read the source with `ast`. What remains elsewhere stands in `ALLOWED`, with the reason.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "ecliptic"
BARE = {"NamedTemporaryFile", "ZipFile", "load_file", "memmap", "open", "safe_open", "save_file"}
CALLS = BARE | {  # of any object; `MODULES` has those of one module only
    "ParquetFile", "TemporaryFile", "cmp", "connect", "copy2", "copyfile", "fdopen", "fromfile",
    "genfromtxt", "loadtxt", "mkstemp", "move", "read_bytes", "read_table", "read_text", "savez",
    "savez_compressed", "tofile", "touch", "urlopen", "write_bytes", "write_text",
}  # fmt: skip
MODULES = {"np": {"load", "save"}, "torch": {"load", "save"}, "json": {"dump", "load"}}
RESOURCE = "a file of the package"
ALLOWED = {
    "checkpoints/catalog.py Path(__file__).with_name('catalog.toml').read_text": RESOURCE,
    "inputs/bpe.py MERGES_FILE.read_bytes": RESOURCE,
    "inputs/prompt_templates.py Path(__file__).with_name('templates.toml').read_text": RESOURCE,
    "report/showcase/bundled.py (FOLDER / 'drawings.toml').read_text": RESOURCE,
    "report/questions.py Path(self.source).read_bytes": RESOURCE,
    "compat/open_clip/zero_shot_metadata.py names.read_text": RESOURCE,
    "diffusion/cache/kohya.py np.savez": "the draft of replace_file, already open",
    "report/style.py _STYLE.read_text": RESOURCE,
    "diffusion/account/page.py _STYLE.read_text": RESOURCE,
    "inputs/decode.py Image.open": "bytes that were read before",
    "speed/peer.py Image.open": "bytes that were made before",
    "checkpoints/layouts/openai.py torch.save": "the draft of replace_file, already open",
    "engine/embedding.py tempfile.TemporaryFile": "a new file without a name",
    "index/formats/indexes.py tempfile.TemporaryFile": "a new file without a name",
    "tasks/scores/spool.py tempfile.TemporaryFile": "a new file without a name",
    "index/servers/postgres_link.py psycopg.connect": "a server, no file",
    "index/opening.py PostgresStore.open": "a server, no file",
    "index/opening.py QdrantStore.open": "a server, no file",
    "cli/library_flags.py Library.open": "a folder, whose files storage opens",
    "cli/library_files.py reading.open": "`ecliptic.index.open_vectors`",
    "engine/embedding.py np.memmap": "the same file, already open",
}
FORMATS = {"engine/vectors.py"}  # libraries write its formats to drafts of replace_file by name
OPENERS = {"checkpoints"}  # where `source.open()` is `Source.open`, which reads through storage


def _file_calls(path: Path) -> Iterator[str]:
    """Yield "module call" for each call in the module that may open a file by its name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        where = path.relative_to(PACKAGE)
        if owner == "source" and name == "open" and where.parts[0] in OPENERS:
            continue
        if name in (CALLS if owner else BARE) or name in MODULES.get(owner, ()):
            yield f"{where} {ast.unparse(node.func)}"


def _found() -> list[str]:
    modules = sorted(PACKAGE.rglob("*.py"))
    outside = [path for path in modules if path.relative_to(PACKAGE).parts[0] != "storage"]
    calls = [call for path in outside for call in _file_calls(path)]
    return [call for call in calls if call.split()[0] not in FORMATS]


def test_only_storage_opens_files() -> None:
    found = [call for call in _found() if call not in ALLOWED]
    assert not found, f"use storage's open_regular, read_regular, hash_file, replace_file: {found}"


def test_nothing_is_allowed_that_is_gone() -> None:
    assert not ALLOWED.keys() - set(_found())


@pytest.mark.parametrize(
    "code",
    [
        "open(path)",
        "Path(path).open('w')",
        "path.write_text('x')",
        "np.save(path, rows)",
        "torch.load(path)",
        "os.open(path, 0)",
        "safe_open(path, 'pt')",
        "path.touch()",
    ],
)
def test_the_search_itself(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_file_access.PACKAGE", tmp_path)
    (tmp_path / "x.py").write_text(f"{code}\nsource.reopen()\ntext.read()\n")
    assert len(list(_file_calls(tmp_path / "x.py"))) == 1
