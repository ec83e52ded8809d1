"""How many tokens a conversation has, where nobody can be asked.

In: requests, and what an endpoint once counted. Out: a number of tokens, rather too high than too
low, and always the same for the same input.
Must not know: any tokenizer, clocks, endpoints.

Vocabularies of 100 to 200 thousand tokens hold about four letters of English, three characters of
code and JSON, and one and a half of Chinese to a token: a fixed four characters are wrong by a
factor of three for Chinese. What a real count says corrects the rest.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from openk2.agent.model import ModelRequest
from openk2.types import Message, ToolSpec

_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
"""Han, kana, hangul, and their punctuation."""

_FAR = re.compile("[\U00010000-\U0010ffff]")
"""Emoji and rare scripts: most are spelt in bytes."""

_PER_MESSAGE = 5
"""Role, and the marks around a turn."""

_PER_CALL = 12
"""The marks around a call, and its id."""


def estimate_text(text: str) -> int:
    """Estimate a text: 2/7 token a character of ASCII, 3/4 of Chinese, 2 of emoji, else 1/2."""
    if text.isascii():
        return -(-len(text) * 2 // 7)
    wide, far = len(_WIDE.findall(text)), len(_FAR.findall(text))
    ascii_only = len(text.encode("ascii", "ignore"))
    other = len(text) - ascii_only - wide - far  # accents, Cyrillic, Arabic: two to a token
    return -(-(ascii_only * 8 + wide * 21 + other * 14 + far * 56) // 28)


@functools.lru_cache(maxsize=2048)
def estimate_message(message: Message) -> int:
    """Estimate the tokens of one turn."""
    calls = sum(
        _PER_CALL + estimate_text(call.name) + estimate_text(call.arguments)
        for call in message.tool_calls
    )
    return _PER_MESSAGE + estimate_text(message.content) + estimate_text(message.reasoning) + calls


def estimate_tools(tools: Sequence[ToolSpec]) -> int:
    """Estimate the tokens of what the model is told of its tools."""
    written = (
        f"{tool.name}{tool.description}{json.dumps(dict(tool.parameters))}" for tool in tools
    )
    return sum(_PER_CALL + estimate_text(text) for text in written)


def estimate(request: ModelRequest) -> int:
    """Estimate the tokens of a whole prompt."""
    return estimate_tools(request.tools) + sum(map(estimate_message, request.messages))


@dataclass(frozen=True, slots=True)
class Counted:
    """A prompt whose tokens an endpoint has counted."""

    request: ModelRequest
    tokens: int


def corrected(request: ModelRequest, last: Counted | None) -> int:
    """Estimate a prompt's tokens with the help of one that was counted.

    What the two have in common counts as it was counted; the rest is estimated and scaled by how
    wrong the estimate of the counted one was, at most by a factor of three.
    """
    if last is None or last.tokens <= 0:
        return estimate(request)
    guessed = max(1, estimate(last.request))
    known = last.request.messages
    if request.tools == last.request.tools and request.messages[: len(known)] == known:
        tail = sum(map(estimate_message, request.messages[len(known) :]))
        return last.tokens + _scaled(tail, last.tokens, guessed)
    return _scaled(estimate(request), last.tokens, guessed)


def _scaled(tokens: int, counted: int, guessed: int) -> int:
    counted = min(max(counted, guessed // 3), guessed * 3)
    return -(-tokens * counted // guessed)
