"""The model that ships, in this process and behind a real server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from openk2.engine.engine import Engine
from openk2.engine.runner import TorchRunner
from openk2.engine.thread import EngineThread
from openk2.model import weights
from openk2.server.app import create_app
from openk2.server.local.backend import LocalBackend
from openk2.text.tokenizer import Tokenizer

NANO = Path(__file__).parents[3] / "openk2" / "assets" / "nano"


@pytest.fixture(scope="module")
def backend() -> Iterator[LocalBackend]:
    tokenizer = Tokenizer.load(NANO)
    stops = frozenset((tokenizer.im_end,))
    engine = Engine(TorchRunner(weights.load(NANO)), max_batch=4, max_len=1024, stop_ids=stops)
    with EngineThread(engine) as source:
        yield LocalBackend(source, tokenizer, "nano")


@pytest.fixture(scope="module")
def server(backend: LocalBackend) -> Iterator[str]:
    """Serve it; gives the URL without a path."""
    app = create_app(backend, max_body=backend.max_body, running=backend.running())
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    server, ready = uvicorn.Server(config), threading.Event()
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
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
