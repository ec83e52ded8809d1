from __future__ import annotations

import pytest
import torch

from bench.needle import (
    KEYS,
    LAYER,
    QUESTION,
    VALUES,
    haystack,
    margin_needed,
    needle_id,
    needle_model,
)

LONGEST = 262_144


@pytest.fixture(scope="module")
def model():
    return needle_model(LONGEST)


def answered(model, prompt, tokens):
    """Decode greedily without a cache."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(tokens):
            hidden_BTD = model(torch.tensor([ids])).hidden_BTD
            ids.append(int(model.logits(hidden_BTD[:, -1]).argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("length", [64, 512])
def test_the_chain_of_needles_is_found(model, length):
    hay = haystack(length, model.config.vocab_size, seed=length)
    assert answered(model, hay.prompt, KEYS) == hay.answer


@pytest.mark.slow
def test_one_needle_is_found_at_4k(model):
    hay = haystack(4096, model.config.vocab_size, seed=1)
    assert answered(model, hay.prompt, 1) == hay.answer[:1]


def test_the_margin_is_enough_for_the_longest_context(model):
    hay = haystack(512, model.config.vocab_size, seed=2)
    chance = [QUESTION + 1 if id_ == hay.answer[0] else id_ for id_ in hay.prompt]
    with torch.inference_mode():
        found, other = (
            largest_score_of_the_question(model, prompt) for prompt in (hay.prompt, chance)
        )
    assert found - other > margin_needed(LONGEST)


def largest_score_of_the_question(model, prompt):
    """Head 0's largest softmax input at the prompt's last token."""
    attention = model.layers[LAYER].self_attn
    seen = []
    handle = attention.register_forward_hook(lambda _, given, __: seen.append(given))
    model(torch.tensor([prompt]))
    handle.remove()
    x_BTD, cos_BTP, sin_BTP = seen[0][:3]
    nope_BTHn, rope_BTHr = attention._queries(x_BTD, cos_BTP, sin_BTP)
    latent_BTC, key_BTr = attention._latents(x_BTD, cos_BTP, sin_BTP)
    n = model.config.qk_nope_head_dim
    k_nC = attention.kv_b_proj.weight[:n]
    score_T = latent_BTC[0] @ (nope_BTHn[0, -1, 0] @ k_nC) + key_BTr[0] @ rope_BTHr[0, -1, 0]
    return float(score_T.max() * model.config.softmax_scale)


def test_the_model_without_the_needle_does_not_name_it(model):
    hay = haystack(512, model.config.vocab_size, seed=3)
    missing = [id_ for id_ in hay.prompt if id_ != hay.answer[0]]
    assert answered(model, missing, 1) != hay.answer[:1]


def test_haystacks_hold_each_key_once_and_reach_both_ends():
    hay = haystack(512, 8192, seed=4)
    needles = [id_ for id_ in hay.prompt if id_ < QUESTION]
    assert sorted(id_ // VALUES for id_ in needles) == list(range(KEYS))
    assert sorted(hay.answer) == sorted(needles)
    assert hay.prompt[0] < QUESTION and hay.prompt[-2] < QUESTION and hay.prompt[-1] == QUESTION
    assert needle_id(KEYS - 1, VALUES - 1) == QUESTION - 1
