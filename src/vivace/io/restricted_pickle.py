"""Read the pickle inside a ``model.pt`` without running anything that it names.

A pickle is a program for a small stack machine. The machine here knows the instructions that
``torch.save`` uses and calls nothing: where the program asks for a call, it notes the name and the
arguments. What such a note stands for (an array, a table, a tensor) is then put together by
:mod:`vivace.io.rebuild`, which has a builder of our own for each name it knows.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vivace._files import user_path
from vivace.errors import ModelFileError
from vivace.io.archive import PICKLE, Archive
from vivace.io.damage import blamed_on
from vivace.io.rebuild import DICTS, STORAGE, Call, Name, Pairs, Rebuilder, known_name

MOST_STEPS = 3_000_000
"""Instructions a pickle may have; a million names of genes and junctions take two each."""
MOST_CONTAINERS = 200_000
"""Lists, tuples, dicts and calls among them; a model of scvi-tools has some hundreds."""


def read_pickle(path: str | Path) -> Any:
    """Contents of a file that ``torch.save`` wrote.

    Raises
    ------
    ModelFileError
        If the file is damaged, asks for far more memory than it is large, or names anything that is
        not known to be harmless; that is not run.
    """
    path = user_path(path)
    try:
        with blamed_on(f"{path} is damaged"), Archive(path) as archive:
            graph = Machine(archive.read(PICKLE)).run()
            return Rebuilder(archive).value_of(graph)
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"{path.parent} holds no model of scvi-tools ({path.name} is missing)"
        raise ModelFileError(msg) from error
    except (OSError, zipfile.BadZipFile) as error:
        msg = f"{path} is damaged or may not be read: {error}"
        raise ModelFileError(msg) from error
    except UnknownNameError as error:
        msg = (
            f"{path} was not read: its pickle names {error}, which could run code. Nothing of "
            "it was executed. A folder saved by scvi-tools holds no such thing; do not trust this file"
        )
        raise ModelFileError(msg) from error


class UnknownNameError(Exception):
    """The pickle names what no builder is known for."""


class Machine:
    """Runs the instructions of a pickle to a graph of plain values and notes of calls."""

    def __init__(self, program: bytes):
        self.program = program
        self.at = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        """Stacks under each mark."""
        self.memo: dict[int, Any] = {}
        self.n_containers = 0

    def run(self) -> Any:
        """The value that is left at the end."""
        for _ in range(MOST_STEPS):
            code = self.take(1)
            if code == pickle.STOP:
                return self.stack.pop()
            step = STEPS.get(code)
            if step is None:
                msg = f"torch.save does not write the instruction {code!r}"
                raise ValueError(msg)
            step(self)
        msg = f"it has more than {MOST_STEPS} instructions"
        raise ValueError(msg)

    # the program ------------------------------------------------------------------------------------

    def take(self, n: int) -> bytes:
        """The next bytes of the program."""
        end = self.at + n
        if end > len(self.program):
            msg = "the pickle is cut off"
            raise EOFError(msg)
        taken = self.program[self.at : end]
        self.at = end
        return taken

    def number(self, layout: str) -> Any:
        """The next number of the program."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        """The program up to the end of the line."""
        end = self.program.index(b"\n", self.at)
        text = self.program[self.at : end].decode()
        self.at = end + 1
        return text

    # instructions -----------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def hold(self, container: Any) -> None:
        """Push a list, a tuple, a dict or the note of a call."""
        self.n_containers += 1
        if self.n_containers > MOST_CONTAINERS:
            msg = f"it has more than {MOST_CONTAINERS} lists, tuples and dicts"
            raise ValueError(msg)
        self.stack.append(container)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """Take what was pushed since the last mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def last(self, n: int) -> list[Any]:
        """Take the last values."""
        if len(self.stack) < n:
            msg = "the pickle takes more than it has"
            raise IndexError(msg)
        items = self.stack[-n:]
        del self.stack[-n:]
        return items

    def name(self) -> None:
        module, name = self.line(), self.line()
        known = known_name(module, name)
        if known is None:
            raise UnknownNameError(f"{module}.{name}"[:200])
        self.push(known)

    def call(self) -> None:
        function, arguments = self.last(2)
        if type(function) is not Name or type(arguments) is not tuple:
            msg = "the pickle calls what is no name"
            raise ValueError(msg)
        is_dict = function.name in DICTS and all(type(a) is Name for a in arguments)
        self.hold(Pairs() if is_dict else Call(function, arguments))

    def set_state(self) -> None:
        (state,) = self.last(1)
        made = self.stack[-1]
        if type(made) is Call and made.state is None:
            made.state = state
        elif type(made) is not Pairs:  # attributes of a dict (torch's versions) are not needed
            msg = "the pickle sets the state of what has none"
            raise ValueError(msg)

    def add_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            msg = "the pickle appends to what is no list"
            raise ValueError(msg)
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not Pairs or len(items) % 2:
            msg = "the pickle sets items of what is no dict"
            raise ValueError(msg)
        self.stack[-1].extend(zip(items[::2], items[1::2], strict=True))

    def remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def text(self) -> None:
        self.push(self.take(self.number("<I")).decode())

    def long(self) -> None:
        self.push(int.from_bytes(self.take(self.number("<B")), "little", signed=True))

    def storage(self) -> None:
        self.hold(Call(STORAGE, tuple(self.last(1))))


STEPS: dict[bytes, Callable[[Machine], Any]] = {
    pickle.PROTO: lambda m: m.take(1),
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.BININT: lambda m: m.push(m.number("<i")),
    pickle.BININT1: lambda m: m.push(m.number("<B")),
    pickle.BININT2: lambda m: m.push(m.number("<H")),
    pickle.LONG1: Machine.long,
    pickle.BINFLOAT: lambda m: m.push(m.number(">d")),
    pickle.BINUNICODE: Machine.text,
    pickle.MARK: Machine.mark,
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE1: lambda m: m.hold(tuple(m.last(1))),
    pickle.TUPLE2: lambda m: m.hold(tuple(m.last(2))),
    pickle.TUPLE3: lambda m: m.hold(tuple(m.last(3))),
    pickle.TUPLE: lambda m: m.hold(tuple(m.marked())),
    pickle.EMPTY_LIST: lambda m: m.hold([]),
    pickle.APPEND: lambda m: m.add_items(m.last(1)),
    pickle.APPENDS: lambda m: m.add_items(m.marked()),
    pickle.EMPTY_DICT: lambda m: m.hold(Pairs()),
    pickle.SETITEM: lambda m: m.set_items(m.last(2)),
    pickle.SETITEMS: lambda m: m.set_items(m.marked()),
    pickle.GLOBAL: Machine.name,
    pickle.REDUCE: Machine.call,
    pickle.NEWOBJ: Machine.call,
    pickle.BUILD: Machine.set_state,
    pickle.BINPERSID: Machine.storage,
    pickle.BINPUT: lambda m: m.remember(m.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.remember(m.number("<I")),
    pickle.BINGET: lambda m: m.push(m.memo[m.number("<B")]),
    pickle.LONG_BINGET: lambda m: m.push(m.memo[m.number("<I")]),
}
"""What each instruction does."""
