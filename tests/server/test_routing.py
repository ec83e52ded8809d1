from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.server.errors import ApiError
from openk2.server.request import ChatRequest, Model
from openk2.server.routing import (
    DEFAULT_ANSWER,
    ContextFamily,
    RoutedBackend,
    parse_alias,
    parse_family,
    resolve,
    route,
)
from openk2.types import Message, Sampling

MOONSHOT = ContextFamily("moonshot-v1", (8, 32, 128))
HI = (Message("user", "hi"),)


def asking(model: str | None, max_tokens: int | None = None) -> ChatRequest:
    return ChatRequest(HI, Sampling(max_tokens=max_tokens), model=model)


def test_a_family_is_read_from_one_argument():
    assert parse_family("moonshot-v1=8k,32k,128k") == MOONSHOT
    assert MOONSHOT.ids == (
        "moonshot-v1-8k",
        "moonshot-v1-32k",
        "moonshot-v1-128k",
        "moonshot-v1-auto",
    )


@pytest.mark.parametrize(
    "text", ["", "a", "a=", "=8k", "a=8", "a=8k,", "a=0k", "a=8k,8k", "a=32k,8k", "a b=8k", "a=-8k"]
)
def test_what_is_no_family_is_one_sentence(text):
    with pytest.raises(ValueError, match="moonshot-v1=8k,32k,128k"):
        parse_family(text)


def test_an_alias_stands_for_the_default_or_for_a_model():
    assert parse_alias("gpt-4o") == ("gpt-4o", None)
    assert parse_alias("fast=nano") == ("fast", "nano")
    for wrong in ("", "=nano", "a b", "a="):
        with pytest.raises(ValueError, match="no alias"):
            parse_alias(wrong)


@pytest.mark.parametrize(
    ("name", "strict", "lenient"),
    [
        (None, None, None),
        ("nano", "nano", "nano"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929", "nano"),
        ("gpt-5", "gpt-5", "nano"),
        ("nano[1m]", "nano[1m]", "nano"),
        ("kimi-k3[1m]", "kimi-k3[1m]", "kimi-k3"),
        ("claude-opus[1m]", "claude-opus[1m]", "nano"),
        ("k", "k-8k", "k-8k"),
        ("best", "nano", "nano"),
        ("k-8k", "k-8k", "k-8k"),
        ("unknown", "unknown", "unknown"),
        ("", "", ""),
    ],
)
def test_a_name_is_resolved_strictly_and_leniently(name, strict, lenient):
    known, aliases = ["nano", "k-8k"], {"best": None, "k": "k-8k"}
    assert resolve(name, known, aliases, lenient=False) == strict
    assert resolve(name, known, aliases, lenient=True) == lenient


@given(st.text(max_size=40), st.booleans())
def test_no_name_breaks_the_resolution(name, lenient):
    assert isinstance(resolve(name, ["nano"], {}, lenient=lenient), str)
    assert resolve(name + "[1m]" * 50, ["nano"], {}, lenient=lenient) is not None


families = st.builds(
    ContextFamily, st.just("k"), st.sets(st.integers(1, 200), min_size=1).map(sorted).map(tuple)
)


@given(
    families,
    st.integers(1, 300_000),
    st.none() | st.integers(1, 100_000),
    st.integers(1, 300_000),
    st.data(),
)
def test_the_route_is_the_smallest_member_that_holds_it(family, prompt, asked, limit, data):
    model = data.draw(st.sampled_from(family.ids))
    needed = prompt + (asked or 1)
    fixed = [size for size in family.sizes if f"k-{size}k" == model]
    fits = [size for size in fixed or family.sizes if needed <= min(size * 1024, limit)]
    if not fits:
        with pytest.raises(ApiError) as caught:
            route(family, asking(model, asked), prompt, limit)
        assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")
        assert caught.value.param in ("messages", "max_tokens")
        return
    chosen = route(family, asking(model, asked), prompt, limit)
    size = next(size for size in family.sizes if f"k-{size}k" == chosen.id)
    window = min(size * 1024, limit)
    assert prompt + chosen.max_tokens <= window
    assert chosen.max_tokens == asked or (asked is None and chosen.max_tokens == window - prompt)
    if fixed:
        assert chosen.id == model
    elif asked is not None:
        assert size == min(fits)
    else:
        comfortable = [s for s in fits if prompt + DEFAULT_ANSWER <= min(s * 1024, limit)]
        assert size == min(comfortable or fits)


@pytest.mark.parametrize(
    ("prompt", "asked", "size"), [(8191, 1, 8), (8191, 2, 32), (1, 32767, 32), (131071, 1, 128)]
)
def test_the_borders_are_multiples_of_1024(prompt, asked, size):
    chosen = route(MOONSHOT, asking("moonshot-v1-auto", asked), prompt, 10**6)
    assert chosen.id == f"moonshot-v1-{size}k"


@dataclass
class Counting:
    """A backend whose every prompt has `tokens` tokens."""

    tokens: int = 9000
    alive: bool = True
    models: tuple[Model, ...] = (Model("nano", 100_000, 0),)
    seen: list[ChatRequest] = field(default_factory=list)
    model: str = "nano"
    warnings: tuple[str, ...] = ("simplified",)

    async def prepare(self, request: ChatRequest) -> Any:
        self.seen.append(request)
        return self

    async def count_tokens(self, request: ChatRequest) -> int:
        assert request.model in (None, "nano")
        return self.tokens


def test_the_member_that_answers_is_named():
    inner = Counting()
    backend = RoutedBackend(inner, [MOONSHOT])
    generation = asyncio.run(backend.prepare(asking("moonshot-v1-auto", 10)))
    assert (generation.model, generation.warnings) == ("moonshot-v1-32k", ("simplified",))
    assert inner.seen == [asking(None, 10)]
    plain = asking("nano", 10)
    assert asyncio.run(backend.prepare(plain)) is inner
    assert inner.seen[-1] == plain
    assert asyncio.run(backend.count_tokens(asking("moonshot-v1-8k"))) == 9000


def test_a_fixed_member_has_its_own_window():
    inner = Counting(tokens=8000)
    backend = RoutedBackend(inner, [MOONSHOT])
    asyncio.run(backend.prepare(asking("moonshot-v1-8k")))
    assert inner.seen[-1].sampling.max_tokens == 192
    with pytest.raises(ApiError, match="moonshot-v1-8k holds at most 8192 tokens") as caught:
        asyncio.run(
            backend.prepare(replace(asking("moonshot-v1-8k", 193), limit_field="max_output_tokens"))
        )
    assert caught.value.param == "max_output_tokens"
    inner.tokens = 8192
    with pytest.raises(ApiError, match="shorten the conversation") as caught:
        asyncio.run(backend.prepare(asking("moonshot-v1-8k")))
    assert caught.value.param == "messages"


def test_members_are_listed_with_their_windows():
    backend = RoutedBackend(Counting(), [MOONSHOT])
    assert [(model.id, model.context_length) for model in backend.models] == [
        ("nano", 100_000),
        ("moonshot-v1-8k", 8192),
        ("moonshot-v1-32k", 32768),
        ("moonshot-v1-128k", 100_000),
        ("moonshot-v1-auto", 100_000),
    ]
