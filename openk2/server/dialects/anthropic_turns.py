"""The conversation of a Messages request: turns made of blocks in, `Message`s out.

In: the `system` and `messages` of a body. Out: a history that `types.validate_history` accepts.
Must not know: the other fields of the body, answers, or how the model reads a conversation.

Every refusal counts turns and blocks as the client sent them. Blocks may be nested only as deep
as the parser of the body allows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field

from openk2.server.dialects.body import In, bad, is_object, read, shown, without_images
from openk2.server.dialects.signer import Signer
from openk2.types import Message, Role, ToolCall

MAX_ENTRIES = 100_000
"""Turns of a conversation and blocks of a turn: where the Anthropic platform stops."""

_PARAGRAPH = "\n\n"

# Claude Code puts a line into its system prompt that may differ from request to request: kept, it
# would make every prompt a new one to the prefix cache.
_BILLING = re.compile(r"\s*x-anthropic-billing-header:[^\n]*\s*")

_READABLE = ("title", "source", "url", "context", "text", "tool_name", "content")
"""Keys of unknown blocks under which something for the model to read can stand."""


# Shapes -----------------------------------------------------------------------------------------


def _as_blocks(value: object) -> object:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list):
        raise ValueError("must be text or a list of blocks")
    return cast("list[object]", value)


Blocks = Annotated[list[Any], Field(max_length=MAX_ENTRIES), BeforeValidator(_as_blocks)]
"""`content` wherever it stands: a list of blocks, or a string in the place of one text block."""


class Turn(In):
    """One entry of `messages`."""

    role: Literal["user", "assistant", "system"]
    content: Blocks


class Text(In):
    """A block of text."""

    text: str


class Document(In):
    """A block with a text to read."""

    source: dict[str, Any]
    title: str | None = None
    context: str | None = None


class _TextSource(In):
    data: str


class _ContentSource(In):
    content: Blocks


class Thinking(In):
    """A block of the assistant's thinking; one that is malformed is not ours, and so dropped."""

    thinking: Any = None
    signature: Any = None


class ToolUse(In):
    """A call by the assistant."""

    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    input: dict[str, Any]


class ToolResult(In):
    """What a call gave."""

    tool_use_id: str
    content: Blocks | None = None
    is_error: bool | None = None


# Text -------------------------------------------------------------------------------------------


def read_text(blocks: Sequence[object], path: str) -> str:
    """Return what the model can read of `blocks`, each a paragraph.

    Raises:
        ApiError: 400: a block that is malformed, or that is known to be no text.
    """
    texts = [block_text(block, f"{path}[{index}]") for index, block in enumerate(blocks)]
    return _PARAGRAPH.join(filter(None, texts))


def block_text(block: object, path: str) -> str:
    """Return what the model can read of one block; of an unknown one that may be nothing.

    Raises:
        ApiError: 400: the block is malformed, or known to be no text.
    """
    kind = _kind(block, path)
    if kind == "text":
        return read(Text, block, path).text
    if kind == "image":
        raise bad(path, "an image cannot be read here; leave it out, or send what it shows as text")
    if kind == "document":
        return _document_text(read(Document, block, path), path)
    return _loose_text(block)


def _kind(block: object, path: str) -> str:
    kind = block.get("type") if is_object(block) else None
    if not isinstance(kind, str):
        raise bad(path, 'must be an object such as {"type": "text", "text": "Hello"}')
    return kind


def _document_text(document: Document, path: str) -> str:
    source, path = document.source, f"{path}.source"
    match source.get("type"):
        case "text":
            text = read(_TextSource, source, path).data
        case "content":
            text = read_text(read(_ContentSource, source, path).content, f"{path}.content")
        case _:
            raise bad(
                path,
                'only documents in plain text can be read; send {"type": "text", '
                '"media_type": "text/plain", "data": "..."}',
            )
    return "\n".join(filter(None, (document.title, document.context, text)))


def _loose_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if is_object(value):
        parts: list[object] = [value.get(key) for key in _READABLE]
    elif isinstance(value, list):
        parts = cast("list[object]", value)
    else:
        return ""
    return "\n".join(filter(None, map(_loose_text, parts)))


def _result_text(result: ToolResult, path: str, warnings: list[str]) -> str:
    path = f"{path}.content"
    text = read_text(without_images(result.content or (), path, warnings), path)
    # K2's tool turn has no mark for failure: the text has to say it.
    says_so = re.match(r"\W*(tool_use_)?error", text, re.IGNORECASE)
    return f"Error: {text}" if result.is_error and not says_so else text


# Turns ------------------------------------------------------------------------------------------


def read_conversation(
    system: Sequence[object], turns: Sequence[Turn], signer: Signer, warnings: list[str]
) -> tuple[Message, ...]:
    """Return the conversation as messages, turns in a row by the same speaker as one.

    What cannot be read and is not worth a refusal is added to `warnings`.

    Raises:
        ApiError: 400, with `param` naming the block that is wrong.
    """
    conversation = _Conversation(signer, warnings)
    conversation.add_system("system", system)
    for index, turn in enumerate(turns):
        path = f"messages[{index}].content"
        if turn.role == "system":
            conversation.add_system(path, turn.content)
        elif turn.role == "user":
            conversation.add_user(path, turn.content)
        else:
            conversation.add_assistant(path, turn.content)
    return conversation.close()


@dataclass(slots=True)
class _Draft:
    """A message in pieces: a turn may come in a hundred thousand of them."""

    role: Role
    texts: list[str] = field(default_factory=lambda: [])
    reasoning: list[str] = field(default_factory=lambda: [])
    calls: list[ToolCall] = field(default_factory=lambda: [])
    tool_call_id: str | None = None

    def message(self) -> Message:
        # The texts of an answer are one text that calls have divided; others are paragraphs.
        joint = "" if self.role == "assistant" else _PARAGRAPH
        return Message(
            self.role,
            joint.join(self.texts),
            reasoning="".join(self.reasoning),
            tool_calls=tuple(self.calls),
            tool_call_id=self.tool_call_id,
        )


class _Conversation:
    def __init__(self, signer: Signer, warnings: list[str]) -> None:
        self._signer = signer
        self._warnings = warnings
        self._drafts: list[_Draft] = []
        # Calls that wait for a result, with the paths of their blocks.
        self._open: dict[str, str] = {}
        # What was said after a call and before its result, and whether the user said some of it.
        self._waiting: list[_Draft] = []
        self._interrupted = False

    def close(self) -> tuple[Message, ...]:
        self._check_answered()
        return tuple(draft.message() for draft in self._drafts)

    def add_system(self, path: str, blocks: Sequence[object]) -> None:
        texts = [block_text(block, f"{path}[{index}]") for index, block in enumerate(blocks)]
        texts = [text[found.end() :] if (found := _BILLING.match(text)) else text for text in texts]
        if text := _PARAGRAPH.join(filter(None, texts)):
            self._say("system", text)

    def add_user(self, path: str, blocks: Sequence[object]) -> None:
        empty = True
        for index, block in enumerate(blocks):
            at = f"{path}[{index}]"
            kind = _kind(block, at)
            if kind == "tool_use":
                raise bad(at, "a tool_use block belongs into an assistant turn")
            if kind == "tool_result":
                self._answer(at, read(ToolResult, block, at))
                empty = False
            elif text := block_text(block, at):
                self._say("user", text)
                empty = False
        if empty:
            raise bad(path, "holds nothing that the model can read; add text or leave it out")

    def add_assistant(self, path: str, blocks: Sequence[object]) -> None:
        if not (self._drafts and self._drafts[-1].role == "assistant" and not self._waiting):
            self._check_answered()
            self._drafts.append(_Draft("assistant"))
        draft = self._drafts[-1]
        for index, block in enumerate(blocks):
            at = f"{path}[{index}]"
            kind = _kind(block, at)
            if kind == "tool_result":
                raise bad(at, "a tool_result block belongs into a user turn")
            if kind == "tool_use":
                draft.calls.append(self._call(at, read(ToolUse, block, at)))
            elif kind == "thinking":
                draft.reasoning.append(self._own_thinking(read(Thinking, block, at)))
            else:
                draft.texts.append(block_text(block, at))

    def _say(self, role: Role, text: str) -> None:
        said = self._waiting if self._open else self._drafts
        self._interrupted |= bool(self._open) and role == "user"
        if said and said[-1].role == role == "user":
            said[-1].texts.append(text)
        else:
            said.append(_Draft(role, [text]))

    def _call(self, path: str, use: ToolUse) -> ToolCall:
        if use.id in self._open:
            raise bad(f"{path}.id", f"{shown(use.id)} is the id of another tool_use of this turn")
        self._open[use.id] = path
        return ToolCall(use.id, use.name, json.dumps(use.input, ensure_ascii=False))

    def _answer(self, path: str, result: ToolResult) -> None:
        if result.tool_use_id not in self._open:
            raise bad(
                f"{path}.tool_use_id",
                f"{shown(result.tool_use_id)} answers no tool_use of the assistant turn before it "
                "that still waits for a result; send one result for each tool_use in the turn "
                "after it, and leave this block out",
            )
        # A system turn may stand between a call and its result, words of the user may not.
        if self._interrupted:
            raise bad(path, "results come first in a turn; move this block before the text")
        del self._open[result.tool_use_id]
        text = _result_text(result, path, self._warnings)
        self._drafts.append(_Draft("tool", [text], tool_call_id=result.tool_use_id))
        if not self._open:
            self._drafts += self._waiting
            self._waiting = []

    def _check_answered(self) -> None:
        for call_id, path in self._open.items():
            raise bad(
                path,
                f"the tool_use {shown(call_id)} has no tool_result; begin the next user turn with "
                "one for it, or leave the tool_use out",
            )

    def _own_thinking(self, block: Thinking) -> str:
        text, signature = block.thinking, block.signature
        if not isinstance(text, str) or not isinstance(signature, str):
            return ""
        return text if self._signer.verify(text, signature) else ""
