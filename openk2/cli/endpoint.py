"""Which model a command talks to: the options that `agent` and its like share.

In: an address, a name, a key's variable. Out: a `ChatModel`, here or elsewhere.
Must not know: what the model is asked.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from openk2.cli.tree import SHIPPED_MODEL, fail

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from openk2.agent.model import ChatModel, Price

BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Endpoint of the model, up to /v1.",
        show_default="this process",
    ),
]
ModelNameOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Model of --base-url; or the directory of one that this process runs; or a stand-in: "
        "echo, script:FILE, chaos:SEED:...",
        show_default="the endpoint's first; the shipped nano",
    ),
]
KeyOption = Annotated[
    str, typer.Option(metavar="NAME", help="Environment variable with the endpoint's key.")
]
DialectOption = Annotated[
    Literal["openai", "anthropic"], typer.Option(help="What the endpoint speaks.")
]
PricesOption = Annotated[
    str | None,
    typer.Option(
        metavar="IN,CACHED,OUT[,CURRENCY]",
        help="Price of a million tokens.",
        show_default="Kimi's list at Kimi's endpoints",
    ),
]
WindowOption = Annotated[
    int | None,
    typer.Option(min=1024, help="The model's context window.", show_default="what it says"),
]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the options say about the model."""

    base_url: str | None
    """None: a model in this process."""
    model: str | None
    """Its name there; a directory here."""
    key_variable: str
    dialect: Literal["openai", "anthropic"]
    price: Price | None
    window: int | None


def read_price(text: str | None) -> Price | None:
    """Read `IN,CACHED,OUT[,CURRENCY]`, or end the program with how it is written."""
    from openk2.agent.model import Price

    if text is None:
        return None
    parts = text.split(",")
    try:
        prompt, cached, completion = (round(float(part) * 1e6) for part in parts[:3])
        return Price(prompt, cached, completion, *parts[3:4])
    except ValueError:
        fail("--prices: write three numbers, such as 0.60,0.15,2.50 or 4,1,16,CNY.")


@asynccontextmanager
async def open_model(endpoint: Endpoint) -> AsyncGenerator[ChatModel]:
    """Connect to the model, or load it into this process; end it afterwards."""
    if endpoint.base_url is None:
        if stand_in := _stand_in(endpoint.model or ""):
            yield stand_in
            return
        async with _loaded(endpoint) as model:
            yield model
        return
    model = await _connected(endpoint, endpoint.base_url)
    try:
        yield model
    finally:
        await model.close()


def _stand_in(name: str) -> ChatModel | None:
    from openk2.agent.models.stand_in import open_stand_in

    try:
        return open_stand_in(name)
    except ValueError as error:
        fail(f"--model: {error}.")


async def _connected(endpoint: Endpoint, base_url: str) -> ChatModel:
    from openk2.agent.models.anthropic import AnthropicMessages
    from openk2.agent.models.openai import OpenAIChat

    # Never in an option: everybody on the machine can read those.
    key = os.environ.get(endpoint.key_variable, "").strip() or None
    try:
        kind = AnthropicMessages if endpoint.dialect == "anthropic" else OpenAIChat
        return await kind.discover(
            base_url,
            endpoint.model,
            api_key=key,
            context_window=endpoint.window,
            price=endpoint.price,
        )
    except ValueError as error:
        fail(f"--base-url: {error}.")


@asynccontextmanager
async def _loaded(endpoint: Endpoint) -> AsyncGenerator[ChatModel]:
    from openk2.cli.local_chat import LocalChat
    from openk2.cli.serving import load_model
    from openk2.engine.thread import EngineThread
    from openk2.server.local.backend import LocalBackend

    directory = Path(endpoint.model) if endpoint.model else SHIPPED_MODEL
    engine, tokenizer = load_model(
        directory,
        max_batch=4,
        context=endpoint.window,
        thinking=False,
        threads=None,
        device=None,
        weights="auto",
        draft=None,
    )
    with EngineThread(engine) as source:
        backend = LocalBackend(source, tokenizer, directory.name, thinking=False)
        yield LocalChat(backend, endpoint.price)
