"""Letting a model act: it calls, the calls are carried out, until it calls nothing.

In: a conversation, tools, a function that carries a call out. Out: the conversation, longer.
Must not know: what the calls act on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from openk2.agent.model import ChatModel, ModelRequest
from openk2.evals.ast_match import Call
from openk2.evals.benchmark import AskSettings, ask_within
from openk2.evals.decisions import decoded
from openk2.types import Message, ToolCall, ToolSpec, Usage

MAX_TOKENS = 512
"""Of one answer, unless the settings say otherwise."""


async def act(
    said: list[Message],
    model: ChatModel,
    tools: Sequence[ToolSpec],
    settings: AskSettings,
    carry_out: Callable[[Call], str],
) -> tuple[bool, Usage]:
    """Ask and carry out until the model calls nothing, or has answered `max_steps` times.

    Args:
        said: The conversation; what is said and done is added to it.
        model: Who acts.
        tools: What it may call.
        settings: How it is asked.
        carry_out: Does what a call says and returns the result as the model reads it.

    Returns:
        Whether it stopped by itself, and what that cost.
    """
    usage = Usage(0, 0)
    for _ in range(settings.max_steps):
        request = ModelRequest(tuple(said), tuple(tools), sampling=settings.sampling(MAX_TOKENS))
        reply = await ask_within(model, request)
        usage = total(usage, reply.usage)
        said.append(_numbered(reply.message, said))
        if not reply.message.tool_calls:
            return True, usage
        said += [_result(call, carry_out) for call in said[-1].tool_calls]
    return False, usage


def _numbered(message: Message, said: Sequence[Message]) -> Message:
    """Count calls over the conversation, as K2 does: some endpoints count in each answer."""
    before = sum(len(one.tool_calls) for one in said)
    calls = tuple(
        replace(call, id=f"functions.{call.name}:{number}")
        for number, call in enumerate(message.tool_calls, before)
    )
    return replace(message, tool_calls=calls)


def _result(call: ToolCall, carry_out: Callable[[Call], str]) -> Message:
    known = decoded(call)
    text = "Error: the arguments are no JSON object" if known is None else carry_out(known)
    return Message("tool", text, tool_call_id=call.id)


def total(one: Usage, other: Usage) -> Usage:
    """Add two usages."""
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
    )
