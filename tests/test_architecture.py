"""The folder tree follows the layers: imports point down, files stay short.

The tests read the source with `ast`, so they find a broken rule without running the code.
"""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from ecliptic.lazy import find_names

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "ecliptic"
FACE = 9  # ecliptic/__init__.py and __main__.py: above every part; no part imports it
LAYERS = {
    "errors": 0,
    "lazy": 0,
    "storage": 1,
    "checks": 1,
    "markup": 1,
    "settings": 2,
    "scoring": 2,
    "model": 2,
    "inputs": 2,
    "index": 2,
    "checkpoints": 3,
    "runtime": 3,
    "prompts": 3,
    "engine": 4,
    "adapters": 4,
    "train": 5,
    "diffusion": 5,
    "export": 5,
    "guidance": 5,
    "tasks": 5,
    "library": 5,
    "plots": 5,
    "speed": 5,
    "report": 7,
    "drawing": 6,
    "server": 7,
    "cli": 8,
    "compat": 8,
}
LONGEST_FILE, LONGEST_FUNCTION = 400, 40  # lines
MOST_MODULES = 16  # directly in a folder
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "tools"}
EFFECTS = {  # calls that may never run while a module is imported
    "mkdir",
    "makedirs",
    "touch",
    "write_text",
    "write_bytes",
    "urlopen",
    "urlretrieve",
    "hf_hub_download",
    "snapshot_download",
    "set_num_threads",
    "manual_seed",
}

MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(
    path
    for folder in ("src", "tests", "benchmarks", "scripts", "examples")
    for path in (ROOT / folder).rglob("*.py")
)


def _part(path: Path) -> str:
    """The folder or top-level file of a module; "" for `__init__` and `__main__`."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first in ("__init__", "__main__") else first


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imports(tree: ast.Module) -> Iterator[tuple[int, str, str | None]]:
    """Yield (line, module, name) of every import, also of imports for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            for text in ast.walk(node):
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield node.lineno, text.value.rstrip("."), None


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", None) or getattr(node.func, "id", "")


@cache
def _exported(part: str) -> set[str]:
    """The public names of a part."""
    return {name for name, _ in find_names(_tree(PACKAGE / part / "__init__.py"))}


def _broken_rule(own: str, module: str, name: str | None) -> str | None:
    """Why `own` may not import `name` from `module`, or None when it may."""
    if module.startswith("."):
        return "write the absolute import, ecliptic.part"
    steps = module.split(".")
    if steps[0] != "ecliptic" or name == "__version__":
        return None
    if len(steps) == 1 and name is not None:
        steps, name = ["ecliptic", name], None  # from ecliptic import part
    other = steps[1] if len(steps) > 1 else ""
    if other == own:
        return None
    if other not in LAYERS:
        return "the package's face is for users; import from the part that defines the name"
    if LAYERS[other] >= LAYERS.get(own, FACE):
        return f"layer {LAYERS.get(own, FACE)} may import only from smaller ones, not {other}"
    if len(steps) > 2:
        return f"import from ecliptic.{other}, through its __init__"
    if name and (PACKAGE / other).is_dir() and name not in _exported(other):
        return f"ecliptic.{other} does not list {name} as public"
    return None


def test_every_part_has_a_layer() -> None:
    parts = {_part(path) for path in MODULES} - {""}
    assert parts <= set(LAYERS), f"give {sorted(parts - set(LAYERS))} a layer here and in the docs"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_and_through_the_front_door(path: Path) -> None:
    own = _part(path)
    broken = [
        f"{path.name}:{line} imports {name or ''} from {module}: {why}"
        for line, module, name in _imports(_tree(path))
        if (why := _broken_rule(own, module, name))
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("own", "module", "name", "rule"),
    [
        ("model", "ecliptic.errors", "ConfigError", None),
        ("model", "ecliptic.model.layers", "Block", None),
        ("model", "ecliptic.inputs", "ImageSpec", "smaller ones"),  # same layer
        ("inputs", "ecliptic.engine", "load", "smaller ones"),
        ("engine", "ecliptic.model.layers", "Block", "through its __init__"),
        ("engine", "ecliptic.model", "layers", "does not list layers"),
        ("engine", "ecliptic", "load", "face is for users"),
        ("cli", "ecliptic", "__version__", None),
        ("cli", "ecliptic", "engine", None),
        ("cli", ".main", "run", "absolute"),
        ("", "ecliptic.cli", "anything", "does not list"),
    ],
)
def test_the_import_rule_itself(own: str, module: str, name: str, rule: str | None) -> None:
    found = _broken_rule(own, module, name)
    assert found is None if rule is None else rule in (found or "")


def _module(path: Path) -> str:
    """The dotted name of a module; that of the package for its `__init__`."""
    steps = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(steps[:-1] if steps[-1] == "__init__" else steps)


NAMES = {_module(path): path for path in MODULES}


def _imported_modules(path: Path) -> set[str]:
    """Modules that a module imports from, also in functions and only for types."""
    found = set()
    for _, module, name in _imports(_tree(path)):
        home = f"{module}.{name}" if f"{module}.{name}" in NAMES else module
        if home in NAMES and home != "ecliptic":
            found.add(home)
    return found - {_module(path)}


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """The names along one circle of `graph`, the first one again at the end; [] without one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: _imported_modules(path) for name, path in NAMES.items()}
    circle = _circle(graph)
    assert not circle, f"imports run in a circle: {' <- '.join(circle)}"


def test_no_room_imports_itself_through_others() -> None:
    """A room is a folder inside a part; all rooms may use the files beside them."""
    graph: dict[str, set[str]] = {}
    for name, path in NAMES.items():
        for other in _imported_modules(path):
            here, there = name.split(".")[:3], other.split(".")[:3]
            rooms = [step for step in (here, there) if (PACKAGE.parent / Path(*step)).is_dir()]
            if len(rooms) == 2 and here[:2] == there[:2] and here != there and len(here) == 3:
                graph.setdefault(".".join(here), set()).add(".".join(there))
    circle = _circle(graph)
    assert not circle, f"imports run in a circle: {' <- '.join(circle)}"


@pytest.mark.parametrize(
    ("graph", "circle"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, 0),
        ({"a": {"b"}, "b": {"a"}}, 3),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}}, 4),
    ],
)
def test_the_search_for_circles_itself(graph: dict[str, set[str]], circle: int) -> None:
    assert len(_circle(graph)) == circle


def test_imports_in_functions_and_for_types_count_as_well() -> None:
    path = PACKAGE / "cli" / "condition.py"
    assert {"ecliptic.diffusion", "ecliptic.cli.captions"} <= _imported_modules(path)


def test_folders_stay_small() -> None:
    counts = Counter(path.parent for path in MODULES if path.stem != "__init__")
    full = {str(f.relative_to(PACKAGE)): n for f, n in counts.items() if n > MOST_MODULES}
    assert full.keys() <= {"cli"}, f"give these folders rooms, the limit is {MOST_MODULES}: {full}"


SAME_THING = {"Array", "Span"}  # aliases that mean one thing wherever they are defined


def _type_names(tree: ast.Module) -> Iterator[str]:
    """Classes and aliases that a module defines for others; constants are in capitals."""
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        target = node.target if isinstance(node, ast.AnnAssign) else target
        name = target.id if isinstance(target, ast.Name) else ""
        name = node.name if isinstance(node, ast.ClassDef) else name
        if name[:1].isupper() and not name.isupper():
            yield name


def test_one_word_means_one_thing() -> None:
    """No two classes or aliases have one name; `compat` repeats those of other packages."""
    names = Counter(
        name
        for path in MODULES
        if _part(path) != "compat"
        for name in set(_type_names(_tree(path)))
    )
    assert not {name for name, count in names.items() if count > 1} - SAME_THING


def test_files_stay_short() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    long = [f"{path.relative_to(ROOT)}: {n}" for path, n in lines.items() if n > LONGEST_FILE]
    assert not long, f"split these files, the limit is {LONGEST_FILE} lines: {long}"


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end; the docstring does not count."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_functions_stay_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {_length(node)}"
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and _length(node) > LONGEST_FUNCTION
    ]
    assert not long, f"split these functions, the limit is {LONGEST_FUNCTION} lines: {long}"


def test_names_say_what_is_inside() -> None:
    vague = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if VAGUE & {part.strip("_") for part in path.relative_to(ROOT).with_suffix("").parts}
    ]
    assert not vague, f"name these after what they hold: {vague}"


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if len((ast.get_docstring(_tree(path)) or "").split()) < 3
    ]
    assert not silent, f"these modules lack a docstring: {silent}"


def _import_time_calls(node: ast.AST) -> Iterator[ast.Call]:
    """Calls that run at import: not those in functions or in the main block."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "__name__" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from _import_time_calls(child)


def test_nothing_is_written_or_fetched_at_import() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{call.lineno} {_called(call)}"
        for path in MODULES
        for call in _import_time_calls(_tree(path))
        if _called(call) in EFFECTS
    ]
    assert not found, f"move these into functions: {found}"


def _python(code: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1", "PATH": ""}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )


WITHOUT_TORCH = {
    "the package": "import ecliptic",
    "the errors": "from ecliptic.errors import EclipticError",
    "the settings": "import ecliptic.settings",
    "the input specs": "from ecliptic.inputs import ImageSpec, TokenizerSpec",
    "the model's sizes": "from ecliptic.model import ClipConfig",
    "a prompt": "from ecliptic.diffusion import parse; parse('a (b:1.2)', 'a1111').readings()",
    "a recipe": "from ecliptic.train import TrainSettings; TrainSettings()",
    "the help": "sys.argv = ['ecliptic', '--help']; from ecliptic.cli.main import run; run()",
    "the version": "sys.argv = ['ecliptic', '--version']; from ecliptic.cli.main import run; run()",
}


@pytest.mark.parametrize("code", WITHOUT_TORCH.values(), ids=WITHOUT_TORCH.keys())
def test_cheap_things_do_not_import_torch(code: str) -> None:
    ran = _python(
        f"import sys\ntry:\n    {code}\nexcept SystemExit as exit:\n    assert not exit.code\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.split()[-1] == "False", f"{code} imports torch"


def test_importing_everything_touches_nothing() -> None:
    """With an audit hook, no import of ours makes a folder, writes, or connects."""
    names = [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        for path in MODULES
        if path.stem not in ("__init__", "__main__")
    ]
    ran = _python(
        "import importlib, sys\n"
        "for peer in ('torch', 'numpy', 'PIL.Image', 'safetensors.torch', 'huggingface_hub',"
        " 'typer', 'rich.console', 'ftfy', 'regex', 'concurrent.futures.thread'):\n"
        "    importlib.import_module(peer)\n"
        "def watch(event, found):\n"
        "    mode = found[1] if event == 'open' and isinstance(found[1], str) else ''\n"
        "    if set(mode) & set('wax+') or event in ('os.mkdir', 'socket.connect'):\n"
        "        raise RuntimeError(f'{event} {found} at import')\n"
        "sys.addaudithook(watch)\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
    )
    assert ran.returncode == 0, ran.stderr


def test_the_layer_table_of_the_docs_is_this_one() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| (.*?) \|", table, flags=re.MULTILINE)
    written = {name: int(n) for n, cell in rows for name in re.findall(r"`(\w+)`", cell)}
    assert written == LAYERS
