"""The Triton kernel compiles for cards that are not here, and its registers suffice."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, pathlib, subprocess, sys, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from vivace.kernels import cuda

card, scale, likelihood, table = json.loads(sys.argv[1])
theta, zi = likelihood != "poisson", likelihood == "zinb"
constants = dict(scale=cuda.SCALES[scale], has_theta=theta, theta_by_cell=table, has_zi=zi)
constants |= dict(want_logits=True, want_theta=theta, want_zi=zi, block=cuda.BLOCK)
names = [name for name in cuda._rows.arg_names if name not in constants]
kinds = {name: "*fp32" if name.endswith("_start") else "i32" for name in names}
kinds["theta_rows_start"] = "*i64"
kinds |= dict.fromkeys(constants, "constexpr")
source = ASTSource(cuda._rows, kinds, constants)
kernel = compile(source, target=GPUTarget("cuda", card, 32), options={"num_warps": cuda.WARPS})
assembler = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
with tempfile.TemporaryDirectory() as folder:
    ptx = pathlib.Path(folder, "kernel.ptx")
    ptx.write_text(kernel.asm["ptx"])
    told = subprocess.run(
        [assembler, "-v", f"-arch=sm_{card}{'a' if card == 90 else ''}", ptx, "-o", ptx.with_suffix(".o")],
        capture_output=True, text=True, check=True,
    )
print(told.stderr)
"""


@pytest.mark.triton
@pytest.mark.parametrize(
    "variant",
    [
        (80, "softmax", "zinb", True),
        (90, "softmax", "zinb", True),
        (90, "softplus", "nb", False),
        (90, "identity", "poisson", False),
    ],
)
def test_compiles_for_a_card_without_one_and_spills_nothing(variant, tmp_path):
    quiet = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(variant)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **quiet},
    )
    assert done.returncode == 0, done.stderr
    assert " 0 bytes spill stores, 0 bytes spill loads" in done.stdout
