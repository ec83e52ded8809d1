"""Conversations of the Messages dialect: turns and blocks in, messages out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.types import Message, ToolCall, validate_history
from tests.server.dialects.messages_bodies import (
    BILLING,
    OURS,
    assistant,
    decode,
    result,
    signer,
    system,
    talk,
    text,
    thinking,
    use,
    user,
)


def messages(*turns: object, **fields: Any) -> tuple[Message, ...]:
    request = decode(talk(*turns) | fields)
    assert not request.partial
    return request.messages


def test_a_system_prompt_is_text_or_blocks():
    expected = (Message("system", "Be brief.\n\nBe kind."), Message("user", "hi"))
    assert messages(user("hi"), system="Be brief.\n\nBe kind.") == expected
    assert messages(user("hi"), system=[text("Be brief."), text("Be kind.")]) == expected
    assert messages(user("hi"), system=[]) == messages(user("hi"), system="") == expected[1:]


@pytest.mark.parametrize(
    "prompt",
    [
        [text(BILLING), text("Be brief.")],
        [text(f"{BILLING} cch=5e1f;"), text("Be brief.")],
        [text("Be brief."), text(f"\n{BILLING}\n", cache_control={"type": "ephemeral"})],
        f"{BILLING}\nBe brief.",
    ],
)
def test_the_billing_header_never_reaches_the_model(prompt):
    expected = (Message("system", "Be brief."), Message("user", "hi"))
    assert messages(user("hi"), system=prompt) == expected


def test_a_billing_header_alone_is_no_system_prompt():
    assert messages(user("hi"), system=[text(BILLING)]) == (Message("user", "hi"),)


def test_cache_marks_change_nothing():
    mark = {"cache_control": {"type": "ephemeral", "ttl": "5m"}}
    plain = messages(user("hi"), assistant(use()), user(result()), system="s")
    marked = messages(
        user(text("hi", **mark)),
        assistant(use() | mark),
        user(result(content=[text("done", **mark)], **mark)),
        system=[text("s", **mark)],
    )
    assert plain == marked


def test_turns_in_a_row_by_the_same_speaker_are_one():
    told = messages(
        user("a"), user(text("b"), text("c")), assistant("d"), assistant("e"), user("f")
    )
    assert told == (
        Message("user", "a\n\nb\n\nc"),
        Message("assistant", "de"),
        Message("user", "f"),
    )


def test_calls_of_turns_in_a_row_are_those_of_one_turn():
    told = messages(
        user("hi"), assistant(use("a")), assistant(use("b")), user(result("b")), user(result("a"))
    )
    assert [message.role for message in told] == ["user", "assistant", "tool", "tool"]
    assert [call.id for call in told[1].tool_calls] == ["a", "b"]


def test_system_turns_stay_in_their_places():
    told = messages(user("a"), system("s"), user("b"), assistant("c"), system(text("t")), user("d"))
    assert [message.role for message in told] == [
        "user", "system", "user", "assistant", "system", "user",
    ]  # fmt: skip


def test_a_system_turn_between_a_call_and_its_result_comes_after_the_result():
    told = messages(user("a"), assistant(use()), system("s"), user(result(), text("b")))
    assert [message.role for message in told] == ["user", "assistant", "tool", "system", "user"]
    validate_history(told)


def test_a_tool_conversation_becomes_our_nouns():
    told = messages(
        user("Find K2."),
        assistant(text("Let me "), text("look."), use("toolu_1", q="K2 模型", n=2), use("toolu_2")),
        user(result("toolu_1", "found"), result("toolu_2", [text("x"), text("y")]), text("And?")),
    )
    assert told == (
        Message("user", "Find K2."),
        Message(
            "assistant",
            "Let me look.",
            tool_calls=(
                ToolCall("toolu_1", "search", '{"q": "K2 模型", "n": 2}'),
                ToolCall("toolu_2", "search", "{}"),
            ),
        ),
        Message("tool", "found", tool_call_id="toolu_1"),
        Message("tool", "x\n\ny", tool_call_id="toolu_2"),
        Message("user", "And?"),
    )


@pytest.mark.parametrize("content", ["", [], None])
def test_a_result_may_be_empty(content):
    told = messages(user("hi"), assistant(use()), user(result(content=content)))
    assert told[-1] == Message("tool", "", tool_call_id="toolu_a")


def test_a_result_may_have_no_content():
    bare = {"type": "tool_result", "tool_use_id": "toolu_a"}
    assert messages(user("hi"), assistant(use()), user(bare))[-1].content == ""


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("no such file", "Error: no such file"),
        ("", "Error: "),
        ("Error: exit code 1", "Error: exit code 1"),
        ("<tool_use_error>gone</tool_use_error>", "<tool_use_error>gone</tool_use_error>"),
    ],
)
def test_the_model_sees_that_a_tool_failed(told, shown):
    conversation = (user("hi"), assistant(use()))
    assert messages(*conversation, user(result(content=told, is_error=True)))[-1].content == shown
    assert messages(*conversation, user(result(content=told, is_error=False)))[-1].content == told


def test_the_same_id_may_come_again_in_another_turn():
    once = (assistant(use()), user(result()))
    assert len(messages(user("hi"), *once, *once)) == 5


def test_an_empty_answer_is_accepted_as_history():
    for empty in ("", []):
        told = messages(user("hi"), {"role": "assistant", "content": empty}, user("go on"))
        assert told[1] == Message("assistant")


# Blocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "read"),
    [
        ({"type": "tool_reference", "tool_name": "WebFetch"}, "WebFetch"),
        (
            {"type": "search_result", "source": "k2.ai", "title": "K2", "content": [text("x")]},
            "K2\nk2.ai\nx",
        ),
        ({"type": "new_thing", "text": "words"}, "words"),
        ({"type": "new_thing", "content": ["a", {"text": "b"}, 5]}, "a\nb"),
        (
            {"type": "document", "title": "T", "context": "C",
             "source": {"type": "text", "media_type": "text/plain", "data": "D"}},
            "T\nC\nD",
        ),
        ({"type": "document", "source": {"type": "content", "content": "D"}}, "D"),
        (
            {"type": "document", "source": {"type": "content", "content": [text("D"), text("E")]}},
            "D\n\nE",
        ),
    ],
)  # fmt: skip
def test_blocks_with_words_are_read(block, read):
    assert messages(user(block)) == (Message("user", read),)
    nested = messages(user("hi"), assistant(use()), user(result(content=[block])))
    assert nested[-1].content == read


def test_blocks_without_words_are_dropped():
    silent = [
        {"type": "container_upload", "file_id": "f"},
        {"type": "new_thing", "data": "words"},
        {"type": "redacted_thinking", "data": "words"},
        {"type": "thinking", "thinking": "words", "signature": "s"},
    ]
    assert messages(user(text("hi"), *silent)) == (Message("user", "hi"),)
    answered = messages(user("hi"), assistant(text("yes"), *silent), user("go on"))
    assert answered[1] == Message("assistant", "yes")


def test_thinking_that_we_signed_comes_back():
    ours = [thinking(words, OURS.sign(words)) for words in ("first", " then 想")]
    told = messages(user("hi"), assistant(ours[0], text("x"), ours[1], use()), user(result()))
    assert (told[1].reasoning, told[1].content) == ("first then 想", "x")


@pytest.mark.parametrize(
    "foreign",
    [
        thinking("hm", signer(b"another").sign("hm")),
        thinking("hm", OURS.sign("hm") + "x"),
        thinking("hmm", OURS.sign("hm")),
        thinking("hm", "签"),
        thinking("hm", None),
        thinking(None, OURS.sign("hm")),
        {"type": "thinking"},
        {"type": "redacted_thinking", "data": "x"},
    ],
)
def test_thinking_that_is_not_ours_is_dropped_without_a_word(foreign):
    told = messages(user("hi"), assistant(foreign, use()), user(result()))
    assert told[1].reasoning == "" and told[1].tool_calls


@given(st.text(), st.text())
def test_a_signature_is_good_for_one_text_and_one_purpose(words, others):
    assert OURS.verify(words, OURS.sign(words))
    assert OURS.verify(others, OURS.sign(words)) == (words == others)


# Prefill ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefill", ["The answer is", "The answer is \n\n"])
def test_an_assistant_turn_at_the_end_is_continued(prefill):
    request = decode(talk(user("hi"), assistant(prefill)))
    assert request.partial
    assert request.messages[-1] == Message("assistant", "The answer is")


@pytest.mark.parametrize("prefill", ["", " \n", []])
def test_nothing_is_no_prefill(prefill):
    request = decode(talk(user("hi"), {"role": "assistant", "content": prefill}))
    assert (request.messages, request.partial) == ((Message("user", "hi"),), False)


def test_a_system_turn_after_an_answer_ends_it():
    assert not decode(talk(user("hi"), assistant("yes"), system("s"))).partial
    assert decode(talk(user("hi"), assistant("yes"), system(""))).partial


def test_a_conversation_of_a_hundred_thousand_pieces_is_read_in_one_go():
    pieces = [text("word")] * 50_000
    (message,) = messages(*[user("word")] * 50_000, user(*pieces))
    assert len(message.content) == 100_000 * len("word\n\n") - 2
