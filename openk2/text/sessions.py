"""Many requests under one declaration of tools: more calls learned from the same number of tokens.

A single-call conversation spends most of its tokens on declaring tools. Here several requests
share the declaration, every one of them a choice between the same few tools.

In: single-call conversations. Out: longer conversations made of them.
Must not know: tokens, files, which pack the conversations came from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from openk2.text.conversations import Conversation
from openk2.types import Message, ToolCall, ToolSpec

RESULT = '{"status": "ok"}'
"""What every tool of a session answers: as short as a result can be."""
TOOLS = (2, 5)
"""Fewest and most tools that a session declares."""
REQUESTS = (4, 9)
"""Fewest and most requests of a session."""


def sessions(singles: Iterable[Conversation], seed: int) -> Iterator[Conversation]:
    """Yield sessions until every conversation was used about once.

    Args:
        singles: Conversations that begin with a request and a call, or a refusal to call; what
            follows is left out.
        seed: Fixes which requests meet.
    """
    rng = Random(f"sessions/{seed}")
    calls: dict[str, list[Conversation]] = defaultdict(list)
    refusals: list[Conversation] = []
    for single in singles:
        called = single.messages[1].tool_calls
        if called:
            calls[called[0].name].append(single)
        else:
            refusals.append(single)
    names = sorted(calls)
    counts = [len(calls[name]) for name in names]
    for number in range(sum(counts) * 2 // sum(REQUESTS)):
        # Tools come up as often as they are called; small ones are not drowned by large ones.
        chosen = sorted(set(rng.choices(names, [n**0.5 for n in counts], k=rng.randint(*TOOLS))))
        drawn = [rng.choice(calls[rng.choice(chosen)]) for _ in range(rng.randint(*REQUESTS))]
        if refusals and rng.random() < 0.3:
            drawn.insert(rng.randint(0, len(drawn)), rng.choice(refusals))
        yield _joined(rng, drawn, chosen, f"sessions/{seed}/{number}")


def _joined(
    rng: Random, drawn: Sequence[Conversation], chosen: Sequence[str], key: str
) -> Conversation:
    declared = {t.name: t for single in drawn for t in single.tools if t.name in chosen}
    tools: list[ToolSpec] = list(declared.values())
    rng.shuffle(tools)
    messages: list[Message] = []
    for number, single in enumerate(drawn, 1):
        request, answer = single.messages[:2]
        messages.append(request)
        if not answer.tool_calls:
            messages.append(answer)
            continue
        renamed = tuple(
            ToolCall(f"c{number}.{i}", call.name, call.arguments)
            for i, call in enumerate(answer.tool_calls)
        )
        messages.append(Message("assistant", answer.content, tool_calls=renamed))
        messages.extend(Message("tool", RESULT, tool_call_id=call.id) for call in renamed)
    while messages[-1].role == "tool":
        messages.pop()
    return Conversation(tuple(messages), tuple(tools), "sessions", key)
