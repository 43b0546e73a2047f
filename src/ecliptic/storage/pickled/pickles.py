"""A pickle interpreter that can make containers and tensor descriptions, and nothing else.

Python's unpickler imports and calls any name of the file. This one never does: the tables of
`pickle_names.py` turn names into plain data, and an opcode that state dicts do not need is refused.

Source: the opcodes of the standard library's pickletools.
"""

import pickletools
from collections.abc import Callable
from typing import IO, Any

from ecliptic.errors import CorruptFileError, UnsafeFileError
from ecliptic.storage.budget import Budget
from ecliptic.storage.pickled.pickle_names import (
    MAX_KEY,
    Inert,
    Module,
    TensorRecord,
    check_key,
    look_up,
    read_storage,
    resolve_call,
)

LONGEST_REASON = 200  # characters of an error of Python, quoted in ours


def load(file: IO[bytes], where: str, budget: Budget) -> object:
    """Read the pickle at the current position of `file`.

    Args:
        file: read up to the end of the pickle.
        where: the name in errors.
        budget: of the file, which its other pickles share.

    Returns:
        dict, list, tuple, str, bytes, numbers, None, and `TensorRecord`, `Module`, `Inert`.

    Raises:
        UnsafeFileError: it asks for anything else, or for more than the budget.
        CorruptFileError: it is damaged or incomplete.
    """
    try:
        return _Machine(budget).run(file)
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{where} is refused: {error}.") from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, Warning) as error:
        reason = str(error)[:LONGEST_REASON]  # some quote the whole argument
        raise CorruptFileError(f"{where} is a damaged or incomplete pickle: {reason}.") from error


class _Machine:
    """The stack machine of pickle, with the operations that plain data needs."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.stack: list[object] = []
        self.outer: list[list[object]] = []  # stacks below the open marks
        self.memo: dict[str, object] = {}  # by text: a file can choose numbers that collide

    def run(self, file: IO[bytes]) -> object:
        """Carry out the operations up to STOP."""
        limit, read = self.budget.opcodes, file.read
        for count in range(limit):
            code = read(1)
            if code == _STOP:
                self.budget.opcodes = limit - count
                return self.result()
            try:
                read_argument, operation = _TABLE[code]
            except KeyError:
                what = f"has the unknown opcode {code!r}" if code else "ends before its STOP"
                raise ValueError(f"it {what}") from None
            operation(self, read_argument(file) if read_argument else None)
        raise UnsafeFileError(f"it has more than {limit} operations, too many for the file's size")

    def result(self) -> object:
        if len(self.stack) != 1 or self.outer:
            raise ValueError("its stack is not empty at the end")
        return self.stack[0]

    def push(self, value: object) -> None:
        self.stack.append(value)

    def ignore(self, _: object) -> None:
        pass

    def close_mark(self) -> list[object]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def pop_many(self, count: int) -> list[object]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def mark(self, _: object) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def get(self, index: object) -> None:
        self.push(self.memo[str(index)])

    def put(self, index: object) -> None:
        self.memo[str(index)] = self.stack[-1]

    def put_any(self, index: int) -> None:
        if not 0 <= index < MAX_KEY:
            raise UnsafeFileError("a number beyond 2**61 is used as the key of a dictionary")
        self.put(index)

    def memoize(self, _: object) -> None:
        self.memo[str(len(self.memo))] = self.stack[-1]

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
            target[check_key(key, self.budget)] = value

    def name(self, argument: object) -> None:
        module, _, attribute = str(argument).partition(" ")
        self.push(look_up(module, attribute))

    def call(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        made = resolve_call(function, arguments, self.budget)
        first = arguments[:1] if isinstance(arguments, tuple) else ()
        if isinstance(made, TensorRecord) and all(made is not x for x in first):  # not a parameter
            self.budget.spend_tensor()
        self.push(made)

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
_STOP = b"."
_IGNORED = ("PROTO", "FRAME")
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,  # sets become lists, so that no value of the file is hashed
    "EMPTY_TUPLE": tuple,
}
_OPERATIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "ADDITEMS": _Machine.append_marked,
    "APPEND": lambda machine, _: machine.extend(machine.pop_many(1)),
    "APPENDS": _Machine.append_marked,
    "BINGET": _Machine.get,
    "BINPERSID": lambda machine, _: machine.push(read_storage(machine.stack.pop())),
    "BINPUT": _Machine.put,
    "BUILD": _Machine.build,
    "BYTEARRAY8": lambda machine, argument: machine.push(bytes(argument)),
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
    "PUT": _Machine.put_any,
    "REDUCE": _Machine.call,
    "SETITEM": lambda machine, _: machine.set_items(machine.pop_many(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.close_mark()),
    "STACK_GLOBAL": lambda machine, _: machine.push(look_up(*machine.pop_many(2))),
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop_many(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop_many(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop_many(3))),
}


def _find_operation(name: str) -> Callable[[_Machine, Any], object]:
    if name in _VALUES:
        return _Machine.push
    if name in _CONSTANTS:
        make = _CONSTANTS[name]
        return lambda machine, _: machine.push(make())
    return _Machine.ignore if name in _IGNORED else _OPERATIONS.get(name, _refuse(name))


def _refuse(name: str) -> Callable[[_Machine, Any], object]:
    def refuse(*_: object) -> object:
        raise UnsafeFileError(f"it uses the opcode {name}, which no state dict needs")

    return refuse


# How to read its argument, and what it does, for each opcode
_TABLE: dict[bytes, tuple[Callable[[IO[bytes]], Any] | None, Callable[[_Machine, Any], object]]] = {
    opcode.code.encode("latin-1"): (
        opcode.arg.reader if opcode.arg else None,
        _find_operation(opcode.name),
    )
    for opcode in pickletools.opcodes
}
