"""Laws of the summed log-likelihoods: every implementation gives the numbers of the float64 reference."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from vivace import kernels
from vivace.errors import VivaceWarning
from vivace.kernels import count_log_likelihood, cpu, csr_tensor, dispatch, reference
from vivace.kernels.affine import Affine

VALUE_ERROR, GRADIENT_ERROR = 1e-5, 1e-4
LIKELIHOODS = ("poisson", "nb", "zinb")
SCALES = ("softmax", "softplus", "identity")
LAYOUTS = ("gene", "table", "cell")


def on_card(x, logits, library, *others, **options):
    """The Triton kernel: on a card, or interpreted on the processor where there is none."""
    from vivace.kernels import cuda

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def moved(value):
        if isinstance(value, Affine):
            return type(value)(*(factor.to(device) for factor in value))
        return value.to(device) if isinstance(value, torch.Tensor) else value

    arguments = [moved(value) for value in (x, logits, library, *others)]
    options = {name: moved(value) for name, value in options.items()}
    return cuda.count_log_likelihood(*arguments, **options).cpu()


CARD = pytest.param(on_card, marks=pytest.mark.triton, id="triton")
FUSED = [pytest.param(cpu.count_log_likelihood, id="numba"), CARD]
fused = pytest.mark.parametrize("function", FUSED)
every = pytest.mark.parametrize(
    "function", [*FUSED, pytest.param(reference.count_log_likelihood, id="reference")]
)


def compress(x: torch.Tensor, *, index_type: torch.dtype = torch.int32) -> torch.Tensor:
    """CSR copy of a dense tensor."""
    rows, columns = x.nonzero(as_tuple=True)
    indptr = torch.cat([torch.zeros(1), torch.bincount(rows, minlength=len(x)).cumsum(0)])
    return csr_tensor(indptr.to(index_type), columns.to(index_type), x[rows, columns], x.shape)


class Product(Affine):
    """A product that can be asked for its own type, as a tensor can."""

    def to(self, dtype):
        assert self.dtype == dtype
        return self


@dataclass
class Case:
    """Arguments of one call, in float32."""

    x: torch.Tensor
    parameters: dict[str, torch.Tensor]
    scale: str
    theta_rows: torch.Tensor | None = None

    def value(self, function, dtype=torch.float32, x=None, **changes):
        parameters = {k: v.to(dtype) for k, v in (self.parameters | changes).items()}
        x = (self.x if x is None else x).to(dtype)
        return function(x, **parameters, scale=self.scale, theta_rows=self.theta_rows)

    def gradients(self, function, dtype=torch.float32, x=None):
        leaves = {k: v.to(dtype, copy=True).requires_grad_() for k, v in self.parameters.items()}
        value = self.value(function, dtype, x, **leaves)
        weights = torch.linspace(0.5, 2.0, value.numel(), dtype=dtype).view(value.shape)
        (value * weights).sum().backward()
        return {k: v.grad for k, v in leaves.items()}


def make(
    likelihood="zinb", scale="softmax", layout="gene", n_cells=6, n_genes=700, density=0.1, lead=()
):
    """A typical minibatch; 700 genes are one full tile of the kernels and a part of another."""
    shape = (*lead, n_cells, n_genes)
    x = torch.poisson(torch.rand(n_cells, n_genes) * 6) * (torch.rand(n_cells, n_genes) < density)
    logits = torch.randn(shape)
    if scale == "identity":
        logits = logits.exp()
    library = torch.rand(*lead, n_cells, 1) * 3 + (3 if scale == "softmax" else -2)
    parameters = {"logits": logits, "library": library}
    theta_rows = None
    if likelihood != "poisson":
        theta_shape = {"gene": (n_genes,), "table": (3, n_genes), "cell": shape}[layout]
        parameters["log_theta"] = torch.randn(theta_shape) * 2
        theta_rows = torch.randint(3, (n_cells,)) if layout == "table" else None
    if likelihood == "zinb":
        parameters["zi_logits"] = torch.randn(shape) * 2
    return Case(x, parameters, scale, theta_rows)


def assert_same_numbers(case: Case, function=cpu.count_log_likelihood, x=None) -> None:
    exact = case.value(reference.count_log_likelihood, torch.float64)
    value = case.value(function, x=x)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=VALUE_ERROR, atol=1e-7)
    exact_gradients = case.gradients(reference.count_log_likelihood, torch.float64)
    for name, gradient in case.gradients(function, x=x).items():
        exact = exact_gradients[name]
        error = (gradient.double() - exact).abs().max() / exact.abs().max().clamp(min=0.1)
        assert error <= GRADIENT_ERROR, f"{name}: {error}"


# the reference against the formulas ------------------------------------------------------------


@pytest.mark.parametrize(("mu", "theta"), [(0.5, 1.0), (1e-8, 1e-3), (1e6, 1e5), (3.0, 1e5)])
@pytest.mark.parametrize("x", [0, 1, 7, 100_000])
def test_reference_is_the_negative_binomial(x, mu, theta):
    x, mu, theta = (torch.tensor([[v]], dtype=torch.float64) for v in (x, mu, theta))
    zero = torch.zeros(1, 1, dtype=torch.float64)
    value = reference.count_log_likelihood(x, mu, zero, theta.log(), scale="identity")
    p = theta / (theta + mu)
    expected = stats.nbinom.logpmf(x.numpy(), theta.numpy(), p.numpy())
    np.testing.assert_allclose(value.numpy(), expected[0], rtol=1e-7, atol=1e-9)


def test_reference_is_the_zero_inflated_negative_binomial():
    x, mu = torch.tensor([[0.0, 1.0, 5.0]]), torch.tensor([[0.5, 2.0, 3.0]])
    log_theta, pi = torch.tensor([1.0, 2.0, 0.5]).log(), torch.tensor([[0.3, -1.0, 2.0]])
    value = reference.count_log_likelihood(
        x, mu, torch.zeros(1, 1), log_theta, pi, scale="identity"
    )
    assert value.item() == pytest.approx(-7.1252151, abs=1e-6)


def test_reference_is_poisson():
    x, mu = torch.tensor([[0.0, 3.0]]), torch.tensor([[1.5, 2.5]])
    value = reference.count_log_likelihood(x, mu, torch.zeros(1, 1), scale="identity")
    assert value.item() == pytest.approx(stats.poisson.logpmf([0, 3], [1.5, 2.5]).sum(), abs=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_reference_gradients_are_finite_differences(likelihood, scale):
    case = make(likelihood, scale, n_cells=2, n_genes=4, density=0.5)
    names = list(case.parameters)
    leaves = [case.parameters[n].double().requires_grad_() for n in names]

    def function(*values):
        changes = dict(zip(names, values, strict=True))
        return case.value(reference.count_log_likelihood, torch.float64, **changes)

    assert torch.autograd.gradcheck(function, leaves)


# every implementation against the reference -----------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_fused_is_reference(likelihood, layout, scale):
    assert_same_numbers(make(likelihood, scale, layout))


@fused
@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_any_density(function, likelihood, density):
    assert_same_numbers(make(likelihood, density=density), function)


@fused
@pytest.mark.parametrize(
    "storage",
    [
        lambda x: x,
        compress,
        lambda x: compress(x, index_type=torch.int64),
        lambda x: with_stored_zeros(x),
        lambda x: with_unsorted_columns(x),
        lambda x: x.t().contiguous().t(),
    ],
    ids=["dense", "csr", "csr_int64", "stored_zeros", "unsorted_columns", "strided"],
)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_any_storage(function, likelihood, storage):
    case = make(likelihood)
    assert_same_numbers(case, function, x=storage(case.x))
    assert_same_numbers(case, reference.count_log_likelihood, x=storage(case.x))


def with_stored_zeros(x):
    csr = compress(x + 1)
    return csr_tensor(csr.crow_indices(), csr.col_indices(), csr.values() - 1, csr.shape)


def with_unsorted_columns(x):
    csr = compress(x)
    backwards = torch.cat(
        [
            torch.arange(b - 1, a - 1, -1)
            for a, b in torch.stack([csr.crow_indices()[:-1], csr.crow_indices()[1:]], 1)
        ]
    )
    return csr_tensor(
        csr.crow_indices(), csr.col_indices()[backwards], csr.values()[backwards], csr.shape
    )


@fused
@pytest.mark.parametrize(("n_cells", "n_genes"), [(1, 1), (1, 5), (5, 1), (3, 512), (40, 1025)])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_any_shape(function, likelihood, n_cells, n_genes):
    assert_same_numbers(make(likelihood, n_cells=n_cells, n_genes=n_genes, density=0.4), function)


@pytest.mark.parametrize("layout", LAYOUTS)
@every
def test_leading_axes(function, layout):
    case = make(layout=layout, lead=(2, 3), n_cells=4, n_genes=30)
    value = case.value(function)
    assert value.shape == (2, 3, 4)
    assert_same_numbers(case, function)


@fused
def test_library_and_dropout_broadcast(function):
    case = make(n_cells=4, n_genes=30)
    logits = case.parameters["logits"].expand(3, 4, 30)
    value = case.value(function, logits=logits, library=torch.tensor(2.0))
    one = case.value(reference.count_log_likelihood, library=torch.full((4, 1), 2.0))
    torch.testing.assert_close(value, one.expand(3, 4))


@fused
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_counts_need_not_be_whole(function, likelihood):
    case = make(likelihood, density=0.3)
    case.x *= torch.rand_like(case.x)
    assert_same_numbers(case, function)


@fused
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_parameters_may_be_strided(function, likelihood):
    case = make(likelihood, n_genes=64)
    strided = {k: v.t().contiguous().t() for k, v in case.parameters.items()}
    assert not strided["logits"].is_contiguous()
    expected = case.value(function)
    torch.testing.assert_close(case.value(function, **strided), expected)


@fused
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_half_precision_parameters(function, likelihood):
    case = make(likelihood)
    half = {k: v.bfloat16() for k, v in case.parameters.items()}
    value = case.value(function, torch.bfloat16, **half)
    exact = case.value(reference.count_log_likelihood, torch.float64, **half)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)


# extremes ---------------------------------------------------------------------------------------

MUS = (1.01e-8, 1e-4, 0.3, 10.0, 1e3, 1e6)
THETAS = (1e-3, 0.1, 1.0, 50.0, 1e5)
COUNTS = (0.0, 0.25, 1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 30.0, 1e3, 1e5)


@fused
@pytest.mark.parametrize("pi", [-20.0, -1.0, 0.0, 20.0])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_extremes(function, likelihood, pi):
    """One gene a cell, so that no other term hides an error."""
    grid = torch.cartesian_prod(*map(torch.tensor, (COUNTS, MUS, THETAS)))
    grid = (
        grid[::7] if function is on_card else grid
    )  # a launch for each, which the interpreter feels
    x, mu, theta = (column.unsqueeze(-1) for column in grid.T)
    parameters = {"logits": mu, "library": torch.zeros(len(grid), 1)}
    if likelihood != "poisson":
        parameters["log_theta"] = theta.log()
    if likelihood == "zinb":
        parameters["zi_logits"] = torch.full_like(mu, pi)
    case = Case(x, parameters, "identity")
    exact = case.value(reference.count_log_likelihood, torch.float64)
    value = case.value(function)
    torch.testing.assert_close(value.double(), exact, rtol=VALUE_ERROR, atol=1e-12)
    exact_gradients = case.gradients(reference.count_log_likelihood, torch.float64)
    for name, gradient in case.gradients(function).items():
        assert gradient.isfinite().all(), name
        torch.testing.assert_close(
            gradient.double(), exact_gradients[name], rtol=GRADIENT_ERROR, atol=1e-9
        )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@every
def test_an_empty_cell_has_finite_gradients(function, likelihood, scale):
    case = make(likelihood, scale)
    case.x[0] = 0
    case.parameters["library"][0] = -math.inf
    assert (
        case.value(function)[0].abs() < 1e-4
    )  # a certain zero, up to the floor of the Poisson rate
    for name, gradient in case.gradients(function).items():
        assert gradient.isfinite().all(), name


@fused
@pytest.mark.parametrize("name", ["logits", "library", "log_theta", "zi_logits"])
def test_nan_shows(function, name):
    case = make(n_genes=40, layout="cell")
    case.parameters[name][0, 0] = math.nan
    assert case.value(function).isnan().tolist() == [True] + [False] * 5


@every
def test_nan_counts_show(function):
    case = make(n_genes=40)
    case.x[2, 3] = math.nan
    assert case.value(function).isnan().nonzero().flatten().tolist() == [2]


# behaviour --------------------------------------------------------------------------------------


def test_threads_do_not_change_a_bit():
    case = make(n_cells=100, n_genes=300)
    before, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            gradients = case.gradients(cpu.count_log_likelihood)
            results.append((case.value(cpu.count_log_likelihood), *gradients.values()))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("lead", [(), (2,)])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("function", [pytest.param(count_log_likelihood, id="numba"), CARD])
def test_logits_may_be_products(function, likelihood, lead):
    """Value and gradients, those of the factors too, are what float64 makes of the dense logits."""
    case = make(likelihood, lead=lead)
    heads = [n for n in ("logits", "zi_logits") if n in case.parameters]
    factors = {n: (torch.randn(*lead, 6, 5), torch.randn(700, 5), torch.randn(700)) for n in heads}

    def results(dtype):
        leaves = {n: [f.to(dtype, copy=True).requires_grad_() for f in factors[n]] for n in heads}
        which = function if dtype == torch.float32 else count_log_likelihood
        value = case.value(which, dtype, **{n: Product(*leaves[n]) for n in heads})
        weights = torch.linspace(0.5, 2.0, value.numel(), dtype=dtype).view(value.shape)
        (value * weights).sum().backward()
        return [value.detach(), *(leaf.grad for n in heads for leaf in leaves[n])]

    for found, exact in zip(results(torch.float32), results(torch.float64), strict=True):
        error = (found.double() - exact).abs().max() / exact.abs().max()
        assert error <= GRADIENT_ERROR


def test_a_frozen_factor_gets_no_gradient():
    case = make(n_cells=3, n_genes=20)
    h, weight = torch.randn(3, 4, requires_grad=True), torch.randn(20, 4)
    bias = torch.zeros(20, requires_grad=True)
    product = Product(h, weight, bias)
    count_log_likelihood(case.x, product, case.parameters["library"]).sum().backward()
    assert h.grad.abs().sum() > 0
    assert bias.grad.abs().sum() > 0
    assert weight.grad is None


def test_two_threads_may_call_at_once():
    from concurrent.futures import ThreadPoolExecutor

    case = make(n_cells=64, n_genes=300)
    expected = case.value(cpu.count_log_likelihood)
    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda _: case.value(cpu.count_log_likelihood), range(20)))
    assert all(torch.equal(v, expected) for v in values)


@fused
def test_only_wanted_gradients_are_computed(function):
    case = make(n_cells=3, n_genes=20)
    case.parameters["log_theta"].requires_grad_()
    case.value(function).sum().backward()
    assert case.parameters["log_theta"].grad.abs().sum() > 0
    assert case.parameters["logits"].grad is None
    with torch.inference_mode():
        assert not case.value(function).requires_grad


@fused
@pytest.mark.parametrize("product", [False, True])
def test_backward_twice_and_arguments_as_they_were(function, product):
    """Gradients may take the memory of logits only where the kernel made these itself."""
    case = make("zinb", n_cells=3, n_genes=20)
    heads = {n: case.parameters[n].requires_grad_() for n in ("logits", "zi_logits")}
    if product:
        heads = {n: Product(torch.eye(3), h.t(), torch.zeros(20)) for n, h in heads.items()}
    leaves = [case.parameters[n] for n in ("logits", "zi_logits")]
    before = [leaf.detach().clone() for leaf in leaves]
    value = case.value(function, torch.float32, **heads).sum()
    first = torch.autograd.grad(value, leaves, retain_graph=True)
    again = torch.autograd.grad(value, leaves)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, leaves, strict=True))


def test_dispatch_takes_the_fused_kernel_in_float32_and_the_reference_in_float64(monkeypatch):
    case = make(n_cells=2, n_genes=20)
    called = []
    real = reference.count_log_likelihood
    monkeypatch.setattr(
        reference, "count_log_likelihood", lambda *a, **k: called.append(1) or real(*a, **k)
    )
    case.value(count_log_likelihood)
    assert not called
    case.value(count_log_likelihood, torch.float64)
    assert called


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.triton
def test_cuda_is_reference(likelihood, scale, layout):
    assert_same_numbers(make(likelihood, scale, layout, lead=(2,), n_genes=1500), on_card)


@pytest.fixture
def dispatch_anew():
    """Nothing tried out before, nor after."""
    tried = (dispatch.fused_for, dispatch.loops_compile)
    for which in tried:
        which.cache_clear()
    yield
    for which in tried:
        which.cache_clear()


def test_cuda_goes_to_its_kernel(monkeypatch, dispatch_anew):
    fake = SimpleNamespace(count_log_likelihood=lambda *args, **kwargs: None)
    monkeypatch.setitem(sys.modules, "vivace.kernels.cuda", fake)
    monkeypatch.setattr(kernels, "cuda", fake, raising=False)
    monkeypatch.setattr(dispatch, "try_out", lambda function, *about: function)
    assert dispatch.fused_for("cuda", 2) is fake.count_log_likelihood


def test_cuda_without_triton_goes_to_the_reference(monkeypatch, dispatch_anew):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "vivace.kernels.cuda", raising=False)
    monkeypatch.delattr(kernels, "cuda", raising=False)
    with pytest.warns(VivaceWarning, match="triton"):
        assert dispatch.fused_for("cuda", 2) is None


def test_falls_back_with_one_warning(monkeypatch, dispatch_anew):
    def broken(*args, **kwargs):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(cpu, "count_log_likelihood", broken)
    case = make(n_cells=2, n_genes=20)
    with pytest.warns(VivaceWarning, match="no compiler"):
        value = case.value(count_log_likelihood)
    assert torch.equal(value, case.value(count_log_likelihood))  # and no second warning


def test_without_a_compiler_nothing_is_compiled_and_one_warning_says_so(monkeypatch, dispatch_anew):
    monkeypatch.setitem(sys.modules, "vivace.kernels.cpu", None)
    monkeypatch.delattr(kernels, "cpu", raising=False)
    case = make(n_cells=2, n_genes=20)
    with pytest.warns(VivaceWarning, match="vivace.kernels.cpu"):
        assert not dispatch.loops_compile()
    assert dispatch.fused_for("cpu", 1) is None
    assert case.value(count_log_likelihood).isfinite().all()


@pytest.mark.parametrize("n_parameters", [0, 1, 2])
def test_only_the_likelihood_that_is_wanted_is_tried_out(n_parameters, dispatch_anew):
    """Each is compiled for itself, which takes seconds where no kernel was kept."""
    seen = []
    dispatch.try_out(lambda *args: seen.append(args), "cpu", n_parameters)
    ((x, _, _, *parameters),) = seen
    assert x.layout == torch.sparse_csr
    assert len(parameters) == n_parameters


def test_a_cache_that_cannot_be_written(tmp_path):
    """Kernels work, uncached, where no folder can be written to."""
    script = (
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import vivace.kernels.jit as jit\n"
        "assert jit.compiled(lambda x: x + 1)(1) == 2\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, timeout=120)
