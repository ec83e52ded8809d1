from __future__ import annotations

import pytest
import torch

from bench import depths
from bench.needle import (
    KEYS,
    QUESTION,
    SHAPES,
    VALUES,
    document,
    haystack,
    lookup_layer,
    margin_needed,
    needle_id,
    needle_model,
)
from openk2.engine.engine import Engine
from openk2.model import weights

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
    attention = model.layers[lookup_layer(model.config)].self_attn
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


def test_after_every_length_of_a_document_there_are_needles_from_its_first_token_to_its_last():
    lengths = (960, 4032, 16320)
    text = document(lengths, 8192, seed=5)
    assert sorted(text.needles) == sorted(id_ for id_ in text.ids if id_ < QUESTION)
    assert [text.ids[place] for place in text.places] == text.needles
    before = []
    for length in lengths:
        present = text.present(length)
        depths = [text.places[key] for key in present]
        assert depths == sorted(depths) and depths[0] == 0 and depths[-1] == length - 1
        assert present[: len(before)] == before and len(present) >= len(before) + 2
        before = present
    assert len(before) == KEYS


def test_what_a_document_answers_ends_where_a_needle_is_missing():
    text = document((100, 200), 8192, seed=6)
    for length in (100, 200):
        present = set(text.present(length))
        for key in range(KEYS):
            chain = text.answer(key, length)
            assert chain == text.needles[key : key + len(chain)]
            assert present.issuperset(range(key, key + len(chain)))
            assert key + len(chain) not in present


@pytest.mark.parametrize("shape", SHAPES)
def test_a_document_is_read_once_and_every_needle_in_it_is_found(tmp_path, shape):
    weights.save(needle_model(LONGEST, shape), tmp_path, torch.bfloat16)
    for row, read in zip(depths.read(tmp_path, (512, 1024)), (449, 513), strict=True):
        assert row["needles_found"] == row["needles_asked"] > 5
        assert row["read_tokens"] == read
        assert row["tokens_read_for_another_question"] == 1


def test_a_model_that_is_asked_for_a_needle_it_has_not_read_is_caught(tmp_path):
    weights.save(needle_model(1024, "thin"), tmp_path, torch.bfloat16)
    text = document((448, 960), 8192, seed=7)
    text.needles[text.present(448)[-1]] += 1
    runner = depths._runner(tmp_path)
    engine = Engine(runner, max_batch=1, max_len=1024, stop_ids=frozenset())
    with pytest.raises(RuntimeError, match="after 448"):
        depths.asked(engine, text, 448)


def test_a_filled_cache_is_measured_at_every_length(tmp_path):
    weights.save(needle_model(4096, "thin"), tmp_path, torch.bfloat16)
    rows = list(depths.filled(tmp_path, (1024, 4096)))
    assert [row["length"] for row in rows] == [1024, 4096]
    for row in rows:
        assert row["cache_bytes_per_token"] == 2 * 4 * 80
        assert row["read_tokens_per_cpu_s_here"] > 0 and row["decode_tokens_per_cpu_s"] > 0
