"""Texts and token ids continued as they are, by the engine in this process.

In: `CompletionRequest`s, as clients send them that write the chat template themselves. Out:
`Generation`s whose events are text: special tokens that have a meaning for such clients by name.
Must not know: conversations, HTTP, JSON bodies.
"""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import Iterable
from functools import partial

from openk2.server.dialects.completions import CompletionRequest
from openk2.server.errors import ApiError
from openk2.server.local.backend import LocalBackend, LocalGeneration, Plan
from openk2.text.template import (
    ARGUMENT_BEGIN,
    CALL_BEGIN,
    CALL_END,
    SECTION_BEGIN,
    SECTION_END,
    THINK,
    THINK_END,
)
from openk2.text.tokenizer import Tokenizer
from openk2.types import Event, Finish, FinishReason, Sampling, TextDelta

SHOWN = (SECTION_BEGIN, SECTION_END, CALL_BEGIN, ARGUMENT_BEGIN, CALL_END, THINK, THINK_END)
"""The published tokenizer calls these tokens ordinary: a client's own parser looks for them."""


class RawBackend:
    """Continues prompts with the engine of a `LocalBackend`."""

    def __init__(self, backend: LocalBackend) -> None:
        """Answer with the same model under the same name."""
        self._backend = backend
        names = sorted(backend.tokenizer.specials, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    async def prepare(self, request: CompletionRequest) -> LocalGeneration:
        """Tokenize and check all prompts; other answers go on meanwhile.

        Raises:
            ApiError: Unknown model, an id that is no token, or a prompt that does not fit.
        """
        return await asyncio.to_thread(self._prepare, request)

    def _prepare(self, request: CompletionRequest) -> LocalGeneration:
        self._backend.check_model(request.model)
        plans: list[Plan] = []
        parser = partial(_RawParser, self._backend.tokenizer)
        # Seeds are drawn over all choices, or two equal prompts would get equal answers.
        count = len(request.prompts) * request.n
        sampling = self._backend.at_temperature(
            request.sampling, default=request.default_temperature
        )
        samplings = self._backend.samplings(sampling, count)
        for index, prompt in enumerate(request.prompts):
            path = "prompt" if len(request.prompts) == 1 else f"prompt[{index}]"
            ids = self._ids(prompt, path)
            self._check_fits(ids, request.sampling, path)
            own = samplings[index * request.n : (index + 1) * request.n]
            plans += [Plan(ids, sampling, parser) for sampling in own]
        return self._backend.generation(tuple(plans))

    def _ids(self, prompt: str | tuple[int, ...], path: str) -> tuple[int, ...]:
        tokenizer, window = self._backend.tokenizer, self._backend.models[0].context_length
        if isinstance(prompt, str):
            longest = max(self._backend.longest_token, *map(len, tokenizer.specials))
            if len(prompt.encode()) // longest >= window:
                raise _too_long(path, "at least ", len(prompt.encode()) // longest, 0, window)
            return tuple(self._tokenize(prompt))
        for index, token in enumerate(prompt):
            if token >= tokenizer.vocab_size:
                field = f"{path}[{index}]"
                problem = f"{token} is no token id; there are {tokenizer.vocab_size}"
                raise ApiError(400, f"{field}: {problem}.", param=field)
        return prompt

    def _tokenize(self, text: str) -> Iterable[int]:
        tokenizer, start = self._backend.tokenizer, 0
        for found in self._special.finditer(text):
            yield from tokenizer.encode(text[start : found.start()])
            yield tokenizer.specials[found[0]]
            start = found.end()
        yield from tokenizer.encode(text[start:])

    def _check_fits(self, ids: tuple[int, ...], sampling: Sampling, path: str) -> None:
        window, asked = self._backend.models[0].context_length, sampling.max_tokens or 1
        if len(ids) + asked > window:
            field = path if len(ids) >= window else "max_tokens"
            raise _too_long(field, "", len(ids), asked, window)


def _too_long(field: str, estimated: str, tokens: int, asked: int, window: int) -> ApiError:
    answer = f" and {asked} for the answer" if asked else ""
    return ApiError(
        400,
        f"{field}: the context window holds {window} tokens, but the request needs {estimated}"
        f"{tokens} for the prompt{answer}; send less.",
        param=field,
        code="context_length_exceeded",
    )


class _RawParser:
    """Turns every token into text; the parser of answers that have no structure."""

    reasoning = False
    speaking = True
    calls_complete = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._hidden = {id for name, id in tokenizer.specials.items() if name not in SHOWN}
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, ids: Iterable[int]) -> list[Event]:
        shown = (self._tokenizer.token_bytes(id) for id in ids if id not in self._hidden)
        return self._text(b"".join(shown), final=False)

    def finish(self, reason: FinishReason) -> list[Event]:
        return [*self._text(b"", final=True), Finish(reason)]

    def _text(self, data: bytes, *, final: bool) -> list[Event]:
        text = self._decoder.decode(data, final)
        return [TextDelta(text)] if text else []
