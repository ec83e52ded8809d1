"""Estimates are near, never change, and learn from what was counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.model import ModelRequest, Price
from openk2.agent.models.estimate import Counted, corrected, estimate, estimate_text
from openk2.agent.models.prices import PRICES, is_kimi, price_of
from openk2.types import Message, ToolCall, ToolSpec, Usage

TEXT = st.text(max_size=60)
MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(("user", "assistant")), TEXT, reasoning=TEXT), max_size=4
).map(tuple)


def test_chinese_is_not_counted_like_english():
    english = "The quick brown fox jumps over the lazy dog. " * 10
    chinese = "敏捷的棕色狐狸跳过了那只懒惰的狗。" * 10
    # Ten tokens a sentence in either, by every vocabulary of this size: within a third.
    assert 95 <= estimate_text(english) <= 135
    assert 95 <= estimate_text(chinese) <= 135
    assert estimate_text("👩‍🚀") >= 4 and estimate_text("") == 0


@given(TEXT, TEXT)
def test_more_text_is_never_fewer_tokens(one: str, other: str):
    both = estimate_text(one + other)
    assert max(estimate_text(one), estimate_text(other)) <= both
    assert both <= estimate_text(one) + estimate_text(other)


def test_everything_that_the_model_reads_counts():
    message = Message("user", "hi")
    base = estimate(ModelRequest((message,)))
    tool = ToolSpec("shell", "Run a command.", {"type": "object", "properties": {"a": {}}})
    assert estimate(ModelRequest((message,), (tool,))) > base + 10
    call = ToolCall("functions.shell:0", "shell", '{"command": "ls -la"}')
    thought = Message("assistant", reasoning="let me look", tool_calls=(call,))
    assert estimate(ModelRequest((message, thought))) > base + 15


@given(MESSAGES, MESSAGES, st.integers(1, 10**6))
def test_what_was_counted_is_taken_as_counted(
    before: tuple[Message, ...], more: tuple[Message, ...], tokens: int
):
    last = Counted(ModelRequest(before), tokens)
    assert corrected(ModelRequest(before), last) == tokens
    assert corrected(ModelRequest(before + more), last) >= tokens
    assert corrected(ModelRequest(more), None) == estimate(ModelRequest(more))


def test_the_rest_is_scaled_by_how_wrong_the_estimate_was():
    first = ModelRequest((Message("user", "word " * 100),))
    second = ModelRequest((Message("user", "other " * 100),))
    twice = Counted(first, 2 * estimate(first))
    assert corrected(second, twice) == 2 * estimate(second)
    mad = Counted(first, 1000 * estimate(first))
    assert corrected(second, mad) == 3 * estimate(second)
    longer = ModelRequest((*first.messages, Message("assistant", "yes " * 50)))
    assert corrected(longer, twice) == 2 * estimate(longer)


def test_prices_are_those_published():
    assert price_of("kimi-k2-0905-preview").of(Usage(1_000_000, 1_000_000, 400_000)) == (
        600_000 * 600_000 // 10**6 + 400_000 * 150_000 // 10**6 + 2_500_000
    )
    assert price_of("kimi-k3[1m]") == price_of("moonshot/kimi-k3") == PRICES["kimi-k3"]
    assert price_of("moonshot-v1-8k-vision-preview") == PRICES["moonshot-v1-8k"]
    assert price_of("nano") == Price()


def test_kimis_addresses_are_known():
    assert is_kimi("https://api.moonshot.cn/v1") and is_kimi("https://api.kimi.com/coding")
    assert not is_kimi("https://moonshot.ai.example.com/v1") and not is_kimi("http://127.0.0.1/v1")
