"""Conversations from files of one's own."""

import json

import pytest
import zstandard

from openk2.text.corpus import DamagedPackError
from openk2.text.recorded import BadRowError, recorded_conversations

CALL = {"id": "c1", "name": "find", "arguments": '{"q": "x"}'}
ROW = {
    "tools": [{"name": "find", "description": "Find it", "parameters": {"type": "object"}}],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Find x"},
        {"role": "assistant", "content": "", "reasoning": "Hm.", "tool_calls": [CALL]},
        {"role": "tool", "content": "found", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Here it is."},
        {"role": "user", "content": "Thanks, bye"},
    ],
    "key": "task-7",
    "reward": 1.0,
}


def write(path, *rows):
    text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    zipped = path.suffix == ".zst"
    path.write_bytes(
        zstandard.ZstdCompressor().compress(text.encode()) if zipped else text.encode()
    )
    return path


def with_message(index, **changes):
    messages = [dict(m) for m in ROW["messages"]]
    messages[index] |= changes
    return {**ROW, "messages": messages}


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.zst"])
def test_a_row_becomes_the_conversation_it_holds(tmp_path, ending):
    plain = {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    }
    one, two = recorded_conversations(write(tmp_path / f"t.{ending}", ROW, plain))
    assert [m.role for m in one.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert one.messages[2].reasoning == "Hm."
    assert one.messages[2].tool_calls[0].arguments == '{"q": "x"}'
    assert (one.key, one.tools[0].description) == ("task-7", "Find it")
    assert (len(two.messages), two.tools) == (2, ())
    assert len(two.key) == 64, "a row without a key is one by itself"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"tools": []}, "no assistant turn answers a user"),
        ({"messages": {}}, "`messages` of the row is not a list"),
        ({"messages": ["hello"]}, r"messages\[0\] is not an object"),
        (with_message(1, role="human"), r"messages\[1\].role is 'human', not one of system"),
        (with_message(1, content=3), r"`content` of messages\[1\] is not a text"),
        (with_message(3, tool_call_id="c2"), "'c2' answers no open tool call"),
        (with_message(2, tool_calls=[{**CALL, "arguments": "x"}]), "not the text of a JSON object"),
        (
            with_message(2, tool_calls=[{**CALL, "arguments": "[]"}]),
            "not the text of a JSON object",
        ),
        (
            with_message(2, tool_calls=[{**CALL, "name": "seek"}]),
            "'seek' is called but not declared",
        ),
        (
            with_message(2, tool_calls=[{"name": "find"}]),
            r"`id` of messages\[2\].tool_calls\[0\] is",
        ),
        ({**ROW, "tools": [{"description": "x"}]}, r"`name` of tools\[0\] is missing"),
        ({**ROW, "tools": ROW["tools"] * 2}, "two tools have one name"),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, problem):
    path = write(tmp_path / "t.jsonl", ROW, row)
    with pytest.raises(BadRowError, match=rf"t.jsonl:2: .*{problem}"):
        list(recorded_conversations(path))


def test_a_line_that_is_not_json_is_named(tmp_path):
    with pytest.raises(DamagedPackError, match=r"t\.jsonl:2: is not JSON"):
        list(recorded_conversations(write(tmp_path / "t.jsonl", ROW, "{")))
