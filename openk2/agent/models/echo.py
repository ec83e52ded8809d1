"""A model that says what it hears, and calls a tool when it is told to.

In: requests. Out: the last user text, or a call.
Must not know: tools beyond their names.

`call NAME {"a": 1}` makes the call, and its result is said back: enough to try a tool, an approval
rule or an MCP server by hand, without any model.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from openk2.agent.model import ModelRequest, Price
from openk2.agent.models.estimate import estimate
from openk2.agent.models.wire.replies import call_ids, reply_events, reply_of
from openk2.types import Event, Message, ToolCall

_CALL = re.compile(r"^call\s+(\S+)[ \t]*(.*)$", re.MULTILINE)


class Echo:
    """Says what it hears; `ChatModel`."""

    name = "echo"
    context_window = 131_072
    price = Price()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event, None]:
        """Answer the last message: with its text, with the calls that it asks for, in order."""
        for event in reply_events(reply_of(request, _answer(request))):
            yield event

    async def count_tokens(self, request: ModelRequest) -> int:
        """Estimate the prompt's tokens."""
        return estimate(request)

    async def close(self) -> None:
        """Do nothing: there are no connections."""


def _answer(request: ModelRequest) -> Message:
    heard = [message for message in request.messages if message.role in ("user", "tool")]
    last = heard[-1] if heard else Message("user")
    told = _CALL.findall(last.content) if last.role == "user" else []
    if request.tool_choice == "none":
        told = []
    if request.tool_choice == "required" and not told and request.tools:
        told = [(request.tools[0].name, "")]
    calls = tuple(
        ToolCall(f"functions.{name}:{index}", name, arguments.strip() or "{}")
        for (name, arguments), index in zip(told, call_ids(request), strict=False)
    )
    return Message("assistant", "" if calls else last.content, tool_calls=calls)
