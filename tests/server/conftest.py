"""A scripted model behind the engine's interface, and a real engine with random weights."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import torch
import uvicorn
from fastapi import FastAPI
from openai import OpenAI

from openk2.engine.engine import Engine
from openk2.engine.request import Token
from openk2.engine.runner import TorchRunner
from openk2.engine.sampler import Mask
from openk2.model import weights
from openk2.model.config import K2Config
from openk2.model.transformer import Transformer
from openk2.server.app import create_app
from openk2.server.heavy import HeavyBackend
from openk2.server.local.backend import LocalBackend, TokenSource
from openk2.server.local.raw import RawBackend
from openk2.text.tokenizer import Tokenizer
from openk2.types import Sampling

NANO = Path(__file__).parents[2] / "openk2" / "assets" / "nano"


@dataclass
class Script:
    """Answers every prompt with the same tokens, one per event-loop turn."""

    ids: Sequence[int]
    max_len: int = 4096
    alive: bool = True
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    samplings: list[Sampling] = field(default_factory=list)
    closed: int = 0
    failure: Exception | None = None
    """Raised in place of the last token."""

    def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, mask: Mask | None = None
    ) -> ScriptStream:
        self.prompts.append(tuple(prompt_ids))
        self.samplings.append(sampling)
        return ScriptStream(self, sampling.max_tokens or len(self.ids))


class ScriptStream:
    def __init__(self, script: Script, limit: int) -> None:
        self.script = script
        self.limit = limit

    async def __aiter__(self) -> AsyncIterator[Token]:
        ids = self.script.ids[: self.limit]
        for count, token in enumerate(ids, start=1):
            await asyncio.sleep(0)
            if count == len(ids) and self.script.failure is not None:
                raise self.script.failure
            if count == len(self.script.ids):
                yield Token(0, token, 0.0, "stop")
            else:
                yield Token(0, token, 0.0, "length" if count == self.limit else None)

    def ready(self) -> list[Token]:
        return []

    async def aclose(self) -> None:
        self.script.closed += 1


def encode(text: str, tokenizer: Tokenizer) -> list[int]:
    """Turn text, in which special tokens stand by name, into what a model would write."""
    for name, token in tokenizer.specials.items():
        before, found, after = text.partition(name)
        if found:
            return [*encode(before, tokenizer), token, *encode(after, tokenizer)]
    return tokenizer.encode(text)


@pytest.fixture(scope="session")
def script(tokenizer: Tokenizer) -> Callable[..., Script]:
    """Make a model that answers `text`, in which special tokens stand by name."""

    def scripted(text: str, tokenizer: Tokenizer = tokenizer) -> Script:
        return Script([*encode(text, tokenizer), tokenizer.im_end])

    return scripted


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(NANO)


@pytest.fixture(scope="session")
def random_model(tokenizer: Tokenizer) -> Transformer:
    config = K2Config(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        n_routed_experts=4,
        num_experts_per_tok=2,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=4,
        v_head_dim=8,
        max_position_embeddings=65536,
        # Large weights keep the logits apart: two batch sizes then choose the same greedy token.
        initializer_range=0.3,
    )
    model = Transformer(config)
    model.reset_parameters(torch.Generator().manual_seed(0))
    _never_write(model, list(tokenizer.specials.values()))
    return model


@torch.no_grad()
def _never_write(model: Transformer, ids: list[int]) -> None:
    """Keep one dimension of the residual stream at 1, and subtract it from the logits of `ids`.

    An answer then ends at a limit or when somebody leaves, never by itself.
    """
    model.embed_tokens.weight[:, 0] = 1
    for name, weight in model.named_parameters():
        if "o_proj" in name or "down" in name:
            weight[..., 0, :] = 0
    model.lm_head.weight[ids, 0] = -1e4


@pytest.fixture(scope="session")
def model_dir(
    random_model: Transformer, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A complete model directory, small and untrained."""
    directory = tmp_path_factory.mktemp("models") / "random"
    weights.save(random_model, directory)
    tokenizer.save(directory)
    return directory


@pytest.fixture(scope="module")
def engine(random_model: Transformer) -> Engine:
    return Engine(TorchRunner(random_model), max_batch=8, max_len=32768, stop_ids=frozenset())


@pytest.fixture(scope="module")
def ending_engine(random_model: Transformer, tokenizer: Tokenizer) -> Engine:
    """An engine with random weights whose answers end where a grammar says so."""
    stops = frozenset((tokenizer.im_end,))
    return Engine(TorchRunner(random_model), max_batch=8, max_len=4096, stop_ids=stops)


@pytest.fixture(scope="session")
def connect(tokenizer: Tokenizer) -> Callable[..., AbstractContextManager[OpenAI]]:
    """Serve a source of tokens over a real socket and give a real client of it."""

    @contextmanager
    def connected(source: TokenSource, tokenizer: Tokenizer = tokenizer) -> Iterator[OpenAI]:
        backend = LocalBackend(source, tokenizer, "nano")
        app = create_app(
            HeavyBackend(backend),
            max_body=backend.max_body,
            raw=RawBackend(backend),
            running=backend.running(),
        )
        with (
            _listen(app) as url,
            OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client,
        ):
            yield client

    return connected


@pytest.fixture(scope="session")
def listen() -> Callable[..., AbstractContextManager[str]]:
    """Serve an application over a real socket; gives the URL of its `/v1`."""
    return _listen


@contextmanager
def _listen(app: FastAPI, http: Literal["auto", "h11"] = "auto") -> Iterator[str]:
    ready = threading.Event()
    config = uvicorn.Config(app, http=http, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def run() -> None:
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            while not (server.started or serving.done()):
                await asyncio.sleep(0.01)
            ready.set()
            await serving

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        assert ready.wait(30)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join()
