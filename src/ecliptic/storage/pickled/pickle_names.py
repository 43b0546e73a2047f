"""The names that a pickle of weights may use, and the plain data that each becomes.

Nothing here imports or calls a name of the file: names are looked up in these tables, and a name
that is missing there is refused. `pickles.py` reads the opcodes; `torch_files.py` checks the tensor
descriptions and makes the tensors.

Source: what torch.save (torch/_utils.py) and TorchScript
(torch/csrc/jit/serialization/pickler.cpp) write.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from ecliptic.errors import UnsafeFileError
from ecliptic.storage.budget import MAX_NAME, TUPLE_KEY, Budget

MAX_KEY = (1 << 61) - 1  # integer keys; from here on, Python gives many of them the same hash
MAX_ARGUMENTS = 16  # of a call; a longer tuple would be copied with each call

STORAGES = {
    "torch.BFloat16Storage": "bfloat16",
    "torch.BoolStorage": "bool",
    "torch.ByteStorage": "uint8",
    "torch.CharStorage": "int8",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.ComplexFloatStorage": "complex64",
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
        "complex128",
        "complex64",
        "float16",
        "float32",
        "float64",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
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
# Types of the missing values of a defaultdict; protocol 2 writes `int` as `long`.
PLAIN_TYPES = ("bool", "bytes", "float", "int", "long", "str", "unicode")
# Tensors that are more than values in memory, and how to save them so that they are.
REFUSED_TENSORS = {
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": ("of another device", "tensor.cpu()"),
    "torch._utils._rebuild_device_tensor_from_numpy": ("of another device", "tensor.cpu()"),
    "torch._utils._rebuild_meta_tensor_no_storage": (
        "without values (on the device `meta`)",
        "a model that was loaded completely",
    ),
    "torch._utils._rebuild_nested_tensor": ("nested", "the parts of tensor.unbind()"),
    "torch._utils._rebuild_qtensor": ("quantised", "tensor.dequantize()"),
    "torch._utils._rebuild_sparse_tensor": ("sparse", "tensor.to_dense()"),
    "torch._utils._rebuild_wrapper_subclass": ("of a Python subclass", "a plain tensor"),
}
# Objects that training scripts save beside the weights; only their names are kept.
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
    """An object without a plain form: only its name is kept, and it is never imported."""

    name: str


@dataclass(frozen=True)
class Storage:
    """`numel` values of `dtype`, stored in the archive under `key`."""

    dtype: str
    key: str
    numel: object  # as in the file, not checked yet


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
    """A TorchScript object; its attributes are data, its class and code are never read."""

    name: str
    attributes: dict[object, object] = field(default_factory=dict)


def _make_tensor(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    _gradient: object = False,
    _hooks: object = None,
    bits: object = None,
) -> object:
    """`_rebuild_tensor_v2`; `bits` says that the values are the negative or conjugate of these."""
    if not isinstance(storage, Storage):
        raise UnsafeFileError("a tensor is made from something that is not a storage")
    if bits is not None and (not isinstance(bits, dict) or any(bits.values())):
        raise UnsafeFileError(
            "a tensor is stored as the negative or conjugate view of its values, which would be "
            "read with the wrong sign; save `tensor.resolve_neg().resolve_conj()` instead"
        )
    return TensorRecord(storage, offset, size, stride, storage.dtype)


def _make_untyped_tensor(*arguments: object) -> object:
    """`_rebuild_tensor_v3`: storage, offset, size, stride, requires_grad, hooks, dtype, bits."""
    record, dtype = _make_tensor(*arguments[:6], *arguments[7:]), arguments[6]
    if not (isinstance(record, TensorRecord) and isinstance(dtype, Inert) and dtype.name in DTYPES):
        raise UnsafeFileError("a tensor has an unknown dtype")
    dtype_name = dtype.name.removeprefix("torch.")
    return TensorRecord(record.storage, record.offset, record.size, record.stride, dtype_name)


def _make_typed_tensor(function: object, kind: object, arguments: object, *_: object) -> object:
    """`_rebuild_from_type_v2`: a tensor that carries Python attributes, which are dropped."""
    known = isinstance(function, Inert) and function.name.startswith("torch._utils._rebuild_")
    if not known or not isinstance(function, Inert) or not isinstance(arguments, tuple):
        raise UnsafeFileError("a tensor is made by a function that does not make tensors")
    if kind not in (Inert("torch.Tensor"), Inert("torch.nn.parameter.Parameter")):
        raise UnsafeFileError("a tensor is of a Python subclass")
    _check_count(arguments)
    return CALLS[function.name](*arguments)


def _make_dict(budget: Budget, *arguments: object) -> object:
    """A dict of nothing, of another dict, or of `[[key, value], ...]` (Python 2).

    A dict is returned itself and a list of pairs is emptied. A function that copied a container and
    left it full would let a few bytes of the file ask for the copy again and again.
    """
    pairs = arguments[0] if arguments else []
    if isinstance(pairs, dict):
        return pairs
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise UnsafeFileError("a dict is made from something that is not a list of pairs")
    made = {check_key(key, budget): value for key, value in pairs}
    pairs.clear()
    return made


def _make_list(items: object = None) -> object:
    """`list(items)` and `set(items)`; a set becomes a list, so that nothing is hashed."""
    return [] if items is None else items


def _make_complex(real: object, imaginary: object) -> object:
    if not isinstance(real, float) or not isinstance(imaginary, float):
        raise UnsafeFileError("a complex number is made from something that is not two numbers")
    return complex(real, imaginary)


def _take_first(value: object, *_: object) -> object:
    return value


def _take_bytes(value: object = b"", *_: object) -> object:
    """`bytearray(value)`; never a copy, which a few bytes of the file could ask for repeatedly."""
    return value if isinstance(value, bytes) else Inert("builtins.bytearray")


# Names that make a dict
DICTS = frozenset(
    {"__builtin__.dict", "builtins.dict", "collections.Counter", "collections.OrderedDict"}
)
CALLS: dict[str, Callable[..., object]] = {
    "collections.defaultdict": lambda *_: {},
    "torch._tensor._rebuild_from_type_v2": _make_typed_tensor,
    "torch._utils._rebuild_parameter": _take_first,
    "torch._utils._rebuild_parameter_with_state": _take_first,
    "torch._utils._rebuild_tensor": _make_tensor,
    "torch._utils._rebuild_tensor_v2": _make_tensor,
    "torch._utils._rebuild_tensor_v3": _make_untyped_tensor,
    "torch.Size": _take_first,
    # textual inversions of PyTorch 1.11 and older store their vectors in it; read as a dict
    "torch.nn.modules.container.ParameterDict": lambda *_: Module("ParameterDict"),
    "torch.device": _take_first,
    "torch.jit._pickle.build_boollist": _take_first,
    "torch.jit._pickle.build_doublelist": _take_first,
    "torch.jit._pickle.build_intlist": _take_first,
    "torch.jit._pickle.build_tensorlist": _take_first,
    "torch.jit._pickle.restore_type_tag": _take_first,
    "__builtin__.bytearray": _take_bytes,
    "__builtin__.complex": _make_complex,
    "__builtin__.list": _make_list,
    "__builtin__.set": _make_list,
    "builtins.bytearray": _take_bytes,
    "builtins.complex": _make_complex,
    "builtins.list": _make_list,
    "builtins.set": _make_list,
}


def look_up(module: object, attribute: object) -> Inert:
    """Return a name of the file as plain data, or refuse it."""
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise UnsafeFileError("it uses a name that is not text")
    if len(module) + len(attribute) > MAX_NAME:
        raise UnsafeFileError(f"it uses a name of more than {MAX_NAME} characters")
    name = f"{module}.{attribute}"
    if any(name in table for table in (CALLS, DICTS, STORAGES, DTYPES, INERT)):
        return Inert(name)
    if name.startswith("__torch__."):
        return Inert(name)
    if name in REFUSED_TENSORS:
        kind, instead = REFUSED_TENSORS[name]
        raise UnsafeFileError(f"it holds a tensor that is {kind}; save {instead} instead")
    raise UnsafeFileError(
        f"it asks for `{name}`, but only tensors in containers are allowed. Nothing was run. If "
        "you trust its author, load it once where it was made and save only the weights: "
        "`torch.save(model.state_dict(), path)`"
    )


def resolve_call(function: object, arguments: object, budget: Budget) -> object:
    """Return the plain data for a call of `function`, a name of the file."""
    if not isinstance(function, Inert) or not isinstance(arguments, tuple):
        raise UnsafeFileError("it calls a value that is not the name of a function")
    _check_count(arguments)
    try:
        if function.name in DICTS:
            return _make_dict(budget, *arguments)
        if known := CALLS.get(function.name):
            return known(*arguments)
    except (TypeError, IndexError, KeyError) as error:
        raise UnsafeFileError(f"it calls `{function.name}` with wrong arguments") from error
    return Module(function.name) if function.name.startswith("__torch__.") else function


def _check_count(arguments: tuple[object, ...]) -> None:
    if len(arguments) > MAX_ARGUMENTS:
        raise UnsafeFileError(f"it calls a function with {len(arguments)} arguments")


def check_key(key: object, budget: Budget, cost: int = 1) -> object:
    """Return `key` if it is cheap to hash and compare, even if an attacker chose it.

    Args:
        key: of a dictionary.
        budget: pays for numbers, because Python does not mix their hashes.
        cost: of a number.
    """
    if key is None or isinstance(key, Inert):
        return key
    if isinstance(key, (str, bytes)):
        if len(key) > MAX_NAME:
            raise UnsafeFileError(f"a name in the file has more than {MAX_NAME} characters")
        return key
    if isinstance(key, int) and abs(key) < MAX_KEY:
        budget.spend_key(cost)
        return key
    if isinstance(key, tuple) and len(key) <= 8 and not any(isinstance(x, tuple) for x in key):
        return tuple(check_key(x, budget, TUPLE_KEY) for x in key)
    raise UnsafeFileError(f"a {type(key).__name__} is used as the key of a dictionary")


def read_storage(identity: object) -> Storage:
    """Read a persistent id of torch.save: ("storage", type, key, location, numel, view)."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise UnsafeFileError("a persistent id is not that of a storage")
    kind, key, numel = identity[1], identity[2], identity[4]
    if not isinstance(kind, Inert) or kind.name not in STORAGES or not isinstance(key, str):
        raise UnsafeFileError("a storage has a type that is not plain numbers")
    if len(identity) > 5 and identity[5] is not None:
        raise UnsafeFileError("a storage is a view of another, which only PyTorch before 0.4 wrote")
    return Storage(STORAGES[kind.name], key, numel)
