import numpy as np
import pytest
import torch

from openk2.model.transformer import TrainOutput
from openk2.text.packing import Document, Shard, write_shard
from openk2.text.template import render_training
from openk2.text.tokenizer import Tokenizer
from openk2.train.toolcall_eval import CallTokens, call_spans, evaluate_calls
from openk2.types import Message, ToolCall, ToolSpec

TOKENIZER = Tokenizer.from_ranks({bytes((b,)): b for b in range(256)}, 32)
CALLS = CallTokens.of(TOKENIZER)
WEATHER = ToolSpec("weather", "", {"type": "object", "properties": {"city": {"type": "string"}}})


def conversation(*cities, before="", context=False):
    """One user turn answered by a call for each city; the ids and the learn mask."""
    calls = tuple(
        ToolCall(f"c{i}", "weather", f'{{"city": "{city}"}}') for i, city in enumerate(cities)
    )
    messages = (Message("user", "Weather?"), Message("assistant", before, tool_calls=calls))
    ids, learn = render_training(messages, (WEATHER,), TOKENIZER)
    return ids, [False] * len(ids) if context else learn


def spans_of(ids, learn):
    return call_spans(np.asarray(ids), np.asarray(learn, dtype=np.uint8), CALLS)


def test_a_span_covers_the_decision_the_name_and_the_arguments():
    ids, learn = conversation("Rome", "Oslo", before="Let me look.")
    first, second = spans_of(ids, learn)

    def text(begin, end):
        return TOKENIZER.decode(ids[begin:end])

    assert text(first.begin, first.arguments) == (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
        "<|tool_call_argument_begin|>"
    )
    assert text(first.arguments, first.end) == '{"city": "Rome"}<|tool_call_end|>'
    assert text(second.begin, second.arguments) == (
        "<|tool_call_begin|>functions.weather:1<|tool_call_argument_begin|>"
    )
    assert text(second.arguments, second.end) == '{"city": "Oslo"}<|tool_call_end|>'


def test_context_and_truncated_calls_are_left_out():
    assert spans_of(*conversation("Rome", context=True)) == []
    ids, learn = conversation("Rome", "Oslo")
    cut = spans_of(ids, learn)[1].end - 1
    assert len(spans_of(ids[:cut], learn[:cut])) == 1
    assert spans_of([1, 2], [True, True]) == []


def oracle(documents, wrong=()):
    """A model that knows every next token, except at the given (document, position)."""
    size = TOKENIZER.vocab_size

    def forward(ids_BT, doc_BT):
        hidden = torch.zeros(*ids_BT.shape, size)
        for row, ids in enumerate(ids_BT.tolist()):
            number = next(
                n for n, known in enumerate(documents) if ids[: len(known)] == list(known)
            )
            for at in range(len(ids) - 1):
                mistaken = (number, at + 1) in wrong
                hidden[row, at, (ids[at + 1] + mistaken) % size] = 1.0
        return TrainOutput(hidden, torch.zeros(1, 1), torch.zeros(1, 1))

    return forward, torch.eye(size)


@pytest.fixture
def shards(tmp_path):
    packs = {
        "pairs": [conversation("Rome", "Oslo"), conversation("Lima", before="Yes.")],
        "single": [conversation("Paris, France")],
        "talk": [(TOKENIZER.encode("No calls here."), [True] * 14)],
    }
    for name, pack in packs.items():
        documents = [Document(ids, learn) for ids, learn in pack]
        write_shard(tmp_path / name, documents, TOKENIZER.vocab_size)
    known = [ids for pack in packs.values() for ids, _ in pack]
    return {name: Shard(tmp_path / name) for name in packs}, known


def test_a_model_that_knows_everything_is_right_everywhere(shards):
    opened, known = shards
    found = evaluate_calls(*oracle(known), opened, CALLS, 10)
    assert found == {
        "name_right": 1.0, "arguments_right": 1.0, "both_right": 1.0, "calls": 4,
        "name_right/pairs": 1.0, "arguments_right/pairs": 1.0, "both_right/pairs": 1.0,
        "calls/pairs": 3, "name_right/single": 1.0, "arguments_right/single": 1.0,
        "both_right/single": 1.0, "calls/single": 1,
    }  # fmt: skip


def test_one_wrong_token_makes_its_part_wrong_and_nothing_else(shards):
    opened, known = shards
    rome, oslo = spans_of(known[0], [True] * len(known[0]))
    (paris,) = spans_of(known[2], [True] * len(known[2]))
    wrong = {
        (0, rome.begin),  # does not decide to call
        (0, oslo.end - 1),  # does not end the arguments
        (2, paris.arguments - 1),
        (2, paris.arguments),
        (0, rome.begin - 1),  # outside every call: of no account
        (0, oslo.end),
    }
    found = evaluate_calls(*oracle(known, wrong), opened, CALLS, 10)
    assert found["name_right/pairs"] == pytest.approx(2 / 3)
    assert found["arguments_right/pairs"] == pytest.approx(2 / 3)
    assert found["both_right/pairs"] == pytest.approx(1 / 3)
    assert (found["name_right/single"], found["arguments_right/single"]) == (0, 0)
    assert found["name_right"] == found["arguments_right"] == 0.5
    assert found["both_right"] == 0.25


def test_the_number_of_documents_is_limited(shards):
    opened, known = shards
    found = evaluate_calls(*oracle(known), opened, CALLS, 1)
    assert found["calls/single"] == 1
    assert found["calls/pairs"] in (1, 2)


def test_no_calls_give_no_metrics(shards):
    opened, known = shards
    assert evaluate_calls(*oracle(known), {"talk": opened["talk"]}, CALLS, 10) == {}
