"""Products with stored matrices, block by block, against products with the expanded matrix."""

import pytest
import torch

from openk2.kernels import fp8, int4, stored
from openk2.kernels.stored import FloatMatrix, Fp8Matrix, Int4Matrix


def matrices(rows: int, columns: int):
    weight = torch.randn(rows, columns)
    return {
        "float32": FloatMatrix(weight),
        "bfloat16": FloatMatrix(weight.bfloat16()),
        "float16": FloatMatrix(weight.half()),
        "fp8": Fp8Matrix(*fp8.quantize(weight)),
        "int4": Int4Matrix(*int4.quantize(weight)),
    }


FORMS = list(matrices(1, 32))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(1, 32), (576, 160), (300, 4096), (5000, 256)])
def test_a_product_by_blocks_is_the_product(form, shape):
    torch.manual_seed(0)
    matrix = matrices(*shape)[form]
    assert matrix.shape == shape
    for tokens in ((1,), (7,), (2, 3)):
        x = torch.randn(*tokens, shape[1])
        expected = stored.linear_reference(x, matrix)
        scratch = stored.Scratch()
        for _ in range(2):  # the second time in a buffer that is not fresh
            assert torch.allclose(stored.linear(x, matrix, scratch), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_those_of_the_whole(form):
    matrix = matrices(300, 64)[form]
    whole = stored.dense(matrix)
    assert torch.equal(matrix.rows(128, 300, torch.float32), whole[128:])
    assert stored.dense(matrix, torch.bfloat16).dtype == torch.bfloat16


def test_parts_are_what_is_published():
    found = {form: set(matrix.parts) for form, matrix in matrices(64, 64).items()}
    assert found["bfloat16"] == {"weight"}
    assert found["fp8"] == {"weight", "weight_scale_inv"}
    assert found["int4"] == {"weight_packed", "weight_scale", "weight_shape"}


def test_a_scratch_that_grew_during_inference_can_be_used_outside():
    scratch = stored.Scratch()
    matrix = matrices(128, 64)["int4"]
    with torch.inference_mode():
        inside = stored.linear(torch.ones(1, 64), matrix, scratch)
    assert torch.equal(stored.linear(torch.ones(1, 64), matrix, scratch), inside)
