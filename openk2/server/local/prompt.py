"""A request as the model reads it: its conversation in token ids, checked against the window.

In: a `ChatRequest`, a tokenizer, the context window. Out: `Prompt`, or what does not fit.
Must not know: HTTP, JSON, the engine, or which dialect asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from openk2.server.errors import Overflow
from openk2.server.request import ChatRequest
from openk2.text.template import (
    IM_MIDDLE,
    THINK,
    THINK_END,
    declare_tools,
    next_call_index,
    render,
)
from openk2.text.tokenizer import Tokenizer
from openk2.types import Message, Sampling, ToolSpec


class ContextOverflowError(ValueError):
    """Prompt and answer do not fit into the context window together."""

    def __init__(
        self, prompt_tokens: int, max_tokens: int | None, window: int, *, estimated: bool = False
    ) -> None:
        """Say all numbers; `estimated` if the prompt is known to be at least that long."""
        asked = "" if max_tokens is None else f" and {max_tokens} for the answer"
        room = window - prompt_tokens
        advice = (
            "shorten the conversation"
            if room < 1
            else f"ask for at most {room} or shorten the conversation"
        )
        super().__init__(
            f"the context window holds {window} tokens, but the request needs "
            f"{'at least ' if estimated else ''}{prompt_tokens} for the messages and tools{asked}; "
            f"{advice}"
        )
        self.prompt_too_long = room < 1
        self.overflow = Overflow(prompt_tokens, max_tokens, window)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as the model reads it."""

    ids: tuple[int, ...]
    first_call_index: int
    """K2 numbers tool calls over the whole conversation; this answer's first call gets this one."""
    thinking: Literal["inside", "may", "never"] = "never"
    """Whether the answer goes on inside a block of thinking, may begin one, or has none."""


def read_prompt(request: ChatRequest, tokenizer: Tokenizer, *, thinking: bool = False) -> Prompt:
    """Render a conversation into the ids after which the model answers.

    Raises:
        ValueError: `thinking`, and the tokenizer has no tokens to think between.
    """
    ids = render(
        request.messages,
        declared_tools(request),
        tokenizer,
        thinking=thinking,
        partial=request.partial,
        think=request.thinking.enabled,
    )
    state = _thinking(ids, tokenizer) if thinking else "never"
    return Prompt(tuple(ids), next_call_index(request.messages), state)


def declared_tools(request: ChatRequest) -> tuple[ToolSpec, ...]:
    """Return the tools that the model is told of: none if it must not call any."""
    return () if request.tool_choice == "none" else request.tools


def _thinking(ids: Sequence[int], tokenizer: Tokenizer) -> Literal["inside", "may", "never"]:
    """Tell how a prompt in the Thinking template leaves the turn that it begins."""
    if ids[-1] == tokenizer.specials[IM_MIDDLE]:
        return "may"
    marks = {tokenizer.specials[name] for name in (THINK, THINK_END, IM_MIDDLE)}
    last = next(token for token in reversed(ids) if token in marks)
    return "inside" if last == tokenizer.specials[THINK] else "never"


def longest_token(tokenizer: Tokenizer) -> int:
    """Return the size in bytes of the vocabulary's longest ordinary token."""
    specials = set(tokenizer.specials.values())
    ordinary = (token for token in range(tokenizer.vocab_size) if token not in specials)
    return max(len(tokenizer.token_bytes(token)) for token in ordinary)


def check_size(
    messages: Sequence[Message], tools: Sequence[ToolSpec], longest_token: int, window: int
) -> None:
    """Refuse, without tokenizing it, a text that cannot fit however well it is tokenized.

    Raises:
        ContextOverflowError: With the least number of tokens that the text can have.
    """
    texts = [declare_tools(tools)] if tools else []
    for message in messages:
        texts += [message.content, *(call.arguments for call in message.tool_calls)]
    least = sum(len(text.encode()) for text in texts) // longest_token
    if least >= window:
        raise ContextOverflowError(least, None, window, estimated=True)


def check_fits(prompt: Prompt, sampling: Sampling, window: int) -> None:
    """Refuse what cannot be answered in full.

    Raises:
        ContextOverflowError: The prompt, or the prompt plus `max_tokens`, exceeds `window`.
    """
    if len(prompt.ids) + (sampling.max_tokens or 1) > window:
        raise ContextOverflowError(len(prompt.ids), sampling.max_tokens, window)
