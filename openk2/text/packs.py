"""The instruction packs by name.

In: the folder `data/`. Out: conversations that are safe to train on.
Must not know: tokens, mixture weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from openk2.text.chat_packs import CHAT_PACKS
from openk2.text.conversations import Conversation, problem
from openk2.text.tool_packs import EVAL_PACKS, TOOL_PACKS

TRAINING_PACKS: tuple[str, ...] = (*TOOL_PACKS, *CHAT_PACKS)
HELD_OUT_PACKS: tuple[str, ...] = tuple(EVAL_PACKS)


def conversations(data: Path, pack: str) -> Iterator[Conversation]:
    """Yield the sound conversations of one pack; rows that break a rule are left out.

    Args:
        data: The repository's `data/` folder.
        pack: One of `TRAINING_PACKS` or `HELD_OUT_PACKS`.

    Raises:
        KeyError: There is no pack of that name.
    """
    convert = {**TOOL_PACKS, **CHAT_PACKS, **EVAL_PACKS}[pack]
    for conversation in convert(data):
        if problem(conversation) is None:
            yield conversation
