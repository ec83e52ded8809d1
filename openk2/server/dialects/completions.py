"""The legacy Completions dialect: bodies in, events out as chunks or one response.

In: decoded JSON, or (choice, event) pairs. Out: `CompletionRequest`, or dictionaries ready for
`json.dumps`.
Must not know: the vocabulary, the engine or sockets. Nothing here does I/O. There is no
conversation: the text that is continued may be one that the client's own template wrote.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from pydantic import Field

from openk2.server.dialects.body import (
    Json,
    Refusals,
    bad,
    is_object,
    not_an_object,
    read,
    refuse_unsupported,
)
from openk2.server.dialects.openai_body import SamplingBody, StreamOptions
from openk2.server.dialects.openai_events import LEAST_LOGPROB, Head, encode_usage
from openk2.types import Event, Finish, Logprobs, Sampling, TextDelta, TokenLogprob, Usage

MAX_CHOICES = 128
"""Prompts times `n`."""

MAX_PROMPT_TOKENS = 2**21
"""Ids of one prompt; more than any context window."""

DEFAULT_MAX_TOKENS = 16
"""OpenAI's."""

_GRAMMAR = "a text is continued without a grammar; ask /v1/chat/completions with response_format"
REFUSED: Refusals = {
    "response_format": (({"type": "text"},), _GRAMMAR),
    "structured_outputs": ((), _GRAMMAR),
    "guided_json": ((), _GRAMMAR),
    "guided_regex": ((), _GRAMMAR),
    "guided_choice": ((), _GRAMMAR),
    "guided_grammar": ((), _GRAMMAR),
}
"""What other servers offer here: refused, or the answer would have another form."""


# Requests ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A valid body of `POST /v1/completions`."""

    prompts: tuple[str | tuple[int, ...], ...]
    """Texts, in which special tokens may be spelled out, or token ids."""
    sampling: Sampling
    default_temperature: bool = False
    """The client leaves the temperature to the model; that of `sampling` stands in for it."""
    model: str | None = None
    """None: the client leaves the choice to the server."""
    n: int = 1
    """Answers to each prompt: choice `i` belongs to prompt `i // n`."""
    echo: bool = False
    """The answer repeats the prompt, which is then a text."""
    stream: bool = False
    include_usage: bool = False
    """A last chunk with the usage alone."""


def decode_request(body: object) -> CompletionRequest:
    """Check a request body and say it in our own nouns.

    Raises:
        ApiError: 400, with `param` naming the field that is wrong.
    """
    if not is_object(body):
        raise not_an_object()
    refuse_unsupported(body, REFUSED)
    request = read(Body, body)
    prompts = _prompts(request.prompt)
    _check_together(request, prompts)
    return CompletionRequest(
        prompts=prompts,
        sampling=request.sampling(request.max_tokens, request.logprobs),
        default_temperature=request.temperature is None,
        model=request.model,
        n=request.n,
        echo=request.echo,
        stream=request.stream,
        include_usage=request.stream_options.include_usage,
    )


class Body(SamplingBody):
    """A whole body."""

    model: str | None = None
    prompt: Any = None
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    best_of: int | None = None
    max_tokens: int = Field(DEFAULT_MAX_TOKENS, ge=1)
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: bool = False
    suffix: str = ""
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)


def _check_together(request: Body, prompts: tuple[str | tuple[int, ...], ...]) -> None:
    if request.suffix:
        problem = "the model cannot fill a gap before a suffix; leave it out"
        raise bad("suffix", problem, code="unsupported_value")
    if request.best_of not in (None, request.n):
        problem = f"all answers are returned, so only {request.n}, the value of n, is possible"
        raise bad("best_of", problem, code="unsupported_value")
    if len(prompts) * request.n > MAX_CHOICES:
        field = "n" if request.n > 1 else "prompt"
        raise bad(field, f"prompts times n must be at most {MAX_CHOICES}")
    if request.echo and request.logprobs is not None:
        problem = "a prompt has no log-probabilities here; ask without echo or without logprobs"
        raise bad("echo", problem, code="unsupported_value")
    if request.echo and not all(isinstance(prompt, str) for prompt in prompts):
        raise bad("echo", "needs prompts that are texts", code="unsupported_value")


def _prompts(value: object) -> tuple[str | tuple[int, ...], ...]:
    """Read a text, a list of texts, a list of ids, or a list of such lists."""
    if value is None:
        raise bad("prompt", "is required")
    if isinstance(value, str):
        return (_text("prompt", value),)
    if not isinstance(value, list) or not value:
        raise bad("prompt", "must be a text, token ids, or a list of one of them, and not empty")
    entries = cast("list[object]", value)
    if isinstance(entries[0], int):
        return (_ids("prompt", entries),)
    if len(entries) > MAX_CHOICES:
        raise bad("prompt", f"has more than {MAX_CHOICES} prompts")
    return tuple(_prompt(f"prompt[{index}]", entry) for index, entry in enumerate(entries))


def _prompt(path: str, value: object) -> str | tuple[int, ...]:
    if isinstance(value, list):
        return _ids(path, cast("list[object]", value))
    return _text(path, value)


def _text(path: str, value: object) -> str:
    if not isinstance(value, str):
        raise bad(path, "must be a text or a list of token ids")
    if not value:
        raise bad(path, "is empty; there is nothing to continue")
    return value


def _ids(path: str, values: list[object]) -> tuple[int, ...]:
    if not 0 < len(values) <= MAX_PROMPT_TOKENS:
        raise bad(path, f"must have 1 to {MAX_PROMPT_TOKENS} token ids, not {len(values)}")
    for index, value in enumerate(values):
        # The backend knows the vocabulary; this only keeps what cannot be an id away from it.
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            raise bad(f"{path}[{index}]", "must be a token id")
    return tuple(cast("list[int]", values))


# Answers ----------------------------------------------------------------------------------------


def encode_response(
    head: Head, request: CompletionRequest, events: Iterable[tuple[int, Event]]
) -> Json:
    """Fold the events of all choices into one `text_completion` object."""
    choices = [_Choice(request, index) for index in range(len(request.prompts) * request.n)]
    texts: list[list[str]] = [[] for _ in choices]
    logprobs: list[list[Json]] = [[] for _ in choices]
    for index, event in events:
        if piece := choices[index].add(event):
            texts[index].append(piece["text"])
            logprobs[index].append(piece["logprobs"] or {})
    finished = [
        {
            "text": "".join(texts[index]),
            "index": index,
            "logprobs": _joined(logprobs[index]) if request.sampling.logprobs else None,
            "finish_reason": choice.finish_reason,
        }
        for index, choice in enumerate(choices)
    ]
    usage = encode_usage(_total(request, [choice.usage for choice in choices]))
    return _envelope(head, finished, usage=usage)


class CompletionEncoder:
    """Turns the events of all choices into `text_completion` chunks."""

    def __init__(self, head: Head, request: CompletionRequest) -> None:
        """Start an answer."""
        self._head = head
        self._request = request
        total = len(request.prompts) * request.n
        self._choices = [_Choice(request, index) for index in range(total)]
        self._open = total

    def encode(self, choice: int, event: Event) -> Iterator[Json]:
        """Yield the chunks that `event` causes; the usage of all choices together is last."""
        state = self._choices[choice]
        if piece := state.add(event):
            yield self._chunk([piece])
        if isinstance(event, Usage):
            self._open -= 1
            last = {"text": "", "index": choice, "logprobs": None}
            yield self._chunk([last | {"finish_reason": state.finish_reason}])
            if not self._open and self._request.include_usage:
                usages = [state.usage for state in self._choices]
                usage = encode_usage(_total(self._request, usages))
                yield _envelope(self._head, [], usage=usage)

    def _chunk(self, choices: list[Json]) -> Json:
        chunk = _envelope(self._head, choices)
        return chunk | {"usage": None} if self._request.include_usage else chunk


class _Choice:
    """What one choice has said so far, as far as what follows depends on it."""

    def __init__(self, request: CompletionRequest, index: int) -> None:
        prompt = request.prompts[index // request.n]
        self._index = index
        self._echo = prompt if request.echo and isinstance(prompt, str) else ""
        self._wants_logprobs = request.sampling.logprobs
        self._waiting: list[TokenLogprob] = []
        # Tokens may hold parts of characters, so their places are counted while decoding them.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._offset = 0
        self.finish_reason = "stop"
        self.usage = Usage(0, 0)

    def add(self, event: Event) -> Json | None:
        """Return the piece of a choice that `event` makes."""
        match event:
            case Logprobs(tokens):
                self._waiting += tokens
            case TextDelta(text):
                return self._piece(text)
            case Finish(reason):
                self.finish_reason = "stop" if reason in ("stop", "tool_calls") else "length"
                # An answer may be empty, and its prompt is still to be repeated.
                return self._piece("") if self._echo else None
            case Usage():
                self.usage = event
            case _:
                pass
        return None

    def _piece(self, text: str) -> Json:
        echo, self._echo = self._echo, ""
        tokens, self._waiting = self._waiting, []
        logprobs = self._encode(tokens) if self._wants_logprobs else None
        return {
            "text": echo + text,
            "index": self._index,
            "logprobs": logprobs,
            "finish_reason": None,
        }

    def _encode(self, tokens: Iterable[TokenLogprob]) -> Json:
        encoded: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token in tokens:
            name, logprob = _name(token.token), _finite(token.logprob)
            rivals = {_name(rival): _finite(likely) for rival, likely in token.top}
            encoded["tokens"].append(name)
            encoded["token_logprobs"].append(logprob)
            encoded["top_logprobs"].append(rivals | {name: logprob})
            encoded["text_offset"].append(self._offset)
            self._offset += len(self._decoder.decode(token.token))
        return encoded


def _name(token: bytes) -> str:
    """Return a token as text; a part of a character the way OpenAI wrote it, to stay distinct."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def _finite(logprob: float) -> float:
    # JSON has no infinity; the comparison is false for NaN too.
    return logprob if logprob > LEAST_LOGPROB else LEAST_LOGPROB


def _joined(pieces: list[Json]) -> Json:
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return {name: [entry for piece in pieces for entry in piece[name]] for name in names}


def _total(request: CompletionRequest, usages: list[Usage]) -> Usage:
    """Count all choices together; the answers to one prompt have read it once."""
    firsts = usages[:: request.n]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in firsts),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in firsts),
    )


def _envelope(head: Head, choices: list[Json], *, usage: Json | None = None) -> Json:
    body: Json = {
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "system_fingerprint": head.fingerprint,
        "choices": choices,
    }
    return body if usage is None else body | {"usage": usage}
