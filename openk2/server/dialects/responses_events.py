"""The Responses dialect, its answers: events in, server-sent events or one response out.

In: the events of one answer. Out: dictionaries ready for `json.dumps`, with the names that their
frames have.
Must not know: bodies of requests, tokens, the engine, sockets, or any other dialect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from openk2.server.dialects.body import Json
from openk2.server.dialects.openai_events import Head, encode_logprob
from openk2.server.dialects.responses import ResponsesOptions
from openk2.server.dialects.responses_tools import ArgumentText, Origin
from openk2.server.dialects.sealed import Sign, seal
from openk2.server.errors import ApiError
from openk2.types import (
    Event,
    Finish,
    FinishReason,
    Logprobs,
    ReasoningDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)

Frame = tuple[str, Json]
"""The name of a server-sent event, and its body."""


def encode_response(head: Head, options: ResponsesOptions, events: Iterable[Event]) -> Json:
    """Fold a whole event stream into one `response` object."""
    encoder = ResponseEncoder(head, options)
    for event in events:
        for _ in encoder.encode(event):
            pass
    return encoder.response


def encode_usage(usage: Usage) -> Json:
    """Return the `usage` object."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


class ResponseEncoder:
    """Turns the events of one answer into this dialect's server-sent events.

    An output item ends where the next begins, so the arguments of a call all come before
    whatever follows the call.
    """

    def __init__(self, head: Head, options: ResponsesOptions) -> None:
        """Start an answer; `head.id` begins with `resp_` and makes all other ids unique."""
        self._head = head
        self._options = options
        self._suffix = head.id.removeprefix("resp_")
        self._sequence = 0
        self._output: list[Json] = []
        self._item: _Item | None = None
        # Of tokens whose text has not come yet; if it never comes, they were not shown either.
        self._logprobs: list[Json] = []
        self._reason: FinishReason = "stop"
        self.response = self._snapshot("in_progress")

    def encode(self, event: Event) -> Iterator[Frame]:
        """Yield the frames that `event` causes: `response.created` is first, usage is last."""
        if not self._sequence:
            yield self._frame("response.created", {"response": self.response})
            yield self._frame("response.in_progress", {"response": self.response})
        match event:
            case ReasoningDelta(piece) if piece:
                yield from self._write_reasoning(piece)
            case Logprobs(tokens):
                self._logprobs += map(encode_logprob, tokens)
            case TextDelta(piece) if piece:
                yield from self._write_text(piece)
            case ToolCallStart(index, _, name):
                yield from self._begin(self._called(self._call_id(index), name))
            case ToolCallArguments(index, piece) if piece:
                yield from self._write_arguments(index, piece)
            case Finish(reason):
                self._reason = reason
                yield from self._end(reason)
            case Usage():
                yield self._close(event)
            case _:
                pass  # PromptRead only has to begin the stream

    def encode_failure(self, error: ApiError) -> Frame:
        """Return the last frame of a stream that broke off, with what came until then."""
        code = error.code or ("rate_limit_exceeded" if error.status == 429 else "server_error")
        if not self._sequence:
            fields = {"code": code, "message": error.message, "param": error.param}
            return self._frame("error", fields)
        if self._item is not None:
            self._output.append(self._item.body("incomplete"))
        failure = {"code": code, "message": error.message}
        self.response = self._snapshot("failed", error=failure)
        return self._frame("response.failed", {"response": self.response})

    def _write_reasoning(self, piece: str) -> Iterator[Frame]:
        item = self._item
        if not isinstance(item, _Reasoning):
            options = self._options
            item = _Reasoning(self._id("rs"), summarize=options.summarize, sign=options.sign)
            yield from self._begin(item)
        yield self._write(item, piece)

    def _write_text(self, piece: str) -> Iterator[Frame]:
        item = self._item
        if not isinstance(item, _Text):
            item = _Text(self._id("msg"))
            yield from self._begin(item)
        logprobs, self._logprobs = self._logprobs, []
        item.logprobs += logprobs
        yield self._write(item, piece, logprobs=logprobs)

    def _write_arguments(self, index: int, piece: str) -> Iterator[Frame]:
        item = self._item
        if not isinstance(item, _Call | _CustomCall) or item.call_id != self._call_id(index):
            raise ValueError(f"arguments of call {index} came when that call was not open")
        name, fields = item.write(piece)
        if fields["delta"]:
            yield self._of_item(item, name, fields)

    def _called(self, call_id: str, name: str) -> _Item:
        origin = self._options.origins.get(name, Origin(name))
        if origin.custom:
            return _CustomCall(self._id("ctc"), call_id, origin.name)
        return _Call(self._id("fc"), call_id, origin)

    def _write(self, item: _Item, piece: str, **more: object) -> Frame:
        name, fields = item.write(piece)
        return self._of_item(item, name, fields | more)

    def _begin(self, item: _Item) -> Iterator[Frame]:
        yield from self._end("stop")
        self._item = item
        if not isinstance(item, _Text):
            self._logprobs = []
        index = {"output_index": len(self._output)}
        added = item.body("in_progress")
        yield self._frame("response.output_item.added", index | {"item": added})
        for name, fields in item.begin():
            yield self._of_item(item, name, fields)

    def _end(self, reason: FinishReason) -> Iterator[Frame]:
        if (item := self._item) is None:
            return
        status = "completed" if reason in ("stop", "tool_calls") else "incomplete"
        for name, fields in item.end(status):
            yield self._of_item(item, name, fields)
        index = {"output_index": len(self._output)}
        self._output.append(item.body(status))
        self._item = None
        yield self._frame("response.output_item.done", index | {"item": self._output[-1]})

    def _close(self, usage: Usage) -> Frame:
        fields: Json = {"usage": encode_usage(usage)}
        match self._reason:
            case "length":
                status, fields["incomplete_details"] = "incomplete", {"reason": "max_output_tokens"}
            case "cancelled":
                message = "The answer was broken off by the server."
                status, fields["error"] = "failed", {"code": "server_error", "message": message}
            case _:
                status = "completed"
        self.response = self._snapshot(status, **fields)
        return self._frame(f"response.{status}", {"response": self.response})

    def _snapshot(self, status: str, **fields: Json) -> Json:
        return {
            "id": self._head.id,
            "object": "response",
            "created_at": self._head.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": self._head.model,
            "output": list(self._output),
            "previous_response_id": None,
            "service_tier": "default",
            "store": False,
            "truncation": "disabled",
            "usage": None,
            **self._options.echo,
            **fields,
        }

    def _id(self, kind: str) -> str:
        """Return the id of the item that is about to follow the open one."""
        return f"{kind}_{self._suffix}_{len(self._output) + (self._item is not None)}"

    def _call_id(self, index: int) -> str:
        return f"call_{self._suffix}_{index}"

    def _of_item(self, item: _Item, name: str, fields: Json) -> Frame:
        where = {"item_id": item.id, "output_index": len(self._output)}
        return self._frame(name, where | fields)

    def _frame(self, name: str, fields: Json) -> Frame:
        body = {"type": name, "sequence_number": self._sequence} | fields
        self._sequence += 1
        return name, body


# Output items -----------------------------------------------------------------------------------


class _Item(Protocol):
    """One entry of `output` while it is written."""

    id: str

    def begin(self) -> Iterable[Frame]:
        """What follows `output_item.added`."""
        ...

    def write(self, piece: str) -> Frame: ...

    def end(self, status: str) -> Iterable[Frame]:
        """What precedes `output_item.done`."""
        ...

    def body(self, status: str) -> Json: ...


class _Text:
    """The visible answer."""

    def __init__(self, item_id: str) -> None:
        self.id = item_id
        self.logprobs: list[Json] = []
        self._pieces: list[str] = []

    def begin(self) -> Iterator[Frame]:
        yield "response.content_part.added", {"content_index": 0, "part": self._part()}

    def write(self, piece: str) -> Frame:
        self._pieces.append(piece)
        return "response.output_text.delta", {"content_index": 0, "delta": piece}

    def end(self, status: str) -> Iterator[Frame]:
        part, index = self._part(), {"content_index": 0}
        text = {"text": part["text"], "logprobs": part["logprobs"]}
        yield "response.output_text.done", index | text
        yield "response.content_part.done", index | {"part": part}

    def body(self, status: str) -> Json:
        content = [self._part()] if self._pieces else []
        head = {"id": self.id, "type": "message", "status": status, "role": "assistant"}
        return head | {"content": content}

    def _part(self) -> Json:
        text = "".join(self._pieces)
        logprobs = list(self.logprobs)
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


class _Reasoning:
    """Thinking: as it is, or as its own summary for clients that asked for one.

    Clients that ask for a summary show nothing else.
    """

    def __init__(self, item_id: str, *, summarize: bool, sign: Sign | None) -> None:
        self.id = item_id
        self._summarize = summarize
        self._sign = sign
        self._pieces: list[str] = []

    def begin(self) -> Iterator[Frame]:
        yield f"{self._part_name}.added", self._index | {"part": self._part()}

    def write(self, piece: str) -> Frame:
        self._pieces.append(piece)
        return f"{self._text_name}.delta", self._index | {"delta": piece}

    def end(self, status: str) -> Iterator[Frame]:
        part = self._part()
        yield f"{self._text_name}.done", self._index | {"text": part["text"]}
        yield f"{self._part_name}.done", self._index | {"part": part}

    def body(self, status: str) -> Json:
        parts = [self._part()] if self._pieces else []
        item: Json = {"id": self.id, "type": "reasoning", "status": status}
        item["summary"] = parts if self._summarize else []
        if not self._summarize:
            item["content"] = parts
        if self._sign is not None and status != "in_progress":
            item["encrypted_content"] = seal("".join(self._pieces), self._sign)
        return item

    @property
    def _part_name(self) -> str:
        part = "reasoning_summary_part" if self._summarize else "content_part"
        return f"response.{part}"

    @property
    def _text_name(self) -> str:
        text = "reasoning_summary_text" if self._summarize else "reasoning_text"
        return f"response.{text}"

    @property
    def _index(self) -> Json:
        return {"summary_index" if self._summarize else "content_index": 0}

    def _part(self) -> Json:
        kind = "summary_text" if self._summarize else "reasoning_text"
        return {"type": kind, "text": "".join(self._pieces)}


class _Call:
    """A call of one of the client's functions."""

    def __init__(self, item_id: str, call_id: str, tool: Origin) -> None:
        self.id = item_id
        self.call_id = call_id
        self._name, self._namespace = tool.name, tool.namespace
        self._pieces: list[str] = []

    def begin(self) -> Iterator[Frame]:
        return iter(())

    def write(self, piece: str) -> Frame:
        self._pieces.append(piece)
        return "response.function_call_arguments.delta", {"delta": piece}

    def end(self, status: str) -> Iterator[Frame]:
        if not self._pieces and status == "completed":
            yield self.write("{}")  # a call without arguments is still one of JSON
        arguments = "".join(self._pieces)
        fields = {"name": self._name, "arguments": arguments}
        yield "response.function_call_arguments.done", fields

    def body(self, status: str) -> Json:
        fields: Json = {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self.call_id,
            "name": self._name,
            "arguments": "".join(self._pieces),
        }
        return fields if self._namespace is None else fields | {"namespace": self._namespace}


class _CustomCall:
    """A call of one of the client's tools that take a text."""

    def __init__(self, item_id: str, call_id: str, name: str) -> None:
        self.id = item_id
        self.call_id = call_id
        self._name = name
        self._input = ArgumentText()

    def begin(self) -> Iterator[Frame]:
        return iter(())

    def write(self, piece: str) -> Frame:
        return "response.custom_tool_call_input.delta", {"delta": self._input.feed(piece)}

    def end(self, status: str) -> Iterator[Frame]:
        yield "response.custom_tool_call_input.done", {"input": self._input.text}

    def body(self, status: str) -> Json:
        return {
            "id": self.id,
            "type": "custom_tool_call",
            "status": status,
            "call_id": self.call_id,
            "name": self._name,
            "input": self._input.text,
        }
