import pytest
import torch

from openk2.kernels.newton_schulz import newton_schulz, newton_schulz_reference
from openk2.kernels.precision import fast_matmul_dtype

SHAPES = [(8, 24), (24, 8), (16, 16), (1, 12), (12, 1)]


def stack(rows, columns, *, count=7, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, rows, columns, generator=generator, dtype=dtype)


def relative_error(got, expected):
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.mark.parametrize("rows,columns", SHAPES)
def test_batched_equals_one_matrix_at_a_time(rows, columns):
    g = stack(rows, columns)
    expected = torch.stack([newton_schulz_reference(matrix) for matrix in g])
    assert relative_error(newton_schulz(g, torch.float64), expected) < 1e-13


@pytest.mark.parametrize("rows,columns", SHAPES)
def test_float32_is_close_to_float64(rows, columns):
    g = stack(rows, columns, dtype=torch.float32)
    exact = newton_schulz(g.double(), torch.float64)
    assert relative_error(newton_schulz(g, torch.float32), exact) < 1e-5


@pytest.mark.parametrize("rows,columns", SHAPES)
def test_bfloat16_products_stay_near_the_exact_update(rows, columns):
    g = stack(rows, columns, dtype=torch.float32)
    update = newton_schulz(g, torch.bfloat16)
    assert update.dtype == torch.float32
    # 8 significant bits over 15 products of steep polynomials.
    assert relative_error(update, newton_schulz(g.double(), torch.float64)) < 0.05


@pytest.mark.parametrize("rows,columns", SHAPES)
def test_keeps_singular_vectors_and_moves_values_into_the_band(rows, columns):
    short = min(rows, columns)
    u, _, vh = torch.linalg.svd(stack(rows, columns, count=1)[0], full_matrices=False)
    values = torch.linspace(1.0, 0.05, short, dtype=torch.float64)
    update = newton_schulz(((u * values) @ vh)[None], torch.float64)[0]
    core = u.T @ update @ vh.T
    assert (core - core.diag().diag()).abs().max() < 1e-12
    assert core.diag().min() > 0.65
    assert core.diag().max() < 1.2


def test_chunks_change_nothing():
    g = stack(16, 40, count=13, dtype=torch.float32)
    whole = newton_schulz(g, torch.float32, chunk=13)
    for chunk in (1, 4, 12, 100, None):
        assert relative_error(newton_schulz(g, torch.float32, chunk=chunk), whole) < 1e-6


def test_scale_of_a_matrix_and_its_neighbours_do_not_matter():
    g = stack(8, 24)
    scaled = g * torch.tensor([1e-3, 1, 10, 1e4, 1, 1, 1], dtype=torch.float64)[:, None, None]
    # Not exactly equal: the epsilon of the norm is 7e-6 of the smallest matrix's.
    error = relative_error(newton_schulz(scaled, torch.float64), newton_schulz(g, torch.float64))
    assert error < 1e-5


def test_zero_matrix_stays_zero():
    assert newton_schulz(torch.zeros(2, 3, 5), torch.float32).count_nonzero() == 0


def test_input_is_left_alone_and_may_be_strided():
    g = stack(8, 24).mT
    before = g.clone()
    contiguous = newton_schulz(g.contiguous(), torch.float64)
    torch.testing.assert_close(newton_schulz(g, torch.float64), contiguous)
    assert torch.equal(g, before)


def test_cpu_products_are_bfloat16_exactly_where_the_processor_has_them():
    reported = torch.cpu.get_capabilities()
    native = reported.get("amx_bf16", False) or reported.get("avx512_bf16", False)
    assert fast_matmul_dtype("cpu") == (torch.bfloat16 if native else torch.float32)


@pytest.mark.gpu
def test_cuda_agrees_with_the_float64_reference():
    g = stack(96, 160, count=33, dtype=torch.float32)
    exact = newton_schulz(g.double(), torch.float64)
    update = newton_schulz(g.cuda(), fast_matmul_dtype("cuda")).cpu()
    assert relative_error(update, exact) < 0.05
