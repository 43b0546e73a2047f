"""The names a pickle of weights may use, and the plain data each of them stands for.

Nothing here imports or calls what a file names: a name is looked up in these tables, and what is
not in them is refused. `pickles.py` reads the opcodes; `torch_files.py` checks the tensor
descriptions and makes tensors of them.

Source: what torch.save (torch/_utils.py) and TorchScript
(torch/csrc/jit/serialization/pickler.cpp) write.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from ecliptic.errors import UnsafeFileError

MAX_KEY = 1 << 31  # integer keys; larger ones could be chosen to collide
MAX_NAME = 1000  # characters of a name; TorchScript's mangled ones have about 100
MAX_ARGUMENTS = 16  # of a call; a longer tuple would be copied with each call

STORAGES = {
    "torch.BFloat16Storage": "bfloat16",
    "torch.BoolStorage": "bool",
    "torch.ByteStorage": "uint8",
    "torch.CharStorage": "int8",
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.IntStorage": "int32",
    "torch.LongStorage": "int64",
    "torch.ShortStorage": "int16",
    "torch.storage.UntypedStorage": "uint8",
}
DTYPES = frozenset(
    f"torch.{name}"
    for name in [
        "bfloat16",
        "bool",
        "float16",
        "float32",
        "float64",
        "float8_e4m3fn",
        "float8_e5m2",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
    ]
)
# Types that a defaultdict makes its missing values with; `long` is how protocol 2 spells `int`.
PLAIN_TYPES = ("bool", "bytes", "float", "int", "long", "str", "unicode")
# What training scripts leave beside the weights; kept as a name without content.
INERT = frozenset(
    {
        "_codecs.encode",
        "argparse.Namespace",
        *(f"{m}.{t}" for m in ("builtins", "__builtin__") for t in PLAIN_TYPES),
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.dtype",
        "numpy.ndarray",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "torch.Tensor",
        "torch.nn.parameter.Parameter",
        "torch.torch_version.TorchVersion",
    }
)


@dataclass(frozen=True)
class Inert:
    """Something the file names that has no plain form; never imported, its content dropped."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A run of `numel` values of `dtype`, kept in the archive under `key`."""

    dtype: str
    key: str
    numel: object  # as the file has it, not yet checked


@dataclass(frozen=True)
class TensorRecord:
    """A tensor as the file describes it; nothing in it is checked yet."""

    storage: Storage
    offset: object
    size: object
    stride: object
    dtype: str  # differs from the storage's in files of untyped storages


@dataclass
class Module:
    """A TorchScript object; its attributes are data, its class and code are never looked at."""

    name: str
    attributes: dict[object, object] = field(default_factory=dict)


def _tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> object:
    if not isinstance(storage, Storage):
        raise UnsafeFileError("a tensor is made from something that is not a storage")
    return TensorRecord(storage, offset, size, stride, storage.dtype)


def _untyped_tensor(*arguments: object) -> object:
    """`_rebuild_tensor_v3`: storage, offset, size, stride, requires_grad, hooks, dtype."""
    record, dtype = _tensor(*arguments[:6]), arguments[6]
    if not (isinstance(record, TensorRecord) and isinstance(dtype, Inert) and dtype.name in DTYPES):
        raise UnsafeFileError("a tensor has an unknown dtype")
    dtype_name = dtype.name.removeprefix("torch.")
    return TensorRecord(record.storage, record.offset, record.size, record.stride, dtype_name)


def _typed_tensor(function: object, kind: object, arguments: object, *_: object) -> object:
    """`_rebuild_from_type_v2`: a tensor that carries Python attributes, which are dropped."""
    known = isinstance(function, Inert) and function.name.startswith("torch._utils._rebuild_")
    if not known or not isinstance(function, Inert) or not isinstance(arguments, tuple):
        raise UnsafeFileError("a tensor is made by something that makes no tensors")
    if kind not in (Inert("torch.Tensor"), Inert("torch.nn.parameter.Parameter")):
        raise UnsafeFileError("a tensor belongs to a Python subclass")
    _check_count(arguments)
    return CALLS[function.name](*arguments)


def _pairs(*arguments: object) -> object:
    """`dict()` and `OrderedDict()`, also of a dict or of `[[key, value], ...]` (Python 2).

    A dict is given back itself and a list of pairs is used up: nothing here may copy a container
    and leave it, for few bytes could ask for the copy again and again.
    """
    pairs = arguments[0] if arguments else []
    if isinstance(pairs, dict):
        return pairs
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise UnsafeFileError("a dict is made from something that is not a list of pairs")
    made = {checked_key(key): value for key, value in pairs}
    pairs.clear()
    return made


def _items(items: object = None) -> object:
    """`list(items)` and `set(items)`; a set stays a list, so that nothing is hashed."""
    return [] if items is None else items


def _first(value: object, *_: object) -> object:
    return value


CALLS: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _pairs,
    "collections.defaultdict": lambda *_: {},
    "torch._tensor._rebuild_from_type_v2": _typed_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _untyped_tensor,
    "torch.Size": _first,
    # what PyTorch 1.11 and older textual inversions keep their vectors in; read as a dict
    "torch.nn.modules.container.ParameterDict": lambda *_: Module("ParameterDict"),
    "torch.device": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
    "__builtin__.dict": _pairs,
    "__builtin__.list": _items,
    "__builtin__.set": _items,
    "builtins.dict": _pairs,
    "builtins.list": _items,
    "builtins.set": _items,
}


def named(module: object, attribute: object) -> Inert:
    """What a name of the file stands for, if it may stand for anything."""
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise UnsafeFileError("it names something by values that are not text")
    if len(module) + len(attribute) > MAX_NAME:
        raise UnsafeFileError(f"it names something by more than {MAX_NAME} characters")
    name = f"{module}.{attribute}"
    known = name in CALLS or name in STORAGES or name in DTYPES or name in INERT
    if known or name.startswith("__torch__."):
        return Inert(name)
    raise UnsafeFileError(
        f"it asks for `{name}`, which is more than tensors in containers. Nothing was run. If you "
        "trust its author, open it once where it was made and save only the weights: "
        "`torch.save(model.state_dict(), path)`"
    )


def called(function: object, arguments: object) -> object:
    """What a call of `function`, a name of the file, stands for."""
    if not isinstance(function, Inert) or not isinstance(arguments, tuple):
        raise UnsafeFileError("it calls something that is not a function's name")
    _check_count(arguments)
    if (known := CALLS.get(function.name)) is None:
        if function.name.startswith("__torch__."):
            return Module(function.name)
        return Inert(function.name)
    try:
        return known(*arguments)
    except (TypeError, IndexError, KeyError) as error:
        raise UnsafeFileError(f"it calls `{function.name}` with arguments it never has") from error


def _check_count(arguments: tuple[object, ...]) -> None:
    if len(arguments) > MAX_ARGUMENTS:
        raise UnsafeFileError(f"it calls something with {len(arguments)} arguments")


def checked_key(key: object) -> object:
    """A dictionary key that is cheap to hash, whoever chose it."""
    small = isinstance(key, int) and abs(key) < MAX_KEY
    if key is None or small or isinstance(key, (str, bytes, Inert)):
        return key
    if isinstance(key, tuple) and len(key) <= 8 and not any(isinstance(x, tuple) for x in key):
        return tuple(checked_key(x) for x in key)
    raise UnsafeFileError(f"a {type(key).__name__} stands as the key of a dictionary")


def stored(identity: object) -> Storage:
    """The persistent id of torch.save: ("storage", type, key, location, numel, view)."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise UnsafeFileError("a persistent id is not a storage's")
    kind, key, numel = identity[1], identity[2], identity[4]
    if not isinstance(kind, Inert) or kind.name not in STORAGES or not isinstance(key, str):
        raise UnsafeFileError("a storage is of a type that holds no plain numbers")
    if len(identity) > 5 and identity[5] is not None:
        raise UnsafeFileError("a storage is a view of another, as only PyTorch before 0.4 wrote")
    return Storage(STORAGES[kind.name], key, numel)
