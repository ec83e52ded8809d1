import json
import re
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.text.arithmetic import arithmetic_conversations
from openk2.text.conversations import (
    Conversation,
    as_json,
    in_declared_order,
    problem,
    trimmed,
    windows,
)
from openk2.text.corpus import held_out, normalised, read_rows
from openk2.text.packs import HELD_OUT_PACKS, PACK_FILES, TRAINING_PACKS, conversations
from openk2.text.sgd_variants import VARIANTS, renamed, schema_variants
from openk2.types import Message, ToolCall, ToolSpec, validate_history

DATA = Path(__file__).parents[2] / "data"
ALL_PACKS = (*TRAINING_PACKS, *HELD_OUT_PACKS)
WITH_TOOLS = {"sgd_train", "sgd_dev", "sgd_test", "tm4", "crosswoz", "sealtools", "nlu_calls",
              "nlu_calls_test", "metatool"}  # fmt: skip


@pytest.fixture(scope="module")
def first_rows():
    return {pack: list(islice(conversations(DATA, pack), 50)) for pack in ALL_PACKS}


@pytest.mark.parametrize("pack", ALL_PACKS)
def test_conversations_are_valid_and_named(first_rows, pack):
    found = first_rows[pack]
    assert len(found) == 50
    for conversation in found:
        validate_history(conversation.messages)
        assert conversation.messages[-1].role == "assistant"
        assert conversation.source == pack
        assert conversation.key
        assert next(m.role for m in conversation.messages if m.role != "system") == "user"


@pytest.mark.parametrize("pack", ALL_PACKS)
def test_arguments_satisfy_their_declared_schema(first_rows, pack):
    calls = 0
    for conversation in first_rows[pack]:
        tools = {tool.name: tool.parameters for tool in conversation.tools}
        for call in (call for m in conversation.messages for call in m.tool_calls):
            calls += 1
            arguments = json.loads(call.arguments)
            assert set(tools[call.name].get("required", ())) <= set(arguments)
            assert set(arguments) <= set(tools[call.name]["properties"])
            assert call.arguments == as_json(arguments)
    assert (calls > 0) == (pack in WITH_TOOLS | {"glaive"})


@pytest.mark.parametrize("pack", ALL_PACKS)
def test_a_pack_is_read_from_the_files_it_names(tmp_path, first_rows, pack):
    for name in PACK_FILES[pack]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(DATA / name)
    assert next(conversations(tmp_path, pack)) == first_rows[pack][0]


def test_an_unknown_pack_is_an_error():
    with pytest.raises(KeyError):
        list(conversations(DATA, "sgd"))


def test_the_same_pack_gives_the_same_conversations():
    for pack in ("nlu_calls", "metatool", "sgd_dev"):
        one = list(islice(conversations(DATA, pack), 20))
        assert one == list(islice(conversations(DATA, pack), 20))


def test_held_out_utterances_are_never_trained_on():
    trained = {normalised(r["query"]) for r in rows("instruct/nlu_function_calls_train.jsonl.zst")}
    found = list(conversations(DATA, "nlu_calls_test"))
    assert len(found) == 1480
    assert trained.isdisjoint(normalised(c.messages[0].content) for c in found)


@pytest.mark.slow
def test_held_out_dialogues_are_never_trained_on():
    trained = {
        first_words(row)
        for part in ("train", "dev")
        for row in read_rows(DATA / "instruct" / f"sgd_tooluse_{part}.jsonl.zst")
    }
    assert trained.isdisjoint(first_words(r) for r in rows("eval/sgd_test_dialogues.jsonl.zst"))


def first_words(row):
    return tuple(m["content"] for m in row["messages"] if m["role"] == "user")


def rows(name):
    return list(read_rows(DATA / name))


def test_a_split_keeps_a_story_together(first_rows):
    keys = {c.key for c in first_rows["fairytaleqa"]}
    assert len(keys) < len(first_rows["fairytaleqa"])
    kept = [c for c in first_rows["fairytaleqa"] if not held_out(c.key, 0.5)]
    measured = [c for c in first_rows["fairytaleqa"] if held_out(c.key, 0.5)]
    assert {c.key for c in kept}.isdisjoint(c.key for c in measured)


@pytest.mark.parametrize("pack", ["sgd_train", "sgd_dev", "sgd_test"])
def test_every_sgd_dialogue_says_which_day_it_is(first_rows, pack):
    assert {c.messages[0] for c in first_rows[pack]} == {
        Message("system", "Today is Friday, 2019-03-01.")
    }


def test_withheld_tools_are_declined(first_rows):
    found = list(islice(conversations(DATA, "nlu_calls"), 1000))
    declined = [c for c in found if not c.messages[-1].tool_calls]
    assert 0.05 < len(declined) / len(found) < 0.15
    assert all(3 <= len(c.tools) <= 6 for c in found if c.messages[-1].tool_calls)


def test_sgd_paraphrases_rename_calls_and_results():
    row = {
        "services": ["Weather_1"],
        "tools": [{"name": "GetWeather", "description": "", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}],
        "messages": [
            {"role": "user", "content": "weather in Oslo?"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "c1", "name": "GetWeather", "arguments": {"city": "Oslo"}}]},
            {"role": "tool", "id": "c1", "content": {"count": 1, "results": [{"city": "Oslo"}]}},
        ],
    }  # fmt: skip
    variants = schema_variants(DATA / "tools" / "sgd_schemas_and_sgdx.jsonl.zst")
    names = set()
    for variant in VARIANTS:
        changed = renamed(row, variants, variant)
        (call,) = changed["messages"][1]["tool_calls"]
        (slot,) = call["arguments"]
        assert call["name"] == changed["tools"][0]["name"]
        assert changed["tools"][0]["parameters"]["required"] == [slot]
        assert changed["messages"][2]["content"]["results"] == [{slot: "Oslo"}]
        names.add(call["name"])
    assert len(names) > 2
    assert renamed(row, variants, "v0") == row
    assert row["tools"][0]["name"] == "GetWeather"


def test_sealtools_values_have_their_declared_type():
    checked = 0
    for conversation in conversations(DATA, "sealtools"):
        tools = {tool.name: tool.parameters["properties"] for tool in conversation.tools}
        for call in conversation.messages[-1].tool_calls:
            for name, value in json.loads(call.arguments).items():
                if tools[call.name][name]["type"] == "integer" and isinstance(value, str):
                    assert not value.isdigit()
                    checked += 1
                checked += isinstance(value, int)
    assert checked > 100


def test_problems_are_found():
    tool = ToolSpec("f", "", {"type": "object", "properties": {"a": {}}, "required": ["a"]})
    user = Message("user", "go")

    def said(arguments, name="f"):
        return Message("assistant", tool_calls=(ToolCall("c1", name, arguments),))

    assert problem(Conversation((user, said('{"a": 1}')), (tool,))) is None
    assert "missing" in (problem(Conversation((user, said("{}")), (tool,))) or "")
    assert "undeclared" in (problem(Conversation((user, said('{"a": 1, "b": 2}')), (tool,))) or "")
    assert "not declared" in (problem(Conversation((user, said("{}", "g")), (tool,))) or "")
    assert "not an object" in (problem(Conversation((user, said("[]")), (tool,))) or "")
    assert "end with" in (problem(Conversation((user,), (tool,))) or "")
    assert "two tools" in (problem(Conversation((user, said('{"a": 1}')), (tool, tool))) or "")


def test_trimming_keeps_system_and_ends_after_the_assistant():
    system, user, assistant = (Message(r, "x") for r in ("system", "user", "assistant"))
    assert trimmed([system, assistant, user, assistant, user]) == (system, user, assistant)
    assert trimmed([user]) == ()


def test_sums_are_right():
    for conversation in islice(arithmetic_conversations(1), 300):
        assert problem(conversation) is None
        turns = iter(conversation.messages)
        for asked, answered in zip(turns, turns, strict=True):
            one, sign, two = re.findall(r"[0-9]+|[-+*]", asked.content)
            right = {"+": int(one) + int(two), "-": int(one) - int(two), "*": int(one) * int(two)}
            assert re.findall(r"-?[0-9]+", answered.content)[-1] == str(right[sign])


def test_held_out_sums_are_never_trained_on():
    def sums(unseen):
        texts = [m.content for c in islice(arithmetic_conversations(1, unseen=unseen), 1000)
                 for m in c.messages if m.role == "user"]  # fmt: skip
        return {tuple(sorted(re.findall(r"[0-9]+|[-+*]", text))) for text in texts}

    kept, held = sums(False), sums(True)
    assert kept.isdisjoint(held)
    assert len(held) > 50


def count_tokens(messages, tools):
    # The template adds a constant, each message its length and each tool its own.
    return 5 + sum(3 + len(m.content) + 4 * len(m.tool_calls) for m in messages) + 7 * len(tools)


@st.composite
def dialogues(draw):
    messages = [Message("system", "s")] if draw(st.booleans()) else []
    number = 0
    for _ in range(draw(st.integers(1, 8))):
        messages.append(Message("user", f"{len(messages)} " + "u" * draw(st.integers(1, 20))))
        for _ in range(draw(st.integers(0, 2))):
            ids = [f"c{number + i}" for i in range(draw(st.integers(1, 2)))]
            number += len(ids)
            messages.append(
                Message("assistant", tool_calls=tuple(ToolCall(i, "f", "{}") for i in ids))
            )
            messages += [
                Message("tool", "r" * draw(st.integers(0, 9)), tool_call_id=i) for i in ids
            ]
        messages.append(Message("assistant", "a" * draw(st.integers(1, 20))))
    return Conversation(tuple(messages), (ToolSpec("f"),), "made", "key")


@given(dialogues(), st.integers(20, 200))
def test_windows_fit_keep_tools_and_train_every_turn_once(conversation, max_tokens):
    pieces = list(windows(conversation, count_tokens, max_tokens))
    trained = []
    for piece in pieces:
        assert count_tokens(piece.messages, piece.tools) <= max_tokens
        assert problem(piece) is None
        assert piece.tools == conversation.tools
        assert (piece.source, piece.key) == ("made", "key")
        assert [m for m in piece.messages if m.role == "system"] == [
            m for m in conversation.messages if m.role == "system"
        ]
        trained += [m for m in piece.messages[piece.context_messages :] if m.role != "system"]
        assert trained[-1].role == "assistant"
    expected = []
    turns = [m for m in conversation.messages if m.role != "system"]
    head = [m for m in conversation.messages if m.role == "system"]
    starts = [i for i, turn in enumerate(turns) if turn.role == "user"]
    for start, end in pairwise([*starts, len(turns)]):
        ends = [i + 1 for i in range(start, end) if turns[i].role == "assistant"]
        length = {i: count_tokens([*head, *turns[start:i]], conversation.tools) for i in ends}
        longest = max((i for i in ends if length[i] <= max_tokens), default=start)
        expected += turns[start:longest]
    assert trained == expected


def test_a_later_window_starts_with_context():
    turns = [Message(r, f"{i} {r}") for i in range(6) for r in ("user", "assistant")]
    conversation = Conversation(tuple(turns))
    first, *others = windows(conversation, count_tokens, 80)
    assert first.context_messages == 0
    assert others
    assert all(piece.context_messages > 0 for piece in others)


@given(st.permutations(["from", "to", "date", "seats"]), st.sets(st.sampled_from("abcd")))
def test_arguments_come_in_declared_order_and_none_is_lost(written, undeclared):
    declared = {"type": "object", "properties": {k: {} for k in ("date", "from", "seats", "to")}}
    arguments = {key: f"value of {key}" for key in [*written, *sorted(undeclared)]}
    calls = (ToolCall("c1", "book", as_json(arguments)),)
    messages = (Message("user", "Book."), Message("assistant", tool_calls=calls))
    ordered = in_declared_order(Conversation(messages, (ToolSpec("book", "", declared),)))
    (call,) = ordered.messages[1].tool_calls
    assert json.loads(call.arguments) == arguments
    assert list(json.loads(call.arguments)) == ["date", "from", "seats", "to", *sorted(undeclared)]
    assert in_declared_order(ordered) == ordered
