"""A model plays a task: what it calls changes the world, what it says goes to the user.

The loop is this short because a world needs no approvals, workspace, context management or
journal; what an assistant sees and does is the same as in the agent's loop.

In: a chat model and a session. Out: the session, played. Must not know: how a model works, how an
episode is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from openk2.agent.model import ChatModel, ModelRequest, Reply, ask
from openk2.envs.env import Session
from openk2.types import Sampling, ToolCall


async def play(
    model: ChatModel,
    session: Session,
    sampling: Sampling | None = None,
    on_reply: Callable[[Reply], None] = lambda reply: None,
    budget: int | None = None,
) -> None:
    """Let a model act until the user is done, a limit cuts the episode off, or a budget is spent.

    Args:
        model: The assistant.
        session: Fresh, or in the middle of an episode.
        sampling: How the model is sampled; none leaves it to the endpoint.
        on_reply: Sees every answer with its usage.
        budget: Most tokens of all turns together; none leaves each turn to `sampling`.

    Raises:
        ModelError: The model does not answer; the session stays as it was before that turn.
    """
    while not session.done and (budget is None or budget > 0):
        within = sampling
        if budget is not None:
            within = replace(sampling or Sampling(), max_tokens=budget)
        request = ModelRequest(tuple(session.messages), session.tools, sampling=within)
        reply = await ask(model, request)
        if budget is not None:
            budget -= reply.usage.completion_tokens
        on_reply(reply)
        session.move(replace(reply.message, tool_calls=_numbered(session, reply)))


def _numbered(session: Session, reply: Reply) -> tuple[ToolCall, ...]:
    """Give calls ids that are unique in the conversation, as K2's template counts them."""
    first = len(session.calls)
    return tuple(
        replace(call, id=f"functions.{call.name}:{first + n}")
        for n, call in enumerate(reply.message.tool_calls)
    )
