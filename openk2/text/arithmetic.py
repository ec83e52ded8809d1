"""Small sums as chats, without end.

In: a seed and a side of the hold-out split, which goes by the sum. Out: conversations with one to
three sums, in English or Chinese.
Must not know: tokens, files.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from openk2.text.conversations import Conversation
from openk2.text.corpus import held_out
from openk2.types import Message

HELD_OUT_SHARE = 0.05
"""Part of the sums that training never sees: drawn afresh, most held-out ones would be known."""

ASKED = {
    "en": ("What is {sum}?", "{sum} = ?", "How much is {sum}?", "Calculate {sum}.", "{sum}"),
    "zh": ("{sum}等于多少？", "{sum}=？", "请计算{sum}。", "{sum}是多少？"),
}
_ANSWERED = {
    "en": ("{sum} = {result}", "{result}"),
    "zh": ("{sum} = {result}", "{sum}等于{result}。"),
}


def arithmetic_conversations(seed: int, *, unseen: bool = False) -> Iterator[Conversation]:
    """Yield conversations without end; the same seed gives the same ones.

    Args:
        seed: Any number.
        unseen: Ask only for the sums that training never sees, instead of all the others.
    """
    index = 0
    while True:
        key = f"arithmetic/{seed}/{index}"
        yield arithmetic_conversation(Random(key), key, unseen=unseen)
        index += 1


def arithmetic_conversation(rng: Random, key: str = "", *, unseen: bool = False) -> Conversation:
    """Make one conversation."""
    lang = "zh" if rng.random() < 0.3 else "en"
    messages: list[Message] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        question, result = _sum(rng, unseen)
        messages.append(Message("user", rng.choice(ASKED[lang]).format(sum=question)))
        answer = rng.choice(_ANSWERED[lang]).format(sum=question, result=result)
        messages.append(Message("assistant", answer))
    return Conversation(tuple(messages), (), "arithmetic", key)


def _sum(rng: Random, unseen: bool) -> tuple[str, int]:
    while True:
        question, result = _any_sum(rng)
        if held_out(sum_key(question), HELD_OUT_SHARE) == unseen:
            return question, result


def sum_key(question: str) -> str:
    """Name what a split keeps together: 2 + 3 gives 3 + 2 away, so both are on one side."""
    return " ".join(sorted(question.split()))


def _any_sum(rng: Random) -> tuple[str, int]:
    largest = rng.choice((10, 20, 100))
    one, two = rng.randint(0, largest), rng.randint(0, largest)
    sign = rng.choice("++--*")
    if sign == "+":
        return f"{one} + {two}", one + two
    if sign == "-":
        one, two = max(one, two), min(one, two)
        return f"{one} - {two}", one - two
    one, two = one % 13, two % 13
    return f"{one} * {two}", one * two
