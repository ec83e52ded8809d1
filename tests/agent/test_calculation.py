"""Arithmetic by hand is noticed; sizes, dates, code and what tools computed are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.calculation import (
    ByHand,
    CalculationSettings,
    CalculationWatch,
    by_hand,
    reminder,
)
from openk2.agent.context import Context
from openk2.types import Message, ToolCall

BY_HAND = [
    "So the total is 3,847 × 29 = 111,563 dollars.",
    "We need 1234*5678 = 7006652.",
    "Revenue: $1,250.75 x 1.19 = $1,488.39",
    "4,817 divided by 37 is about 130.19",
    "4,817 Divided By 37 is about 130.19",
    "98,765 / 432 ≈ 228.6",
    "Let me compute: 387 times 46 equals 17802.",
    "\\(384 \\times 2711 = 1041024\\)",
    "Sum: 1250 + 3475 + 982 + 4410 = 10117",
    "mean = (12.3 + 14.5 + 13.8 + 15.1 + 12.9) / 5 = 13.72",
    "So 1,204 + 877 − 356 + 2,019 gives 3,744 units.",
    "47 × 83: 47 × 80 = 3760, 47 × 3 = 141, carry the 1, so 3901",
    "我们计算 3847 乘以 29 等于 111563 元。",
    "总销售额为 1250 + 3475 + 982 + 4410 = 10117。",
    "平均值：(12.3+14.5+13.8+15.1)/4=13.925",
    "4817÷37≈130.19",
    "增长率：1234 / 987，得 1.2503",
    "用竖式计算 347 和 268 的乘积：347 乘 8 先写 2776，347 乘 60 写 20820",
    "The tax is 19.5% × 48,230 = 9,404.85.",
    "So 8,214 / 48,230 = 17.03%",
    "3,847 × 29 = 101,563, I think",
]

NOT_BY_HAND = [
    "",
    "The screen is 1920 × 1080.",
    "The image is 1920x1080 = full HD",
    "Meeting on 2024-11-21, version 3.14.159, and https://a.b/c?x=1234*5678=7006652",
    "```python\ntotal = 3847 * 29\nassert 1234*5678 == 7006652\n```",
    "I will run `3847 * 29 = 111563` now.",
    "12 × 12 = 144 tiles, and 25 × 4 = 100.",
    "3,000 × 20 = 60,000",
    "4,817 × 10 = 48,170 and 4,817 × 2 = 9,634",
    "1 + 2 + 3 + 4 + 5 = 15",
    "2 + 2 = 4, of course",
    "Steps 100 + 200 = 300",
    "The weight matrix is 4096 × 14336, so I shard it.",
    "Sales rose from 3847 to 111563, that is by a lot.",
    "Let y = 3847x + 29. Then 111563 = y.",
    "Phone 555-1234-5678, order 12/24/2024 = Christmas Eve",
    "She carries 12 boxes, 34 bags, 56 cups and 78 plates.",
    "图片大小为 1920×1080，2024-11-21 拍摄。",
    "第 3 章第 29 节，共 111563 字。",
    "比例为 16:9，合计 100 + 200 = 300。",
    "I should compute 3847 × 29 with the interpreter.",
    "The formula is revenue = price × 1.19 + 4.90 = total",
    "pi is 3.14159 and e is 2.71828",
    "ratio 12345/6789 is not needed here",
    "7632 ÷ 159 is 2 digits long, and 2017 × 2018 is 4 to the eye",
    "How often 45,678/0.0 is 3 nobody knows",
]


@pytest.mark.parametrize("text", BY_HAND)
def test_hard_arithmetic_is_noticed(text: str):
    assert by_hand(text) is not None


@pytest.mark.parametrize("text", NOT_BY_HAND)
def test_what_only_looks_like_it_is_not(text: str):
    assert by_hand(text) is None


def test_what_a_tool_has_printed_was_not_done_by_hand():
    text = "As computed, 3,847 × 29 = 111,563 and 1250 + 3475 + 982 + 4410 = 10117."
    assert by_hand(text, ["x", "111563\n"]) == ByHand("1250 + 3475 + 982 + 4410 = 10117", "10117")
    assert by_hand(text, ["total 111563.0", "sum 10,117"]) is None


def test_it_can_be_made_stricter():
    assert by_hand(BY_HAND[0], settings=CalculationSettings(digits=7)) is None
    assert by_hand("1 + 22 + 33 = 56", settings=CalculationSettings(terms=2)) is not None


def test_the_reminder_quotes_it_and_names_the_tools():
    found = by_hand(BY_HAND[0])
    assert found is not None
    text = reminder(found, ("code_interpreter", "shell"))
    assert "3,847 × 29 = 111,563" in text and "code_interpreter or shell" in text


@given(st.text(alphabet="0123456789+*=/., xis×等于\n`$%()", max_size=400))
def test_no_text_breaks_the_search(text: str):
    found = by_hand(text, [text])
    assert found is None or found.quote


def test_a_long_text_of_digits_is_searched_quickly():
    # Would take minutes if the pattern went back and forth in it.
    assert by_hand("1234 + " * 5_000) is None
    assert by_hand("1,234" * 5_000) is None
    assert by_hand("12 × " * 5_000 + "=") is None


# Over the steps of a run ------------------------------------------------------------------------

ANSWER = Message("assistant", BY_HAND[0])


def test_a_run_is_reminded_now_and_then_while_a_tool_is_there():
    watch = CalculationWatch(CalculationSettings(every=3))
    told = [bool(watch.look(step, ANSWER, ["search", "shell"], [])) for step in range(1, 8)]
    assert told == [True, False, False, True, False, False, True]
    assert CalculationWatch().look(1, ANSWER, ["search"], []) == ""
    assert CalculationWatch(CalculationSettings(on=False)).look(1, ANSWER, ["shell"], []) == ""
    assert CalculationWatch().look(1, ANSWER, ["shell"], ["111563"]) == ""


def test_thinking_counts_and_an_answer_that_calls_the_tool_does_not():
    thought = Message("assistant", "Done.", reasoning=BY_HAND[0])
    text = CalculationWatch().look(1, thought, ["shell", "code_interpreter"], [])
    assert "code_interpreter or shell" in text
    calls = Message("assistant", BY_HAND[0], tool_calls=(ToolCall("c", "shell", "{}"),))
    assert CalculationWatch().look(1, calls, ["shell"], []) == ""


def test_what_the_conversation_holds_was_not_made_by_hand():
    context = Context([Message("system", "s")])
    context.begin_task("A year has 3,847 × 29 = 111,563 of them. Check it.")
    context.append(ANSWER)
    assert CalculationWatch().look(1, ANSWER, ["shell"], context.heard()) == ""
    assert [text[:6] for text in context.heard()] == ["s", "A year"]


@given(st.integers(101, 99_999), st.integers(101, 99_999))
def test_any_product_of_long_numbers_is_noticed(a: int, b: int):
    if str(a).rstrip("0") != str(a) or str(b).rstrip("0") != str(b):
        return
    for text in (f"{a} × {b} = {a * b}", f"{a:,} * {b:,} = {a * b:,}", f"{a}乘以{b}等于{a * b}"):
        assert by_hand(text) is not None
        assert by_hand(text, [f"result: {a * b}"]) is None
