"""A pickle interpreter that can make containers and tensor descriptions, and nothing else.

Python's unpickler imports whatever a file names and calls it. This one has no import and no
call: names become plain data by the tables of `pickle_names.py`, and an opcode that state dicts
do not need is refused.

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
    called,
    checked_key,
    named,
    stored,
)

MAX_PICKLE = 32 << 20  # bytes; the pickle of bigG/14 with its optimizer has about 1 MB
MAX_OPCODES = 5_000_000


def load(file: IO[bytes], where: str) -> object:
    """The object that the pickle at the position of `file` describes.

    Args:
        file: read up to the end of the pickle; `where` names it in errors.

    Returns:
        dict, list, tuple, str, bytes, numbers, None, and `TensorRecord`, `Module`, `Inert`.

    Raises:
        UnsafeFileError: it wants more than that, or has more than MAX_OPCODES operations.
        CorruptFileError: it is not a whole pickle.
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
        raise CorruptFileError(f"{where} is not a whole pickle: {error}.") from error


class _Machine:
    """The stack machine of pickle, with the operations that data needs."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.outer: list[list[object]] = []  # stacks below the open marks
        self.memo: dict[object, object] = {}

    def step(self, name: str, argument: object) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif (operation := _OPERATIONS.get(name)) is not None:
            operation(self, argument)
        elif name not in _IGNORED:
            raise UnsafeFileError(f"it uses the opcode {name}, which no state dict needs")

    def result(self) -> object:
        if len(self.stack) != 1 or self.outer:
            raise ValueError("its stack is not empty at the end")
        return self.stack[0]

    def close_mark(self) -> list[object]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def pop_many(self, count: int) -> list[object]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def mark(self, _: object) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def drop_mark(self, _: object) -> None:
        self.close_mark()

    def pop(self, _: object) -> None:
        self.stack.pop()

    def duplicate(self, _: object) -> None:
        self.stack.append(self.stack[-1])

    def get(self, index: object) -> None:
        self.stack.append(self.memo[index])

    def put(self, index: object) -> None:
        self.memo[checked_key(index)] = self.stack[-1]  # PUT has any number, in decimals

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def make_tuple(self, _: object) -> None:
        items = self.close_mark()  # first: it replaces the stack
        self.stack.append(tuple(items))

    def make_list(self, _: object) -> None:
        items = self.close_mark()
        self.stack.append(items)

    def make_dict(self, _: object) -> None:
        items = self.close_mark()
        self.stack.append({})
        self.set_items(items)

    def append(self, _: object) -> None:
        item = self.stack.pop()
        self.extend([item])

    def append_marked(self, _: object) -> None:
        self.extend(self.close_mark())

    def extend(self, items: list[object]) -> None:
        if not isinstance(target := self.stack[-1], list):
            raise UnsafeFileError(f"it appends to a {type(target).__name__}")
        target.extend(items)

    def set_one(self, _: object) -> None:
        self.set_items(self.pop_many(2))

    def set_marked(self, _: object) -> None:
        self.set_items(self.close_mark())

    def set_items(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, Inert):
            return
        if not isinstance(target, dict) or len(items) % 2:
            raise UnsafeFileError(f"it sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def name(self, argument: object) -> None:
        module, _, attribute = str(argument).partition(" ")
        self.stack.append(named(module, attribute))

    def stack_name(self, _: object) -> None:
        self.stack.append(named(*self.pop_many(2)))

    def call(self, _: object) -> None:
        self.stack.append(called(*self.pop_many(2)))

    def build(self, _: object) -> None:
        target, state = self.pop_many(2)
        self.stack.append(target)
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

    def persistent(self, _: object) -> None:
        self.stack.append(stored(self.stack.pop()))


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
    "EMPTY_SET": list,  # sets become lists, so that nothing of the file's choice is hashed
    "EMPTY_TUPLE": tuple,
}
_OPERATIONS: dict[str, Callable[[_Machine, object], None]] = {
    "ADDITEMS": _Machine.append_marked,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_marked,
    "BINGET": _Machine.get,
    "BINPERSID": _Machine.persistent,
    "BINPUT": _Machine.put,
    "BUILD": _Machine.build,
    "DICT": _Machine.make_dict,
    "DUP": _Machine.duplicate,
    "FROZENSET": _Machine.make_tuple,
    "GET": _Machine.get,
    "GLOBAL": _Machine.name,
    "LIST": _Machine.make_list,
    "LONG_BINGET": _Machine.get,
    "LONG_BINPUT": _Machine.put,
    "MARK": _Machine.mark,
    "MEMOIZE": _Machine.memoize,
    "NEWOBJ": _Machine.call,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.drop_mark,
    "PUT": _Machine.put,
    "REDUCE": _Machine.call,
    "SETITEM": _Machine.set_one,
    "SETITEMS": _Machine.set_marked,
    "STACK_GLOBAL": _Machine.stack_name,
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.pop_many(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.pop_many(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.pop_many(3))),
}
