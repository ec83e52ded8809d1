"""The models that need no endpoint, by name: what a command line can ask for.

In: a word such as `echo`. Out: a `ChatModel`, or None for every other word.
Must not know: endpoints, directories of models.
"""

from __future__ import annotations

from pathlib import Path

from openk2.agent.model import ChatModel
from openk2.agent.models.chaos import Chaos
from openk2.agent.models.echo import Echo
from openk2.agent.models.scripted import Scripted

FORMS = "echo, script:FILE, chaos:SEED:echo or chaos:SEED:script:FILE"
"""What there is, for messages and help."""


def open_stand_in(name: str) -> ChatModel | None:
    """Return the stand-in of this name; None if it is the name of something else.

    `echo` says what it hears, `script:FILE` plays a file, `chaos:SEED:` before either spoils it.

    Raises:
        ValueError: It is none of these in full, or the script cannot be read.
    """
    kind, colon, rest = name.partition(":")
    if name == "echo":
        return Echo()
    if kind == "script" and colon:
        return Scripted.from_file(Path(rest))
    if kind != "chaos" or not colon:
        return None
    seed, _, inner = rest.partition(":")
    model = open_stand_in(inner) if seed.isdecimal() else None
    if model is None:
        raise ValueError(f"{name!r} is none of {FORMS}")
    return Chaos(model, int(seed))
