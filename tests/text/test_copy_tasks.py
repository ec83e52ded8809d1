import json
import re
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.text.conversations import as_json, problem
from openk2.text.copy_documents import copy_document, copy_documents
from openk2.text.copy_tasks import copy_conversation, copy_conversations
from openk2.text.copy_values import VALUES, load_word_bank
from openk2.text.packs import WORD_BANK_FILES

DATA = Path(__file__).parents[2] / "data"
# Read once for the hypothesis tests too, which may not use fixtures of a narrower scope.
BANK = load_word_bank(DATA)
PYTHON_TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
}
seeds = st.integers(0, 2**32)


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@given(seeds)
def test_every_value_of_a_call_was_said_before_it(seed):
    conversation = copy_conversation(Random(seed), BANK)
    said = ""
    for message in conversation.messages:
        if message.role == "user":
            said += message.content + "\n"
        for call in message.tool_calls:
            for value in json.loads(call.arguments).values():
                assert all(text in said for text in strings(value)), (value, said)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    assert str(value) in said


@given(seeds)
def test_conversations_are_sound_and_typed(seed):
    conversation = copy_conversation(Random(seed), BANK)
    assert problem(conversation) is None
    assert 1 <= len(conversation.tools) <= 5
    tools = {tool.name: tool.parameters["properties"] for tool in conversation.tools}
    for call in (call for m in conversation.messages for call in m.tool_calls):
        arguments = json.loads(call.arguments)
        assert call.arguments == as_json(arguments)
        for name, value in arguments.items():
            schema = tools[call.name][name]
            assert isinstance(value, PYTHON_TYPES[schema["type"]])
            assert value in schema.get("enum", [value])


@given(seeds)
def test_a_reply_only_tells_what_the_result_holds(seed):
    messages = copy_conversation(Random(seed), BANK).messages
    for tool, reply in pairwise(messages):
        if tool.role == "tool" and reply.role == "assistant":
            values = list(strings_of(json.loads(tool.content)))
            assert any(value in reply.content for value in values)


def strings_of(value):
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings_of(item)
    else:
        yield str(value)


def test_all_shapes_and_both_languages_occur():
    seen = Counter()
    for conversation in islice(copy_conversations(BANK, 0), 1500):
        calls = [len(m.tool_calls) for m in conversation.messages if m.tool_calls]
        text = "".join(m.content for m in conversation.messages if m.role == "user")
        seen["no call"] += not calls
        seen["parallel"] += 2 in calls
        seen["again"] += len(calls) == 2
        seen["result"] += any(m.role == "tool" for m in conversation.messages)
        seen["asked back"] += conversation.messages[1].role == "assistant" and bool(
            calls and not conversation.messages[1].tool_calls
        )
        kinds = [_kinds(tool) for tool in conversation.tools]
        seen["alike"] += any(len(found) > 1 and len(set(found)) == 1 for found in kinds)
        seen["zh"] += any("\u4e00" <= c <= "\u9fff" for c in text)
    assert all(count > 50 for count in seen.values()), seen
    assert 300 < seen["zh"] < 600


def _kinds(tool):
    return [schema["type"] for schema in tool.parameters["properties"].values()]


def test_values_without_labels_come_in_the_order_of_the_declaration():
    seen = 0
    for conversation in islice(copy_conversations(BANK, 3, short=True), 600):
        for said, answer in pairwise(conversation.messages):
            if said.role != "user" or len(answer.tool_calls) != 1:
                continue
            arguments = json.loads(answer.tool_calls[0].arguments)
            in_order = f"{', '.join(map(str, [*arguments.values()][:-1]))} and "
            if len(arguments) > 1 and in_order + str([*arguments.values()][-1]) in said.content:
                declared = {t.name: t for t in conversation.tools}[answer.tool_calls[0].name]
                seen += not any(
                    re.search(rf"\b{re.escape(name)}\b", said.content)
                    for name in declared.parameters["properties"]
                )
    assert seen > 10


def test_the_same_seed_gives_the_same_and_another_gives_others():
    one = list(islice(copy_conversations(BANK, 7), 30))
    assert one == list(islice(copy_conversations(BANK, 7), 30))
    other = list(islice(copy_conversations(BANK, 8), 30))
    assert {c.key for c in one}.isdisjoint(c.key for c in other)
    assert one[0].messages != other[0].messages
    texts = list(islice(copy_documents(BANK, 7), 30))
    assert texts == list(islice(copy_documents(BANK, 7), 30))
    assert len(set(texts)) == 30


def test_unseen_words_are_never_drawn_in_training():
    unseen = load_word_bank(DATA, unseen=True)
    for part in ("words", "phrases", "zh_phrases"):
        kept, left = set(getattr(BANK, part)), set(getattr(unseen, part))
        assert kept.isdisjoint(left)
        assert 0.03 < len(left) / (len(left) + len(kept)) < 0.07
    assert len(BANK.words) > 30_000
    assert list(islice(copy_conversations(unseen, 0), 20))


def test_the_word_bank_is_read_from_the_files_it_names(tmp_path):
    for name in WORD_BANK_FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(DATA / name)
    assert load_word_bank(tmp_path) == BANK


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("kind", sorted(VALUES))
def test_values_are_stated_as_they_are_written(kind, lang):
    for seed in range(50):
        stated = VALUES[kind](Random(seed), BANK, lang)
        items = stated.value if isinstance(stated.value, list) else [stated.value]
        assert all(str(item) in stated.text for item in items)
        assert stated.text == stated.text.strip()


@given(seeds)
def test_documents_say_things_twice(seed):
    text = copy_document(Random(seed), BANK)
    record = [line for line in text.split("\n") if line.startswith("{")]
    if not record:
        assert re.search(r"(.{3,}).*\1", text, re.DOTALL)
        return
    told = text.replace(record[0], "")
    for value in json.loads(record[0]).values():
        assert all(item in told for item in strings_of(value))
