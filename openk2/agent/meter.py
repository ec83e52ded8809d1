"""How many tokens a conversation has, asking for an exact count only when it matters.

In: conversations, and what they really cost once a model has read them. Out: a number with a doubt.
Must not know: a tokenizer, a model, or what is done when there are too many.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from openk2.types import Message

Count = Callable[[Sequence[Message]], Awaitable[int]]
"""Counts a prompt's tokens: exactly where a tokenizer can be asked. An effect of the loop."""

WIDE = re.compile(r"[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]")
"""Chinese, Japanese, Korean."""
TOKENS_PER_WIDE = 0.7
TOKENS_PER_OTHER = 0.28
TOKENS_PER_MESSAGE = 6
"""K2's tokenizer on Chinese and on English with code, roughly; real usage corrects them."""
DOUBT = 1.0
"""How far an estimate may be off, as a part of it: tables of digits have twice the tokens of prose.
Only what came since the last answer is estimated, so this is little, and counts are rare."""


def estimate(message: Message) -> int:
    """Estimate the tokens of one message from its characters."""
    parts = [message.content, message.reasoning]
    parts += [text for call in message.tool_calls for text in (call.id, call.name, call.arguments)]
    wide = sum(len(WIDE.findall(part)) for part in parts)
    other = sum(map(len, parts)) - wide
    return TOKENS_PER_MESSAGE + round(wide * TOKENS_PER_WIDE + other * TOKENS_PER_OTHER)


class Meter:
    """Tokens of a growing conversation: known for a beginning of it, estimated for the rest."""

    def __init__(self) -> None:
        """Know nothing yet: everything is an estimate."""
        self._known: tuple[tuple[Message, ...], int] = ((), 0)
        self._sizes: dict[Message, int] = {}
        self.ratio = 1.0
        """Real tokens per estimated one."""

    def observe(self, messages: Sequence[Message], tokens: int) -> None:
        """Take over what a conversation really has: a count, or the usage a model reports."""
        if not messages or tokens <= 0:
            return
        self._known = (tuple(messages), tokens)
        # Bounded: a prompt may hold much that is no message (tools), and a bad report is possible.
        self.ratio = min(4.0, max(0.25, tokens / self._estimate(messages)))

    def tokens(self, messages: Sequence[Message]) -> tuple[int, int]:
        """Return how many tokens a conversation has, and by how many that may be wrong."""
        known, tokens = self._known
        if known and tuple(messages[: len(known)]) == known:
            rest = self.of(messages[len(known) :])
            return tokens + rest, round(rest * DOUBT)
        whole = self.of(messages)
        return whole, round(whole * DOUBT)

    def of(self, messages: Sequence[Message]) -> int:
        """Estimate these messages by themselves, corrected by what is known."""
        return round(self._estimate(messages) * self.ratio)

    async def settle(self, messages: Sequence[Message], limit: int, count: Count) -> int:
        """Return a conversation's tokens, counted if an estimate cannot tell on which side it is.

        Args:
            messages: The conversation.
            limit: The number that matters.
            count: Counts exactly; called once at most.
        """
        tokens, doubt = self.tokens(messages)
        if doubt == 0 or abs(tokens - limit) > doubt:
            return tokens
        self.observe(messages, await count(messages))
        return self.tokens(messages)[0]

    def _estimate(self, messages: Sequence[Message]) -> int:
        sizes = self._sizes
        total = 0
        for message in messages:
            size = sizes.get(message)
            if size is None:
                size = sizes[message] = estimate(message)
            total += size
        return total
