"""Names of models: aliases, families of context sizes, and which member answers.

In: the name that a client sent, the models there are, what the owner configured. Out: the id of
the model that answers; `RoutedBackend`, which does it in front of another backend.
Must not know: HTTP, dialects, tokens, or who writes the answers.

A family is what `moonshot-v1` is on the Kimi platform: one model under several names, each with a
window of its own, and `-auto`, which takes the smallest that holds prompt and answer.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace

from openk2.server.errors import ApiError, Overflow
from openk2.server.request import Backend, ChatRequest, Generation, Model
from openk2.types import Event

DEFAULT_ANSWER = 1024
"""Tokens that `-auto` reserves for an answer without `max_tokens`: the platform's old default."""

_SIZE = re.compile(r"([1-9][0-9]{0,5})k")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_FOREIGN = re.compile(r"(claude|gpt)-")


@dataclass(frozen=True, slots=True)
class ContextFamily:
    """One model under the names `NAME-8k`, `NAME-32k`, ... and `NAME-auto`."""

    name: str
    sizes: tuple[int, ...]
    """In units of 1,024 tokens, ascending."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of all members, `-auto` last."""
        return (*(f"{self.name}-{size}k" for size in self.sizes), f"{self.name}-auto")

    def member(self, size: int) -> str:
        """Return the name of the member with this size."""
        return f"{self.name}-{size}k"

    def window(self, size: int, limit: int) -> int:
        """Return a member's window in tokens; no member has more than the model's own `limit`."""
        return min(size * 1024, limit)

    def choose(self, total: int, limit: int) -> int | None:
        """Return the smallest size whose window holds `total` tokens; None if there is none."""
        return next((size for size in self.sizes if total <= self.window(size, limit)), None)


def parse_family(text: str) -> ContextFamily:
    """Read `NAME=8k,32k,128k`.

    Raises:
        ValueError: Says what is wrong with it.
    """
    name, equals, listed = text.partition("=")
    parts = [_SIZE.fullmatch(part.strip()) for part in listed.split(",")]
    sizes = [int(part[1]) for part in parts if part is not None]
    if not equals or not _NAME.fullmatch(name) or len(sizes) < len(parts):
        raise ValueError(f"{text!r} is no family of models; write moonshot-v1=8k,32k,128k")
    if sizes != sorted(set(sizes)):
        raise ValueError(f"the sizes in {text!r} must grow; write moonshot-v1=8k,32k,128k")
    return ContextFamily(name, tuple(sizes))


def parse_alias(text: str) -> tuple[str, str | None]:
    """Read `ALIAS`, another name of the default model, or `ALIAS=MODEL`.

    Raises:
        ValueError: Says what is wrong with it.
    """
    alias, equals, model = text.partition("=")
    if not _NAME.fullmatch(alias) or (equals and not _NAME.fullmatch(model)):
        raise ValueError(f"{text!r} is no alias; write gpt-4o or gpt-4o=MODEL")
    return alias, model or None


def resolve(
    name: str | None,
    known: Sequence[str],
    aliases: Mapping[str, str | None],
    *,
    lenient: bool,
) -> str | None:
    """Return the id that a client means by `name`; an unknown name comes back as it is.

    Args:
        name: As the client wrote it; None leaves the choice to the server.
        known: All ids, the default first.
        aliases: Other names, and what they stand for; None is the default.
        lenient: Accept what Claude Code and its kin ask for: any `claude-*` and `gpt-*` model
            is the default one, and a suffix such as `[1m]` says nothing.
    """
    default = known[0]
    if name is None or name in known:
        return name
    if name in aliases:
        return aliases[name] or default
    if not lenient:
        return name
    plain = name.partition("[")[0] if name.endswith("]") else name
    if _FOREIGN.match(plain):
        return default
    return resolve(plain, known, aliases, lenient=False)


def unknown_model(name: str, models: Sequence[Model]) -> ApiError:
    """Return the refusal of a model that nobody has here."""
    return ApiError(
        404,
        f"The model {name[:200]!r} does not exist here; this server has {models[0].id!r}.",
        param="model",
        code="model_not_found",
    )


class RoutedBackend:
    """Adds families of context sizes to a backend's default model."""

    def __init__(self, backend: Backend, families: Sequence[ContextFamily]) -> None:
        """Answer for every member of `families`."""
        self._backend = backend
        self._families = tuple(families)
        self._of_id = {name: family for family in self._families for name in family.ids}

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._backend.alive

    @property
    def models(self) -> Sequence[Model]:
        """What is behind it, and every member of every family."""
        first = self._backend.models[0]
        members = [
            replace(first, id=name, context_length=_window(family, name, first.context_length))
            for name, family in self._of_id.items()
        ]
        return (*self._backend.models, *members)

    async def prepare(self, request: ChatRequest) -> Generation:
        """Choose the member that answers.

        Raises:
            ApiError: The request cannot be answered, or not within the member's window.
        """
        family = self._of_id.get(request.model or "")
        if family is None:
            return await self._backend.prepare(request)
        limit = self._backend.models[0].context_length
        plain = replace(request, model=None)
        prompt_tokens = await self._backend.count_tokens(plain)
        chosen = route(family, request, prompt_tokens, limit)
        sampling = replace(request.sampling, max_tokens=chosen.max_tokens)
        generation = await self._backend.prepare(replace(plain, sampling=sampling))
        return _Renamed(generation, chosen.id)

    async def count_tokens(self, request: ChatRequest) -> int:
        """Count the tokens of the prompt.

        Raises:
            ApiError: The model is unknown, or the count cannot be had.
        """
        model = None if request.model in self._of_id else request.model
        return await self._backend.count_tokens(replace(request, model=model))


@dataclass(frozen=True, slots=True)
class Route:
    """Which member of a family answers, and with how many tokens at most."""

    id: str
    max_tokens: int


def route(family: ContextFamily, request: ChatRequest, prompt_tokens: int, limit: int) -> Route:
    """Choose a member for a prompt of `prompt_tokens`; `limit` is the model's own window.

    Raises:
        ApiError: 400, prompt and answer exceed the member, or the largest one.
    """
    asked = request.sampling.max_tokens
    if request.model == f"{family.name}-auto":
        total = prompt_tokens + (DEFAULT_ANSWER if asked is None else asked)
        size = family.choose(total, limit)
        if size is None and asked is None:  # room for less than the default is room all the same
            size = family.choose(prompt_tokens + 1, limit)
    else:
        size = next(size for size in family.sizes if family.member(size) == request.model)
    window = family.window(family.sizes[-1] if size is None else size, limit)
    if prompt_tokens + (1 if asked is None else asked) > window:
        raise _overflow(request, prompt_tokens, window)
    assert size is not None
    return Route(family.member(size), window - prompt_tokens if asked is None else asked)


def _overflow(request: ChatRequest, prompt_tokens: int, window: int) -> ApiError:
    room = window - prompt_tokens
    field = request.prompt_field if room < 1 else request.limit_field
    asked = request.sampling.max_tokens
    answer = "" if asked is None else f" and {asked} for the answer"
    advice = "shorten the conversation" + (f" or ask for at most {room}" if room > 0 else "")
    return ApiError(
        400,
        f"{field}: {request.model} holds at most {window} tokens, but the request needs "
        f"{prompt_tokens} for the messages and tools{answer}; {advice}.",
        param=field,
        code="context_length_exceeded",
        overflow=Overflow(prompt_tokens, asked, window),
    )


def _window(family: ContextFamily, name: str, limit: int) -> int:
    sizes = [size for size in family.sizes if family.member(size) == name]
    return family.window((sizes or family.sizes)[-1], limit)


@dataclass(frozen=True, slots=True)
class _Renamed:
    """A generation that says another model's id."""

    generation: Generation
    model: str

    @property
    def warnings(self) -> Sequence[str]:
        return self.generation.warnings

    def events(self) -> AsyncGenerator[tuple[int, Event], None]:
        return self.generation.events()
