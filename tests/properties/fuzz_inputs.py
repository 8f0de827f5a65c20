"""What the fuzzer of files reads: whole models, and ways to damage or forge them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import pickletools
import random
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load, save

import vivace

sys.path.insert(0, str(Path(__file__).parents[1] / "laws"))
from model_table import CASES

Chance = random.Random
Entries = dict[str, bytes]
"""Entries of a zip file."""


def away(folder: Path) -> None:
    """Remove a folder and all that is in it, links not followed."""
    for here, folders, files in os.walk(folder, topdown=False):
        for name in files:
            os.unlink(f"{here}/{name}")  # noqa: PTH108 - by its full name, which the audit hook sees
        for name in folders:
            path = Path(here) / name
            path.unlink() if path.is_symlink() else path.rmdir()
    folder.rmdir()


# whole models -------------------------------------------------------------------------------------


def corpus(place: Path) -> list[Path]:
    """Folders of saved models of every class, and one of scvi-tools at the front."""
    home = place / "corpus"
    if not home.exists():
        write_published(home / "0-published")
        for name, case in CASES.items():
            model = case.build(case.data())
            if name == "SCVI":
                model.train(max_epochs=2, progress=False)
                model.save(home / "trained")
                query = vivace.datasets.simulate("batches", n_cells=60, n_genes=30, seed=1)
                query.obs["batch"] = "new"
                vivace.SCVI.load_query_data(query, model).save(home / "query")
            model.save(home / name)
    return sorted(home.iterdir())


def write_published(folder: Path) -> None:
    """A folder as scvi-tools writes it."""
    module = vivace.modules.VAE(4, n_batch=2, n_hidden=8, n_latent=2)
    x = {"data_registry": {"attr_name": "X", "attr_key": None}}
    batch = {"categorical_mapping": np.array(["a", "b"], dtype=object), "original_key": "batch"}
    fields = {
        "X": x,
        "batch": {"data_registry": {}, "state_registry": batch},
        "size_factor": {"data_registry": {}, "state_registry": {}},
    }
    facts = {
        "registry_": {"model_name": "SCVI", "field_registries": fields, "setup_args": {}},
        "init_params_": {
            "non_kwargs": {"n_hidden": 8, "n_latent": np.int64(2), "gene_likelihood": "zinb"},
            "kwargs": {"kwargs": {"dropout_rate": np.float32(0.1)}},
        },
        "is_trained_": True,
        "history_": {"elbo_train": pd.DataFrame({"elbo_train": [3.0, 2.0]})},
        "train_indices_": np.array([1, 0]),
        "validation_indices_": None,
        "test_indices_": None,
        "bytes_": b"\x00\xff",
        "set_": {1, 2},
    }
    names = np.array([f"gene_{i}" for i in range(4)], dtype=object)
    saved = {"model_state_dict": module.state_dict(), "var_names": names, "attr_dict": facts}
    folder.mkdir(parents=True)
    torch.save(saved, folder / "model.pt")


# pickles ------------------------------------------------------------------------------------------

DANGEROUS = (
    "os system", "posix system", "builtins eval", "builtins exec", "builtins getattr", "builtins open",
    "builtins __import__", "subprocess Popen", "torch load", "numpy load", "pandas read_pickle",
    "numpy frombuffer", "numpy core.multiarray.scalar", "numpy.dtypes ObjectDType", "numpy void",
    "numpy.lib.format open_memmap", "numpy memmap", "torch.storage UntypedStorage", "torch Tensor",
    "torch._utils _rebuild_sparse_tensor", "pandas._libs.internals BlockPlacement", "builtins bytes",
    "pandas.core.indexes.range RangeIndex", "numpy ndarray", "numpy dtype", "builtins list",
    "builtins bytearray", "collections OrderedDict", "torch Size", "_codecs encode",
    "numpy.core.multiarray _reconstruct", "numpy.core.multiarray scalar", "pickle loads",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 255, 65_536, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63), 10**18)


def number(n: int) -> bytes:
    """The instruction for a whole number."""
    digits = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(digits)]) + digits


def text(s: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(s.encode())) + s.encode()


def name(dotted: str) -> bytes:
    module, attribute = dotted.rsplit(" ", 1)
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def instructions(program: bytes) -> list[bytes]:
    starts = [at for _, _, at in pickletools.genops(program)]
    return [program[a:b] for a, b in zip(starts, [*starts[1:], len(program)], strict=True)]


def flipped(chance: Chance, data: bytes) -> bytes:
    """A few bytes changed."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def rearranged(chance: Chance, program: bytes) -> bytes:
    """Instructions dropped, doubled, exchanged or moved."""
    steps = instructions(program)
    for _ in range(chance.randint(1, 3)):
        a, b = chance.randrange(len(steps)), chance.randrange(len(steps))
        kind = chance.randrange(4)
        if kind == 0:
            del steps[a : a + chance.randint(1, 5)]
        elif kind == 1:
            steps[b:b] = steps[a : a + chance.randint(1, 40)]
        elif kind == 2:
            steps[a], steps[b] = steps[b], steps[a]
        else:
            steps[a] = steps[b]
        if not steps:
            break
    return b"".join(steps)


def revalued(chance: Chance, program: bytes) -> bytes:
    """A number, a text or a name exchanged for another."""
    steps = instructions(program)
    texts = [s for s in steps if s[:1] == pickle.BINUNICODE]
    for _ in range(chance.randint(1, 2)):
        at = chance.randrange(len(steps))
        code = steps[at][:1]
        if code == pickle.GLOBAL:
            steps[at] = name(chance.choice(DANGEROUS))
        elif code == pickle.BINUNICODE:
            steps[at] = chance.choice(
                [*texts, text("x" * chance.choice((1, 10**5))), text("O8"), text("|")]
            )
        elif code in (pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.NONE, pickle.NEWFALSE):
            steps[at] = number(chance.choice(NUMBERS))
        elif code in (pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE):
            steps[at] = chance.choice([pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE])
    return b"".join(steps)


def replaced(chance: Chance, program: bytes) -> bytes:
    """One value replaced by a small program that asks for much."""
    steps = instructions(program)
    at = chance.choice(
        [i for i, s in enumerate(steps) if s[:1] in (pickle.NONE, pickle.BINUNICODE)]
    )
    steps[at] = chance.choice(BOMBS)(chance)
    return b"".join(steps)


def nested(chance: Chance) -> bytes:
    depth = chance.choice((10, 100, 10_000) * 5 + (300_000,))
    return pickle.EMPTY_TUPLE + pickle.TUPLE1 * depth


def laughs(chance: Chance) -> bytes:
    """Each tuple holds the one before twice."""
    places = range(1000, 1000 + chance.choice((5, 20, 40, 58)))
    put = [pickle.LONG_BINPUT + struct.pack("<I", i) for i in places]
    get = [pickle.LONG_BINGET + struct.pack("<I", i) for i in places]
    twice = [g + pickle.TUPLE2 + p for g, p in zip(get, put[1:], strict=False)]
    return text("ha") + put[0] + b"".join(twice)


def long_range(chance: Chance) -> bytes:
    """A range of pandas, as long as it likes."""
    parts = [
        text("start"),
        number(0),
        text("stop"),
        number(chance.choice(NUMBERS)),
        text("step"),
        number(1),
    ]
    arguments = name("pandas.core.indexes.range RangeIndex") + b"}(" + b"".join(parts) + b"u"
    return name("pandas.core.indexes.base _new_Index") + arguments + pickle.TUPLE2 + pickle.REDUCE


def many_bytes(chance: Chance) -> bytes:
    kind = chance.choice(("builtins bytes", "builtins bytearray", "builtins list", "torch Size"))
    return name(kind) + number(chance.choice(NUMBERS)) + pickle.TUPLE1 + pickle.REDUCE


def large_array(chance: Chance) -> bytes:
    """An array of any shape and type, with no bytes to speak of."""
    code = chance.choice(("f8", "O8", "U1", "U999999", "S0", "V8", "i4", "M8", "b1"))
    type_ = name("numpy dtype") + text(code) + b"\x89\x88" + pickle.TUPLE3 + pickle.REDUCE
    if chance.random() < 0.5:
        state = number(3) + text(chance.choice("<>|=")) + b"NNN" + number(-1) + number(-1)
        type_ += b"(" + state + number(chance.choice((0, 63))) + b"t" + pickle.BUILD
    start = name("numpy.core.multiarray _reconstruct") + name("numpy ndarray") + number(0)
    start += pickle.TUPLE1 + text("b") + pickle.TUPLE3 + pickle.REDUCE
    shape = b"(" + number(chance.choice(NUMBERS)) + number(chance.choice((0, 1, 2**33))) + b"t"
    raw = chance.choice((text("A" * 8), pickle.EMPTY_LIST, pickle.NONE))
    if raw[:1] == pickle.BINUNICODE:
        raw = name("_codecs encode") + raw + text("latin1") + pickle.TUPLE2 + pickle.REDUCE
    return start + b"(" + number(1) + shape + type_ + b"\x89" + raw + b"t" + pickle.BUILD


def same_again(chance: Chance) -> bytes:
    """A long list, and sets or dicts of it many times over."""
    n = chance.choice((10, 300) * 5 + (3_000, 30_000))
    long = (
        b"]("
        + b"".join(number(i) for i in range(n))
        + b"e"
        + pickle.LONG_BINPUT
        + struct.pack("<I", 9000)
    )
    get = pickle.LONG_BINGET + struct.pack("<I", 9000)
    one = name("builtins set") + get + pickle.TUPLE1 + pickle.REDUCE
    return b"(" + long + one * n + b"t"


def many_places(chance: Chance) -> bytes:
    return pickle.NONE + pickle.LONG_BINPUT + struct.pack("<I", chance.choice((2**31, 2**32 - 1)))


def empties(chance: Chance) -> bytes:
    return b"(" + chance.choice((b"}", b"]")) * chance.choice((100,) * 18 + (10**6, 10**7)) + b"t"


BOMBS = (nested, laughs, long_range, many_bytes, large_array, same_again, many_places, empties)

PROGRAMS: tuple[Callable[[Chance, bytes], bytes], ...] = (flipped, rearranged, revalued, replaced)


def packed(path: Path, entries: Entries, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)


def mutated_pickle(chance: Chance, whole: list[Path], folder: Path) -> None:
    """A ``model.pt`` with another pickle, other entries, or other bytes."""
    folder.mkdir()
    blob = (whole[0] / "model.pt").read_bytes()
    archive = zipfile.ZipFile(io.BytesIO(blob))
    entries = {entry: archive.read(entry) for entry in archive.namelist()}
    program = next(entry for entry in entries if entry.endswith("data.pkl"))
    path, kind = folder / "model.pt", chance.randrange(10)
    if kind < 7:
        for _ in range(chance.randint(1, 2)):
            try:
                entries[program] = chance.choice(PROGRAMS)(chance, entries[program])
            except (ValueError, IndexError, AttributeError, KeyError):
                break  # no pickle any more, after the first change
        packed(path, entries)
    elif kind == 7:
        entry = chance.choice(list(entries))
        entries[entry] = chance.choice(
            (b"", entries[entry][:-1], entries[entry] * 2, b"\0" * 10**6)
        )
        packed(path, entries)
    elif kind == 8:
        path.write_bytes(
            chance.choice((flipped(chance, blob), blob[: chance.randrange(len(blob))]))
        )
    else:
        entry = chance.choice(list(entries))
        entries[entry] += b"\0" * chance.choice((10, 10**6, 3 * 10**7))
        packed(path, entries, zipfile.ZIP_DEFLATED)


# folders ------------------------------------------------------------------------------------------

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 10**6, 10**12, 10**30, 0.5, -1.5, 1e308, float("nan"), float("inf"),
    "", "x", "../x", "/dev/zero", "batch", "\ud800", [], {}, [[]], [None], {"a": 1}, ["a", "a"], "a" * 1000,
)  # fmt: skip


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """Where everything in a JSON value lies."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [place for key, inner in items for place in [(*at, key), *places(inner, (*at, key))]]


def altered(chance: Chance, manifest: dict) -> dict:
    """One or two values replaced, dropped, doubled or renamed."""
    for _ in range(chance.randint(1, 2)):
        names = [place for place in places(manifest) if place[0] not in ("sha256", "weights")]
        depth = chance.randint(1, 5)  # so that short lists and single fields have their turn, too
        *way, last = chance.choice([p for p in names if len(p) == depth] or names)
        holder = manifest
        for key in way:
            holder = holder[key]
        kind = chance.randrange(6)
        if kind == 0:
            del holder[last]
        elif kind == 1:
            other = chance.choice(names)
            value = manifest
            for key in other:
                value = value[key]
            holder[last] = json.loads(json.dumps(value))
        elif kind == 2 and isinstance(holder, dict):
            holder[chance.choice(("x", "", "n_hidden", "0", "kind"))] = holder.pop(last)
        else:
            holder[last] = chance.choice(STRANGE)
    return manifest


def sealed(manifest: dict) -> str:
    contents = {k: v for k, v in manifest.items() if k != "sha256"}
    seal = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    return json.dumps({**contents, "sha256": seal})


def other_weights(chance: Chance, blob: bytes) -> bytes:
    """Tensors dropped, renamed, or of another shape, type or number."""
    tensors = load(blob)
    key = chance.choice(list(tensors))
    old = tensors.pop(key)
    kinds = (
        dict,
        lambda: {key + "x": old},
        lambda: {key: old.reshape(-1).clone()},
        lambda: {key: old[None].clone()},
        lambda: {key: old.to(torch.float64)},
        lambda: {key: old.to(torch.int8)},
        lambda: {key: torch.full_like(old.float(), float("nan"))},
        lambda: {key: torch.zeros(0)},
        lambda: {key: old, "array.split.train": torch.tensor([-1, 10**12])},
        lambda: {key: old, "array.split.new": torch.tensor([1])},
        lambda: {key: old, "array.split.train": torch.rand(2, 2)},
    )
    return save(tensors | chance.choice(kinds)())


def forged_header(chance: Chance, blob: bytes) -> bytes:
    """Another length or other words at the start of a safetensors file."""
    length = chance.choice((0, 1, 2**20, 2**40, 2**63 - 1, 2**64 - 1))
    return chance.choice(
        (struct.pack("<Q", length) + blob[8:], flipped(chance, blob[:200]) + blob[200:])
    )


def raw_json(chance: Chance, text_: str) -> str:
    depth = chance.choice((30, 70, 900, 100_000))
    key = chance.choice(('"training"', '"options"', '"history"', '"schema"'))
    return chance.choice(
        (
            "[" * depth + "]" * depth,
            f"{{{key}: " + '{"a":' * depth + "1" + "}" * depth + "}",
            text_.replace(key, f'{key}: {"9" * chance.choice((20, 4000, 6000))}, "x"', 1),
            "[" + "{}," * 10**6 + "1]",
            "[" + "1," * 10**7 + "1]",
            flipped(chance, text_.encode()).decode("latin1"),
            text_[: chance.randrange(len(text_))],
        )
    )


def no_file(chance: Chance, path: Path) -> None:
    """A pipe, a link or a folder in place of a file."""
    if path.exists():
        path.unlink()
    kind = chance.randrange(5)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to(
            chance.choice(("/dev/zero", "/dev/null", "/dev/random", path.name, "/missing"))
        )
    elif kind == 2:
        path.mkdir()
    elif kind == 3:
        path.write_bytes(b"")


def mutated_folder(chance: Chance, whole: list[Path], folder: Path) -> None:
    """A saved model with another description, other weights, or no files in place of files."""
    origin = chance.choice(whole[1:])
    folder.mkdir()
    manifest = json.loads((origin / "model.json").read_text())
    blob = (origin / manifest["weights"]["file"]).read_bytes()
    kind = chance.randrange(10)
    if kind in (6, 7):
        blob = (other_weights if kind == 6 else forged_header)(chance, blob)
        digest = hashlib.sha256(blob).hexdigest()
        manifest["weights"] = {"file": f"weights-{digest[:16]}.safetensors", "sha256": digest}
    weights = folder / manifest["weights"]["file"]
    weights.write_bytes(blob)
    text_ = sealed(altered(chance, manifest) if kind < 6 else manifest)
    if kind == 8:
        text_ = raw_json(chance, text_)
    (folder / "model.json").write_text(text_, errors="surrogatepass")
    if kind == 9:
        no_file(chance, chance.choice((weights, folder / "model.json", folder / ".lock")))


KINDS = (mutated_pickle, mutated_folder)
