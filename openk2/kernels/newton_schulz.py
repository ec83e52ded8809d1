"""Newton-Schulz orthogonalisation, the heart of Muon.

In: matrices. Out: matrices with the same singular vectors and all singular values near 1. Knows
nothing of parameters, momentum or learning rates.

Shapes: S matrices in a stack, N rows, M columns.
"""

import torch
from torch import Tensor

STEPS = 5
"""More steps gained nothing in Moonlight (arXiv 2502.16982, section 2.2)."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Steepest at zero, so small singular values grow fastest; the price is that values end in a band
around 1, about [0.68, 1.13], and not at 1 (kellerjordan.github.io/posts/muon)."""
NORM_EPS = 1e-7

_WORKING_SET_BYTES = {"cpu": 4 << 20, "cuda": 1 << 30}
_DEFAULT_WORKING_SET_BYTES = 64 << 20


def newton_schulz_reference(g_NM: Tensor, steps: int = STEPS) -> Tensor:
    """Orthogonalise one matrix, written as in the paper, in the matrix's own dtype."""
    a, b, c = COEFFICIENTS
    x = g_NM.T if g_NM.shape[0] > g_NM.shape[1] else g_NM
    x = x / (x.norm() + NORM_EPS)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if g_NM.shape[0] > g_NM.shape[1] else x


def newton_schulz(
    g_SNM: Tensor,
    dtype: torch.dtype,
    *,
    steps: int = STEPS,
    chunk: int | None = None,
) -> Tensor:
    """Orthogonalise every matrix of a stack by itself.

    Args:
        g_SNM: The matrices, in float32 or wider: they are normalised before they are rounded.
        dtype: What the products run in; see `kernels.precision.fast_matmul_dtype`.
        steps: Iterations.
        chunk: Matrices at a time; None picks as many as fit the device's cache.

    Returns:
        A stack of the same shape and dtype as `g_SNM`.
    """
    out_SNM = torch.empty_like(g_SNM, memory_format=torch.contiguous_format)
    if chunk is None:
        chunk = matrices_at_once(g_SNM, dtype)
    for start in range(0, g_SNM.shape[0], chunk):
        part = slice(start, start + chunk)
        out_SNM[part] = _orthogonalise_chunk(g_SNM[part], dtype, steps)
    return out_SNM


def _orthogonalise_chunk(g_SNM: Tensor, dtype: torch.dtype, steps: int) -> Tensor:
    a, b, c = COEFFICIENTS
    tall = g_SNM.shape[1] > g_SNM.shape[2]
    norm_S11 = torch.linalg.vector_norm(g_SNM, dim=(1, 2), keepdim=True)
    x = (g_SNM / (norm_S11 + NORM_EPS)).to(dtype)
    if tall:  # the Gram matrix is then on the shorter side
        x = x.mT.contiguous()
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        poly = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, poly, x, beta=a)
    return x.mT if tall else x


def matrices_at_once(g_SNM: Tensor, dtype: torch.dtype) -> int:
    """Return how many matrices of a stack fit the device's cache with all that they need."""
    _, rows, columns = g_SNM.shape
    short = min(rows, columns)
    elements = 2 * rows * columns + 2 * short * short  # x and its successor, gram and poly
    budget = _WORKING_SET_BYTES.get(g_SNM.device.type, _DEFAULT_WORKING_SET_BYTES)
    return max(1, budget // (elements * dtype.itemsize))
