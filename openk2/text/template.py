"""A conversation to token ids: Kimi K2's chat templates, Instruct and Thinking.

In: messages and tools (`openk2.types`) and a tokenizer. Out: ids, with a training mask on request.
Must not know: models, HTTP, API dialects, how the answer will be parsed.

Special tokens are placed by id and everything else is encoded as ordinary text, so nothing that
a user, a tool or a document writes can become a special token.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from openk2.text.tokenizer import Tokenizer
from openk2.types import Message, ToolCall, ToolSpec

DEFAULT_SYSTEM = "You are Kimi, an AI assistant created by Moonshot AI."
"""What the published template says when the conversation brings no system message."""

IM_END = "<|im_end|>"
IM_MIDDLE = "<|im_middle|>"
IM_SYSTEM = "<|im_system|>"
THINK = "<think>"
THINK_END = "</think>"
SECTION_BEGIN = "<|tool_calls_section_begin|>"
SECTION_END = "<|tool_calls_section_end|>"
CALL_BEGIN = "<|tool_call_begin|>"
ARGUMENT_BEGIN = "<|tool_call_argument_begin|>"
CALL_END = "<|tool_call_end|>"
_OPENERS = {"user": "<|im_user|>", "assistant": "<|im_assistant|>"}


class MissingTokenError(ValueError):
    """The tokenizer lacks a special token of the template, as Instruct ones may lack `<think>`."""


class _Piece(NamedTuple):
    text: str
    special: bool = False
    target: bool = False  # the assistant must emit it


def render(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    tokenizer: Tokenizer,
    *,
    generation_prompt: bool = True,
    thinking: bool = False,
    partial: bool = False,
    think: bool | None = None,
) -> list[int]:
    """Render a conversation for the model to continue.

    Args:
        messages: The conversation.
        tools: What the model may call.
        tokenizer: The model's vocabulary.
        generation_prompt: End with the header of the assistant's next turn.
        thinking: Choose the Thinking template; the Instruct template drops all reasoning.
        partial: The last message is an assistant's that the model goes on with: it is left open.
        think: Whether the next turn of a Thinking template begins with reasoning: true opens the
            block, false leaves an empty one behind, None leaves it to the model.

    Raises:
        MissingTokenError: The tokenizer lacks a special token that the conversation needs.
    """
    pieces = _prompt(messages, tools, generation_prompt, thinking, partial, think)
    return [token for piece in pieces for token in _encode(piece, tokenizer)]


def render_text(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    *,
    generation_prompt: bool = True,
    thinking: bool = False,
    partial: bool = False,
    think: bool | None = None,
) -> str:
    """Spell out what `render` encodes, special tokens by name: for people to read."""
    pieces = _prompt(messages, tools, generation_prompt, thinking, partial, think)
    return "".join(piece.text for piece in pieces)


def render_training(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    tokenizer: Tokenizer,
    *,
    thinking: bool = False,
) -> tuple[list[int], list[bool]]:
    """Render a finished conversation and mark what the assistant must emit.

    The mask covers content, thinking, tool calls and the closing `<|im_end|>`, never headers.
    With `thinking`, a final answer keeps its reasoning, as the model emits it (`render` shows it
    as history, without); an earlier turn whose reasoning the template drops is no target.
    """
    answered = messages[:-1] if messages and messages[-1].role == "assistant" else messages
    history = _history_end(answered) if thinking else None
    ids: list[int] = []
    mask: list[bool] = []
    for piece in _conversation(messages, tools, history):
        tokens = _encode(piece, tokenizer)
        ids += tokens
        mask += [piece.target] * len(tokens)
    return ids, mask


def check_tokenizer(tokenizer: Tokenizer, *, thinking: bool = False) -> None:
    """Refuse a tokenizer that cannot write a plain conversation or end an answer.

    Raises:
        ValueError: The special token that it lacks.
    """
    spoken = [Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "Bye")]
    render(spoken, (), tokenizer, thinking=thinking)
    _ = tokenizer.im_end, tokenizer.eos


def next_call_index(messages: Sequence[Message]) -> int:
    """Count the tool calls so far: the index of the next one in the conversation."""
    return sum(len(message.tool_calls) for message in messages)


def call_id(name: str, index: int) -> str:
    """Name a tool call as K2 does: `functions.NAME:IDX`, the index running over the conversation.

    K2 was trained on these ids only; others degrade its calls.
    """
    return f"functions.{name}:{index}"


def declare_tools(tools: Sequence[ToolSpec]) -> str:
    """Write tools as the compact JSON of the `tool_declare` turn."""
    declared = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.parameters),
            },
        }
        for tool in tools
    ]
    return json.dumps(declared, ensure_ascii=False, separators=(",", ":"))


def _encode(piece: _Piece, tokenizer: Tokenizer) -> list[int]:
    if not piece.special:
        return tokenizer.encode(piece.text)
    if piece.text not in tokenizer.specials:
        needs = "the Thinking template" if piece.text in (THINK, THINK_END) else "this conversation"
        raise MissingTokenError(
            f"the tokenizer names no {piece.text} token, which {needs} needs: "
            "take the tokenizer that was published with such a model"
        )
    return [tokenizer.specials[piece.text]]


def _history_end(messages: Sequence[Message]) -> int:
    # The *last* assistant turn without tool calls closes the history (llama.cpp's copy of the
    # template lacks the `break` and finds the first).
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "assistant" and not messages[index].tool_calls:
            return index + 1
    return 0


def _prompt(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    generation_prompt: bool,
    thinking: bool,
    partial: bool,
    think: bool | None,
) -> Iterator[_Piece]:
    said, begun = (messages[:-1], messages[-1]) if partial else (messages, Message("assistant"))
    yield from _conversation(said, tools, _history_end(said) if thinking else None)
    if generation_prompt or partial:
        yield from _header("assistant", begun.name)
        if thinking:
            yield from _begun_thought(begun, think)
        yield _Piece(begun.content)


def _begun_thought(begun: Message, think: bool | None) -> Iterator[_Piece]:
    """Yield the reasoning of a turn that the model goes on with, closed if text follows it."""
    closed = bool(begun.content) or (think is False and not begun.reasoning)
    if closed or begun.reasoning or think:
        yield _Piece(THINK, special=True)
        yield _Piece(begun.reasoning)
    if closed:
        yield _Piece(THINK_END, special=True)


def _conversation(
    messages: Sequence[Message], tools: Sequence[ToolSpec], history: int | None
) -> Iterator[_Piece]:
    """Yield every piece; `history` turns hide their reasoning, None is the Instruct template."""
    if tools:
        yield from _turn(_header("system", "tool_declare"), declare_tools(tools))
    if not messages or messages[0].role != "system":
        yield from _turn(_header("system"), DEFAULT_SYSTEM)
    k2_ids: dict[str, str] = {}
    n_calls = 0
    for index, message in enumerate(messages):
        header = _header(message.role, message.name)
        if message.role == "assistant":
            ids = [call_id(call.name, n_calls + k) for k, call in enumerate(message.tool_calls)]
            k2_ids.update(zip((call.id for call in message.tool_calls), ids, strict=True))
            n_calls += len(ids)
            yield from header
            yield from _assistant(message, ids, None if history is None else index < history)
        elif message.role == "tool":
            asked = message.tool_call_id or ""
            answer = f"## Return of {k2_ids.get(asked, asked)}\n{message.content}"
            yield from _turn(header, answer)
        else:
            yield from _turn(header, message.content)


def _header(role: str, name: str | None = None) -> tuple[_Piece, ...]:
    opener = _OPENERS.get(role, IM_SYSTEM)
    return _Piece(opener, special=True), _Piece(name or role), _Piece(IM_MIDDLE, special=True)


def _turn(header: Sequence[_Piece], content: str) -> Iterator[_Piece]:
    yield from header
    yield _Piece(content)
    yield _Piece(IM_END, special=True)


def _assistant(message: Message, ids: Sequence[str], is_history: bool | None) -> Iterator[_Piece]:
    """Yield an assistant turn after its header; `is_history` None leaves out thinking."""
    # A turn shown without the reasoning it had is not how the model should answer.
    target = not (is_history and message.reasoning)
    if is_history is not None:
        yield _Piece(THINK, special=True, target=target)
        yield _Piece("" if is_history else message.reasoning, target=target)
        yield _Piece(THINK_END, special=True, target=target)
    yield _Piece(message.content, target=target)
    if message.tool_calls:
        yield _Piece(SECTION_BEGIN, special=True, target=target)
        for call, k2_id in zip(message.tool_calls, ids, strict=True):
            yield from _tool_call(call, k2_id, target)
        yield _Piece(SECTION_END, special=True, target=target)
    yield _Piece(IM_END, special=True, target=target)


def _tool_call(call: ToolCall, k2_id: str, target: bool) -> Iterator[_Piece]:
    yield _Piece(CALL_BEGIN, special=True, target=target)
    yield _Piece(k2_id, target=target)
    yield _Piece(ARGUMENT_BEGIN, special=True, target=target)
    yield _Piece(call.arguments, target=target)
    yield _Piece(CALL_END, special=True, target=target)
