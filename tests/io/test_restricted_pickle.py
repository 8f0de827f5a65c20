"""The reader of pickles builds what torch.save writes, follows nothing, and takes no more than it should."""

from __future__ import annotations

import io
import pickle
import resource
import struct
import time
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from fuzz_inputs import name, number, packed, text
from vivace.errors import ModelFileError
from vivace.io.restricted_pickle import read_pickle

CALL, BUILD, PAIR, TRIPLE = pickle.REDUCE, pickle.BUILD, pickle.TUPLE2, pickle.TUPLE3
STORE, FETCH = b"r\xe7\x03\x00\x00", b"j\xe7\x03\x00\x00"


def written(folder: Path, program: bytes, **changes: bytes) -> Path:
    """A ``model.pt`` with this pickle, beside a tensor of four float32."""
    entries = {"data.pkl": b"\x80\x02" + program + b".", "data/0": bytes(16), "version": b"3"}
    entries |= {key.replace("_", "/"): value for key, value in changes.items()}
    packed(folder / "model.pt", {f"archive/{entry}": data for entry, data in entries.items()})
    return folder / "model.pt"


# what it reads ----------------------------------------------------------------------------------------

TABLE = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4], "c": ["x", "y"], "d": [5.0, 6.0]})
PLAIN: dict[str, Any] = {
    "scalars": [None, True, 1, -(2**40), 2.5, "tëxt", 1 + 2j, (), (1,), {"a": {1: "b"}}, {1, 2}],
    "bytes": [b"", b"\x00\xff"],
    "numbers": [np.arange(6, dtype=code).reshape(2, 3) for code in "bBhHiIqQefdFD"],
    "no numbers": [np.zeros((0, 3)), np.array(2.0), np.array([True, False])],
    "orders": [np.arange(6, dtype=">i4"), np.asfortranarray(np.arange(6.0).reshape(2, 3))],
    "texts": [
        np.array(["a", "béé"]),
        np.array([b"x", b"yz"]),
        np.array(["a", 1, None], dtype=object),
    ],
    "numpy scalars": [np.float64(1.5), np.int32(3), np.bool_(True), np.str_("a")],
    "axes": [
        pd.RangeIndex(0, 9, 3, name="epoch"),
        pd.Index(["a", "b"], name="n"),
        pd.Index([1, 2]),
    ],
    "tables": [TABLE, TABLE[["a", "d"]], TABLE.iloc[:0], TABLE.rename_axis("epoch")],
    "dicts": [OrderedDict(a=1), defaultdict(list, b=2)],
    "sizes": [torch.Size([2, 3])],
}


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, pd.DataFrame | pd.Index):
        return expected.equals(found)
    if isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and np.array_equal(found, expected)
    return bool(found == expected)


@pytest.mark.parametrize("kind", PLAIN)
def test_what_models_hold_comes_back(kind: str, tmp_path):
    torch.save(PLAIN[kind], tmp_path / "model.pt")
    found = read_pickle(tmp_path / "model.pt")
    assert len(found) == len(PLAIN[kind])
    assert all(map(same, found, PLAIN[kind])), found


def test_tensors_come_back_with_the_memory_they_share(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    saved = {
        "whole": base,
        "column": base[:, 1],
        "turned": base.T,
        "one": torch.tensor(3),
        "none": torch.zeros(0, 2),
        "flags": torch.tensor([True, False]),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "state": torch.nn.Linear(2, 3).state_dict(),
    }
    torch.save(saved, tmp_path / "model.pt")
    found = read_pickle(tmp_path / "model.pt")
    for key, value in saved.items():
        if key != "state":
            assert torch.equal(found[key], value)
            assert found[key].dtype == value.dtype
    assert found["column"].stride() == base[:, 1].stride()
    found["whole"][0, 1] = 99
    assert found["column"][0] == 99
    assert found["state"].keys() == saved["state"].keys()


def test_a_file_that_was_compressed_in_between_is_read(tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(100.0)}, buffer)
    archive = zipfile.ZipFile(buffer)
    entries = {entry: archive.read(entry) for entry in archive.namelist()}
    packed(tmp_path / "model.pt", entries, zipfile.ZIP_DEFLATED)
    assert read_pickle(tmp_path / "model.pt")["a"][99] == 99


# what it does not follow ------------------------------------------------------------------------------


def dtype(code: str, state: bytes = b"") -> bytes:
    built = name("numpy dtype") + text(code) + b"\x89\x88" + TRIPLE + CALL
    return built + (b"(" + state + b"t" + BUILD if state else b"")


def state(
    order: str = "|", subtype: bytes = b"N", names: bytes = b"N", fields: bytes = b"N"
) -> bytes:
    return number(3) + text(order) + subtype + names + fields + number(-1) + number(-1) + number(0)


def raw(contents: str) -> bytes:
    return name("_codecs encode") + text(contents) + text("latin1") + PAIR + CALL


def array(shape: bytes, type_: bytes, contents: bytes, kind: str = "numpy ndarray") -> bytes:
    start = name("numpy.core.multiarray _reconstruct") + name(kind) + number(0) + b"\x85" + raw("b")
    return (
        start + TRIPLE + CALL + b"(" + number(1) + shape + type_ + b"\x89" + contents + b"t" + BUILD
    )


ONE = number(1) + b"\x85"
EIGHT = raw("AAAAAAAA")
SCALAR = name("numpy.core.multiarray scalar")
POINTERS = {
    "objects from bytes": array(ONE, dtype("O8"), EIGHT),
    "objects whose state says that they are none": array(ONE, dtype("O8", state()), EIGHT),
    "objects of a size of their own": array(ONE, dtype("O999"), EIGHT),
    "a number of the type of objects": SCALAR + dtype("O8", state()) + EIGHT + PAIR + CALL,
    "parts that are objects": array(ONE, dtype("V8", state(names=text("a") + b"\x85")), EIGHT),
    "an array in an array": array(ONE, dtype("f8", state(subtype=dtype("O8") + ONE + PAIR)), EIGHT),
    "a type set up twice": array(
        ONE, dtype("f8", state()) + b"(" + state(">") + b"t" + BUILD, EIGHT
    ),
    "too few bytes": array(number(2) + b"\x85", dtype("f8"), EIGHT),
    "too few objects": array(number(2) + b"\x85", dtype("O8"), b"]"),
    "a negative size": array(number(-1) + b"\x85", dtype("f8"), EIGHT),
    "bytes that are text": array(ONE, dtype("f8"), text("AAAAAAAA")),
    "text of no characters": array(ONE, dtype("U2"), raw("\xff" * 8)),
    "a class of its own": array(ONE, dtype("f8"), EIGHT, "numpy matrix"),
    "a type made without a call": name("numpy dtype") + b")\x81(" + state() + b"t" + BUILD,
    "an array made without a call": name("numpy ndarray") + ONE + b"\x81",
    "a table of pointers": name("pandas.core.frame DataFrame")
    + b")\x81}"
    + text("_mgr")
    + EIGHT
    + b"sb",
    "a state of a number": number(3) + b"}b",
}


@pytest.mark.parametrize("case", POINTERS)
def test_no_pointer_that_the_file_made_up_is_followed(case: str, tmp_path):
    with pytest.raises(ModelFileError):
        read_pickle(written(tmp_path, POINTERS[case]))


def storage(n: int, kind: str = "FloatStorage", key: str = "0") -> bytes:
    named = text("storage") + name(f"torch {kind}") + text(key) + text("cpu") + number(n)
    return b"(" + named + b"t" + pickle.BINPERSID


def tensor(stored: bytes, start: int, size: list[int], stride: list[int]) -> bytes:
    sizes = [b"(" + b"".join(map(number, numbers)) + b"t" for numbers in (size, stride)]
    rest = b"".join(sizes) + b"\x89" + b"}"
    return (
        name("torch._utils _rebuild_tensor_v2") + b"(" + stored + number(start) + rest + b"t" + CALL
    )


TENSORS = {
    "beyond its bytes": tensor(storage(4), 0, [5], [1]),
    "starting beyond": tensor(storage(4), 4, [1], [1]),
    "by large steps": tensor(storage(4), 0, [2], [2**40]),
    "by steps back": tensor(storage(4), 3, [2], [-1]),
    "starting before": tensor(storage(4), -1, [1], [1]),
    "of many times one value": tensor(storage(4), 0, [10**12], [0]),
    "of many axes": tensor(storage(4), 0, [1] * 100, [0] * 100),
    "of more values than bytes": tensor(storage(10**12), 0, [10**12], [1]),
    "of fewer values than bytes": tensor(storage(3), 0, [3], [1]),
    "of another type": tensor(storage(4, "QInt8Storage"), 0, [4], [1]),
    "without an entry": tensor(storage(4, key="1"), 0, [4], [1]),
    "with an entry elsewhere": tensor(storage(4, key="../../../etc/passwd"), 0, [4], [1]),
    "of no storage": tensor(number(4), 0, [4], [1]),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_stay_inside_their_bytes(case: str, tmp_path):
    with pytest.raises(ModelFileError):
        read_pickle(written(tmp_path, TENSORS[case]))
    whole = tensor(storage(4), 1, [3], [1])
    assert read_pickle(written(tmp_path, whole)).tolist() == [0, 0, 0]


# what it does not pay for -----------------------------------------------------------------------------


def range_of(n: int) -> bytes:
    ends = text("start") + number(0) + text("stop") + number(n) + text("step") + number(1)
    index = name("pandas.core.indexes.range RangeIndex") + b"}(" + ends + b"u" + PAIR
    return name("pandas.core.indexes.base _new_Index") + index + CALL


def laughs(levels: int, one: bytes) -> bytes:
    put = [b"r" + struct.pack("<I", i) for i in range(levels)]
    get = [b"j" + struct.pack("<I", i) for i in range(levels)]
    return one + put[0] + b"".join(g + PAIR + p for g, p in zip(get, put[1:], strict=False))


def again(function: str, n: int) -> bytes:
    """A call with the same long list, many times."""
    long = b"](" + b"".join(map(number, range(3000))) + b"e" + STORE
    return b"(" + long + (name(function) + FETCH + b"\x85" + CALL) * n + b"t"


BOMBS = {
    "bytes of a number": name("builtins bytes") + number(10**10) + b"\x85" + CALL,
    "a list of a range": name("builtins list") + range_of(10**12) + b"\x85" + CALL,
    "a long range": range_of(10**12),
    "a million laughs": laughs(40, text("ha")),
    "sets of laughs": name("builtins set") + laughs(40, text("ha")) + b"\x85\x85" + CALL,
    "keys of laughs": b"}" + laughs(40, text("ha")) + number(1) + b"s",
    "long text again and again": b"(" + text("x" * 10**6) + STORE + FETCH * 1000 + b"t",
    "sets again and again": again("builtins set", 3000),
    "tuples in tuples": b")" + b"\x85" * 10**6,
    "tuples in tuples as key": b"}" + b")" + b"\x85" * 10**6 + number(1) + b"s",
    "a list in itself": b"]" + STORE + FETCH + b"a",
    "empty dicts": b"(" + b"}" * 10**6 + b"t",
    "many instructions": b"(" + b"N" * 4_000_000 + b"t",
    "an array of nothing": array(number(10**12) + b"\x85", dtype("U0"), raw("")),
    "objects that are not there": array(number(10**12) + b"\x85", dtype("O8"), b"]"),
    "text without an end": pickle.BINUNICODE + b"\xff\xff\xff\xff",
    "a number without an end": b"\x8b\xff\xff\xff\x7f",
    "a place far away": b"r\xff\xff\xff\xff",
}


@pytest.mark.parametrize("case", BOMBS)
def test_small_files_that_ask_for_much_are_refused_before_they_get_it(case: str, tmp_path):
    path = written(tmp_path, BOMBS[case])
    start, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError):
        read_pickle(path)
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 700_000  # kB


def test_archives_that_unpack_to_much_more_than_they_are_are_refused(tmp_path):
    entries = {"archive/data.pkl": b"\x80\x02N.", "archive/data/0": bytes(100_000_000)}
    packed(tmp_path / "model.pt", entries, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "model.pt").stat().st_size < 200_000
    with pytest.raises(ModelFileError, match="unpack to 100000"):
        read_pickle(tmp_path / "model.pt")


def test_archives_without_their_parts_are_damaged(tmp_path):
    for entries in ({}, {"a/data.pkl": b"N.", "b/data.pkl": b"N."}, {"a/data.pkl": b""}):
        packed(tmp_path / "model.pt", entries)
        with pytest.raises(ModelFileError, match="damaged"):
            read_pickle(tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match="big-endian"):
        read_pickle(written(tmp_path, tensor(storage(4), 0, [4], [1]), byteorder=b"big"))


def test_a_list_is_no_key(tmp_path):
    with pytest.raises(ModelFileError, match="a list is no key"):
        read_pickle(written(tmp_path, b"}](K\x01e" + number(1) + b"s"))
