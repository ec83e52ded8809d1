import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openk2.train.balance import bias_update, load_metrics, update_biases

loads = st.lists(st.integers(0, 10**9), min_size=2, max_size=64)


@given(loads)
def test_update_sums_to_zero_and_ranks_experts_by_load(load):
    delta = bias_update(torch.tensor([load]), 1e-3)[0]
    assert abs(delta.sum().item()) < 1e-6
    mean = sum(load) / len(load)
    over = [d for d, n in zip(delta.tolist(), load, strict=True) if n > mean]
    under = [d for d, n in zip(delta.tolist(), load, strict=True) if n < mean]
    assert len(set(over)) <= 1 and len(set(under)) <= 1
    if over:
        assert over[0] < 0 < under[0]
        assert under[0] - over[0] == pytest.approx(2e-3, rel=1e-4)


def test_formula_by_hand():
    # mean 4: signs of e are -1, +1, +1, 0, mean sign 1/4
    delta = bias_update(torch.tensor([[9, 1, 2, 4]]), 1.0)
    assert delta.tolist() == [[-1.25, 0.75, 0.75, -0.25]]


def test_each_layer_moves_by_its_own_load_in_place():
    biases = [torch.zeros(2), torch.full((2,), 0.5), torch.zeros(2)]
    update_biases(biases, torch.tensor([[3, 1], [1, 3], [0, 0]]), rate=0.1)
    expected = [[-0.1, 0.1], [0.6, 0.4], [0.0, 0.0]]
    torch.testing.assert_close(torch.stack(biases), torch.tensor(expected))


def test_rate_zero_freezes():
    bias = torch.tensor([0.3, -0.3])
    update_biases([bias], torch.tensor([[100, 0]]), rate=0.0)
    assert bias.tolist() == pytest.approx([0.3, -0.3])


def test_a_layer_without_load_row_is_an_error():
    with pytest.raises(ValueError):
        update_biases([torch.zeros(2), torch.zeros(2)], torch.tensor([[1, 1]]))


def test_repeated_updates_even_out_a_skewed_router():
    generator = torch.Generator().manual_seed(0)
    scores = (torch.randn(2000, 8, generator=generator) + torch.linspace(-1, 1, 8)).sigmoid()
    bias = torch.zeros(8)

    def load():
        chosen = (scores + bias).topk(2).indices
        return torch.bincount(chosen.flatten(), minlength=8)[None]

    before = load_metrics(load())
    for _ in range(600):
        update_biases([bias], load(), rate=1e-3)
    assert before.max_over_mean > 1.8
    assert load_metrics(load()).max_over_mean < 1.1
    assert bias.sum().abs() < 1e-4


def test_metrics_by_hand():
    metrics = load_metrics(torch.tensor([[4, 0, 0, 0], [1, 1, 1, 1]]))
    assert (metrics.max_over_mean, metrics.worst_max_over_mean) == (2.5, 4.0)
    assert metrics.dead_experts == 3


def test_metrics_of_an_empty_step_are_finite():
    metrics = load_metrics(torch.zeros(2, 4, dtype=torch.long))
    assert metrics.max_over_mean == 0.0
    assert metrics.dead_experts == 8
