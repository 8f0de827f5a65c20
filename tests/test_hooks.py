"""Without what torch and numba do not promise, the numbers are the same."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from torch.optim.adam import adam as torch_adam

from vivace import _hooks
from vivace.kernels import csr_tensor, jit, sparse_linear
from vivace.kernels.rows import weighted_sum
from vivace.train.optimizer import take_step

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "vivace"
PRIVATE = re.compile(
    r"\b(torch|nn|numba)(\.\w+)*\._[a-z]|\._version\b|__wrapped__|__class__ =|_nrt\b"
)
ELSEWHERE = {"_hooks.py", "kernels/draws.py", "io/rebuild.py"}  # the last names what files name


def code_of(path: Path) -> str:
    """The file without its comments."""
    return ast.unparse(ast.parse(path.read_text()))


def test_they_stand_in_one_file():
    found = {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py") if PRIVATE.search(code_of(p))}
    assert "_hooks.py" in found
    assert found <= ELSEWHERE


def test_they_were_checked_with_the_versions_that_are_tested():
    pinned = dict(
        re.findall(r"^(\w+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    )
    assert {name: pinned[name] for name in _hooks.CHECKED_WITH} == _hooks.CHECKED_WITH


def test_all_are_there():
    assert _hooks.without_counting()
    assert _hooks.changes_in_place(torch.ones(1)) == 0
    assert _hooks.adam is torch_adam
    assert _hooks.standard_gamma is torch._standard_gamma


def test_arrays_whose_users_are_counted_have_the_same_sums(monkeypatch):
    weights, rows = np.float32([1, 0.1, -2]), np.random.default_rng(0).random((3, 7), np.float32)
    expected, found = np.empty(7, np.float32), np.empty(7, np.float32)
    weighted_sum(weights, rows, expected)
    monkeypatch.setattr(jit, "without_counting", dict)
    monkeypatch.setattr(jit, "njit", lambda cache, **options: numba.njit(**options))
    again = jit.compiled(weighted_sum.py_func)
    assert "_nrt" not in again.targetoptions
    again(weights, rows, found)
    np.testing.assert_array_equal(found, expected)


def test_counts_whose_changes_nobody_counts_have_the_same_gradient(monkeypatch):
    counts = csr_tensor(torch.tensor([0, 1, 3]), torch.tensor([1, 0, 2]), torch.ones(3), (2, 30))

    def gradient() -> torch.Tensor:
        weight = torch.zeros(4, 30, requires_grad=True)
        sparse_linear(counts, weight).sum().backward()
        return weight.grad

    expected = gradient()
    monkeypatch.setattr("vivace.kernels.linear.changes_in_place", lambda x: None)
    assert torch.equal(gradient(), expected)
    counts.values().mul_(2)
    assert torch.equal(gradient(), 2 * expected)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_steps_by_torchs_optimizer_are_the_same(kind, monkeypatch):
    def weights(adam) -> torch.Tensor:
        monkeypatch.setattr(_hooks, "adam", adam)
        layer = copy.deepcopy(start)
        optimizer = kind(layer.parameters(), lr=0.1, fused=True)
        for _ in range(4):
            optimizer.zero_grad()
            layer(torch.ones(2, 3)).square().sum().backward()
            take_step(optimizer)
        return layer.weight

    start = torch.nn.Linear(3, 2)
    assert torch.equal(weights(None), weights(torch_adam))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_an_optimizer_without_the_compiler_steps_and_is_saved_as_torchs(kind):
    def trained(kind, state=None) -> tuple[torch.Tensor, dict]:
        layer = copy.deepcopy(start)
        layer.bias.requires_grad_(False)  # has no gradient, nor a state
        groups = [{"params": [p], "lr": 0.1} for p in layer.parameters()]
        optimizer = kind(groups, fused=True, weight_decay=0.1)
        if state is not None:
            optimizer.load_state_dict(copy.deepcopy(state))
        for _ in range(3):
            layer(torch.ones(2, 3)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return layer.weight, optimizer.state_dict()

    start = torch.nn.Linear(3, 2)
    plain = _hooks.without_compiler(kind)
    assert issubclass(plain, kind)
    state = None
    for _ in range(2):  # from nothing, and from what was saved
        expected, saved = trained(kind, state)
        found, saved_plain = trained(plain, state)
        assert torch.equal(found, expected)
        assert saved_plain["param_groups"] == saved["param_groups"]
        torch.testing.assert_close(saved_plain["state"], saved["state"], rtol=0, atol=0)
        state = saved


def test_verbs_that_torch_does_not_wrap_are_its_own(monkeypatch):
    monkeypatch.setattr(_hooks.inspect, "unwrap", lambda function: function)
    plain = _hooks.without_compiler(torch.optim.Adam)
    assert plain.state_dict is torch.optim.Adam.state_dict


def test_another_adam_is_not_called():
    assert _hooks.accepted(None) is None
    assert _hooks.accepted(lambda params, grads: None) is None
    assert _hooks.accepted(torch_adam) is torch_adam


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gamma_draws_are_those_of_torchs_distribution(dtype):
    concentration = torch.tensor([0.01, 0.5, 3.0, 1e6], dtype=dtype).expand(50, 4)
    torch.manual_seed(1)
    found = _hooks.standard_gamma(concentration)
    torch.manual_seed(1)
    expected = _hooks.gamma_of_distribution(concentration)
    assert torch.equal(found.clamp(min=torch.finfo(dtype).tiny), expected)
