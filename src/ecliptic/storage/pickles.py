"""A pickle interpreter that can make containers and tensor descriptions, and nothing else.

Python's unpickler imports and calls any name of the file. This one never does: the tables of
`pickle_names.py` turn names into plain data, and an opcode that state dicts do not need is refused.

Source: the opcodes of the standard library's pickletools.
"""

import pickletools
from collections.abc import Callable
from typing import IO

from ecliptic.errors import CorruptFileError, UnsafeFileError
from ecliptic.storage.pickle_names import (
    Inert,
    Module,
    TensorRecord,
    check_key,
    look_up,
    read_storage,
    resolve_call,
)

MAX_PICKLE = 32 << 20  # bytes; the pickle of bigG/14 with its optimizer has about 1 MB
MAX_OPCODES = 5_000_000


def load(file: IO[bytes], where: str) -> object:
    """Read the pickle at the current position of `file`.

    Args:
        file: read up to the end of the pickle; `where` names it in errors.

    Returns:
        dict, list, tuple, str, bytes, numbers, None, and `TensorRecord`, `Module`, `Inert`.

    Raises:
        UnsafeFileError: it asks for anything else, or has more than MAX_OPCODES operations.
        CorruptFileError: it is damaged or incomplete.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_OPCODES:
                raise UnsafeFileError(f"it has more than {MAX_OPCODES} operations")
            machine.step(opcode.name, argument)
        return machine.result()
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{where} is refused: {error}.") from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise CorruptFileError(f"{where} is a damaged or incomplete pickle: {error}.") from error


class _Machine:
    """The stack machine of pickle, with the operations that plain data needs."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.outer: list[list[object]] = []  # stacks below the open marks
        self.memo: dict[object, object] = {}

    def step(self, name: str, argument: object) -> None:
        if name in _VALUES:
            self.push(argument)
        elif name in _CONSTANTS:
            self.push(_CONSTANTS[name]())
        elif (operation := _OPERATIONS.get(name)) is not None:
            operation(self, argument)
        elif name not in _IGNORED:
            raise UnsafeFileError(f"it uses the opcode {name}, which no state dict needs")

    def result(self) -> object:
        if len(self.stack) != 1 or self.outer:
            raise ValueError("its stack is not empty at the end")
        return self.stack[0]

    def push(self, value: object) -> None:
        self.stack.append(value)

    def close_mark(self) -> list[object]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def pop_many(self, count: int) -> list[object]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def mark(self, _: object) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def get(self, index: object) -> None:
        self.push(self.memo[index])

    def put(self, index: object) -> None:
        self.memo[check_key(index)] = self.stack[-1]  # PUT may have any decimal number

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def make_tuple(self, _: object) -> None:
        self.push(tuple(self.close_mark()))

    def make_dict(self, _: object) -> None:
        items = self.close_mark()
        self.push({})
        self.set_items(items)

    def append_marked(self, _: object) -> None:
        self.extend(self.close_mark())

    def extend(self, items: list[object]) -> None:
        if not isinstance(target := self.stack[-1], list):
            raise UnsafeFileError(f"it appends to a {type(target).__name__}")
        target.extend(items)

    def set_items(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, Inert):
            return
        if not isinstance(target, dict) or len(items) % 2:
            raise UnsafeFileError(f"it sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[check_key(key)] = value

    def name(self, argument: object) -> None:
        module, _, attribute = str(argument).partition(" ")
        self.push(look_up(module, attribute))

    def call(self, _: object) -> None:
        self.push(resolve_call(*self.pop_many(2)))

    def build(self, _: object) -> None:
        target, state = self.pop_many(2)
        self.push(target)
        if isinstance(target, Module):
            if not isinstance(state, dict):
                raise UnsafeFileError(
                    f"{target.name} restores itself by code (`__setstate__`), which is not run"
                )
            target.attributes = state
        elif not isinstance(target, Inert | TensorRecord) and not (
            isinstance(target, dict) and isinstance(state, dict)  # an OrderedDict's attributes
        ):
            raise UnsafeFileError(f"it changes a {type(target).__name__}")


_VALUES = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
    ]
)
_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,  # sets become lists, so that no value of the file is hashed
    "EMPTY_TUPLE": tuple,
}
_OPERATIONS: dict[str, Callable[[_Machine, object], object]] = {
    "ADDITEMS": _Machine.append_marked,
    "APPEND": lambda machine, _: machine.extend(machine.pop_many(1)),
    "APPENDS": _Machine.append_marked,
    "BINGET": _Machine.get,
    "BINPERSID": lambda machine, _: machine.push(read_storage(machine.stack.pop())),
    "BINPUT": _Machine.put,
    "BUILD": _Machine.build,
    "DICT": _Machine.make_dict,
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "FROZENSET": _Machine.make_tuple,
    "GET": _Machine.get,
    "GLOBAL": _Machine.name,
    "LIST": lambda machine, _: machine.push(machine.close_mark()),
    "LONG_BINGET": _Machine.get,
    "LONG_BINPUT": _Machine.put,
    "MARK": _Machine.mark,
    "MEMOIZE": _Machine.memoize,
    "NEWOBJ": _Machine.call,
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.close_mark(),
    "PUT": _Machine.put,
    "REDUCE": _Machine.call,
    "SETITEM": lambda machine, _: machine.set_items(machine.pop_many(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.close_mark()),
    "STACK_GLOBAL": lambda machine, _: machine.push(look_up(*machine.pop_many(2))),
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop_many(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop_many(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop_many(3))),
}
