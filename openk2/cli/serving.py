"""`openk2 serve` and `openk2 chat`.

In: a model directory or a URL, and settings. Out: a server, or a conversation.
Must not know: how a model computes, or what a client sends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from openk2.cli.tree import SHIPPED_MODEL, app, fail, share_cores

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Sequence

    from openk2.engine.engine import Engine
    from openk2.server.request import Backend
    from openk2.server.routing import ContextFamily
    from openk2.server.upstream.backend import UpstreamBackend
    from openk2.text.tokenizer import Tokenizer

# Options that several commands share ------------------------------------------------------------

ModelOption = Annotated[
    Path, typer.Option("--model", help="Model directory.", show_default="the shipped nano model")
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads.", show_default="one per core")
]
ContextOption = Annotated[
    int | None,
    typer.Option(min=2, help="Longest conversation in tokens.", show_default="what fits in memory"),
]
ThinkingOption = Annotated[
    bool,
    typer.Option(
        "--thinking", help="The model is K2 Thinking: reasoning of the running task stays in view."
    ),
]
WeightsOption = Annotated[
    Literal["auto", "mapped", "tiled"],
    typer.Option(
        help="mapped weights stay on disk until a token needs them; tiled ones are copied into "
        "memory for the compiled kernels, several times as fast; auto tiles up to 2 GB on a CPU."
    ),
]
DraftOption = Annotated[
    Path | None,
    typer.Option(
        "--draft-model",
        metavar="DIR",
        help="A smaller model of the same tokenizer that proposes tokens; answers stay the same.",
        show_default="what the answer repeats is proposed",
    ),
]
DeviceOption = Annotated[
    Literal["cpu", "cuda"] | None,
    typer.Option(help="Where the model runs.", show_default="a GPU if there is one"),
]


# Options of serve alone -------------------------------------------------------------------------

AliasOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[=MODEL]", help="Another name of a model, by default of the first one."
    ),
]
FamilyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=8k,32k,...",
        help="Serve the model as NAME-8k, NAME-32k, ..., each with that context window, and as "
        "NAME-auto, which takes the smallest that fits.",
    ),
]
IsolateOption = Annotated[
    bool,
    typer.Option(
        "--isolate-sessions",
        help="Sessions that a client names do not share what is in the cache.",
    ),
]
SigningKeyOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Key for what clients keep for the server, such as its own reasoning: with it, "
        "sessions go on after a restart. Made if the file is not there.",
        show_default="a key of this process",
    ),
]
UpstreamOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Pass requests on to this OpenAI-compatible server."),
]
UpstreamModelOption = Annotated[
    str | None,
    typer.Option(help="Model of --upstream.", show_default="the one that a client asks for"),
]
UpstreamKeyOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Environment variable with the key of --upstream."),
]
UpstreamKindOption = Annotated[
    Literal["auto", "openai", "moonshot", "vllm", "sglang", "llama.cpp", "llama-cpp-python"],
    typer.Option(help="What --upstream is; auto asks it."),
]


# Serving ----------------------------------------------------------------------------------------

WELCOME = """
openk2 serves {name} at {url}  (Ctrl-C stops it)
openk2 已就绪：模型 {name}，地址 {url}（按 Ctrl-C 停止）

Try it / 试一试:

  curl {url}/chat/completions -H 'Content-Type: application/json' -d '
    {{"model": "{name}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

or in Python, after `pip install openai` / 或用 Python（先运行 `pip install openai`）:

  from openai import OpenAI
  client = OpenAI(base_url="{url}", api_key="none")
  for chunk in client.chat.completions.create(
      model="{name}", messages=[{{"role": "user", "content": "Hello"}}], stream=True
  ):
      print(chunk.choices[0].delta.content or "", end="", flush=True)

or in another terminal / 或在另一个终端:

  {program} chat --base-url {url}
"""


@app.command()
def serve(
    model: ModelOption = SHIPPED_MODEL,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8000,
    max_batch: Annotated[int, typer.Option(min=1, help="Answers written at the same time.")] = 8,
    context: ContextOption = None,
    thinking: ThinkingOption = False,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    weights: WeightsOption = "auto",
    draft_model: DraftOption = None,
    model_alias: AliasOption = None,
    context_family: FamilyOption = None,
    isolate_sessions: IsolateOption = False,
    signing_key_file: SigningKeyOption = None,
    upstream: UpstreamOption = None,
    upstream_model: UpstreamModelOption = None,
    upstream_key_env: UpstreamKeyOption = None,
    upstream_kind: UpstreamKindOption = "auto",
) -> None:
    """Serve a model, or another server's, to OpenAI and Anthropic clients over HTTP."""
    faulthandler.enable()  # a mapped file that somebody cuts short ends the process
    names = _names(model_alias or [], context_family or [])
    signing_key = _signing_key(signing_key_file)
    listener = _listen(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/v1"
    if upstream is not None:
        backend = _upstream(upstream, upstream_model, _key(upstream_key_env), upstream_kind)
        _serve_upstream(listener, url, names, backend, signing_key)
        return
    names.check(name := model.resolve().name)
    engine, tokenizer = load_model(
        model,
        max_batch=max_batch,
        context=context,
        thinking=thinking,
        threads=threads,
        device=device,
        weights=weights,
        draft=draft_model,
    )

    from openk2.engine.thread import EngineThread
    from openk2.server.app import create_app
    from openk2.server.local.backend import LocalBackend
    from openk2.server.local.raw import RawBackend

    welcome = WELCOME.format(name=name, url=url, program=_program(sys.argv[0]))
    with EngineThread(engine) as source:
        backend = LocalBackend(source, tokenizer, name, thinking=thinking, isolate=isolate_sessions)
        api = create_app(
            names.stand_for(backend),
            aliases=names.aliases,
            max_body=backend.max_body,
            key=signing_key,
            raw=RawBackend(backend),
            running=backend.running(),
            on_ready=lambda: print(welcome, flush=True),
        )
        _run(api, listener, on_stop=source.close)


@dataclass(frozen=True, slots=True)
class _Names:
    """Under which names models are served."""

    aliases: dict[str, str | None]
    families: tuple[ContextFamily, ...]

    def check(self, model: str) -> None:
        """End the program if another name stands for a model that is not `model`."""
        if problem := self.problem([model]):
            fail(problem)

    def problem(self, models: Sequence[str]) -> str | None:
        """Say which name stands for a model that nobody has."""
        known = {*models, *(name for family in self.families for name in family.ids)}
        for alias, target in self.aliases.items():
            if target is not None and target not in known:
                there = ", ".join(sorted(known)[:5])
                return f"--model-alias {alias}={target}: there is no model {target}, but {there}."
        return None

    def stand_for(self, backend: Backend) -> Backend:
        from openk2.server.heavy import HeavyBackend
        from openk2.server.routing import RoutedBackend

        return HeavyBackend(RoutedBackend(backend, self.families) if self.families else backend)


def _names(aliases: list[str], families: list[str]) -> _Names:
    from openk2.server.routing import parse_alias, parse_family

    try:
        return _Names(
            dict(parse_alias(text) for text in aliases),
            tuple(parse_family(text) for text in families),
        )
    except ValueError as error:
        fail(f"{error}.")


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    # Never in an option: everybody on the machine can read those.
    if not (key := os.environ.get(variable, "").strip()):
        fail(f"--upstream-key-env: the environment variable {variable} is not set.")
    return key


def _signing_key(path: Path | None) -> bytes | None:
    if path is None:
        return None
    from openk2.server.signing_key import read_or_make_key

    try:
        return read_or_make_key(path)
    except ValueError as error:
        fail(f"--signing-key-file: {error}.")
    except OSError as error:
        fail(f"--signing-key-file: {path}: {error.strerror}.")


def _upstream(url: str, model: str | None, key: str | None, kind: str) -> UpstreamBackend:
    from openk2.server.upstream.backend import UpstreamBackend

    try:
        return UpstreamBackend(url, model=model, key=key, kind=kind)
    except ValueError as error:
        fail(f"--upstream: {error}.")


def _serve_upstream(
    listener: socket.socket,
    url: str,
    names: _Names,
    backend: UpstreamBackend,
    signing_key: bytes | None,
) -> None:
    from openk2.server.app import create_app

    def ready() -> None:
        if backend.failure is not None:
            typer.echo(f"openk2: {backend.failure.message}", err=True)
            if any(names.aliases.values()):
                _say("nobody knows yet whether the models of --model-alias are there.")
        # Only said: the server behind may get the model at any time.
        elif problem := names.problem([model.id for model in backend.models]):
            _say(problem)
        name, program = backend.models[0].id, _program(sys.argv[0])
        print(WELCOME.format(name=name, url=url, program=program), flush=True)

    api = create_app(
        names.stand_for(backend),
        aliases=names.aliases,
        key=signing_key,
        running=backend.running(),
        on_ready=ready,
    )
    _run(api, listener, on_stop=backend.stop)


def _program(started: str) -> str:
    """Say how this program is started from any directory, without an active environment."""
    if Path(started).suffix == ".py":
        return f"{shlex.quote(sys.executable)} -m openk2.cli"
    # The shell may have found it on the PATH; then, too, it was handed a path to run.
    return shlex.quote(str(Path(started).absolute())) if os.sep in started else started


def _run(api: Callable[..., Any], listener: socket.socket, on_stop: Callable[[], None]) -> None:
    """Answer requests until Ctrl-C or a termination signal."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # First, so that open streams end with an error frame and not with a lost connection.
            on_stop()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        api,
        http=_http_protocol(),
        log_level="warning",
        # Neither is looked at here, and each costs every request time.
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it once it has stopped
        Server(config).run(sockets=[listener])


def _http_protocol() -> type[asyncio.Protocol]:
    """Return what reads requests: the fast parser, where it could be installed."""
    from openk2.server.corked import corked

    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol

        return corked(H11Protocol)
    return corked(HttpToolsProtocol)


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before the model is loaded: a mistake should show at once."""
    try:
        # The protocol is what asyncio looks at: without it, answers wait 40 ms for the client's
        # acknowledgement of their first half (Nagle's algorithm).
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Listening is what collides; connections wait in the backlog until the model is warm.
        listener.listen(1024)
    except OSError as error:
        fail(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port.")
    return listener


def load_model(
    directory: Path,
    *,
    max_batch: int,
    context: int | None,
    thinking: bool,
    threads: int | None,
    device: str | None,
    weights: Literal["auto", "mapped", "tiled"],
    draft: Path | None,
) -> tuple[Engine, Tokenizer]:
    """Load a model directory, or end the program with what is wrong with it."""
    from openk2.engine.compiling import compiling_ahead
    from openk2.text.template import check_tokenizer
    from openk2.text.tokenizer import Tokenizer

    if not directory.is_dir():
        hint = "; openk2 reads directories, not GGUF files" if directory.suffix == ".gguf" else ""
        fail(f"there is no model directory {directory}{hint}")
    try:
        # First, because it is quick to say that it is none of ours.
        tokenizer = Tokenizer.load(directory)
        check_tokenizer(tokenizer, thinking=thinking)

        share_cores()
        kernels = device != "cuda" and weights != "mapped"
        with _without_collecting(), compiling_ahead(_say, kernels=kernels):
            import torch

            from openk2.engine.loading import load_engine

            if threads is not None:
                torch.set_num_threads(threads)
            has_gpu = torch.cuda.is_available()
            if device == "cuda" and not has_gpu:
                fail("PyTorch finds no CUDA GPU here; leave --device out to run on the CPU.")
            engine, note = load_engine(
                directory,
                # A published config.json names [EOS], but a turn ends with <|im_end|>.
                stop_ids=frozenset((tokenizer.im_end, tokenizer.eos)),
                vocab_size=tokenizer.vocab_size,
                max_batch=max_batch,
                context=context,
                device=device or ("cuda" if has_gpu else "cpu"),
                threads=threads,
                weights=weights,
                draft=draft,
            )
    except (OSError, ValueError) as error:
        fail(f"cannot load the model in {directory}: {error}")
    if note is not None:
        _say(note)
    return engine, tokenizer


def _say(line: str) -> None:
    typer.echo(f"openk2: {line}", err=True)


@contextlib.contextmanager
def _without_collecting() -> Generator[None]:
    """Do not look for garbage: none of what starts the program is, and looking takes a while."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


# Talking ----------------------------------------------------------------------------------------


@app.command()
def chat(
    model: ModelOption = SHIPPED_MODEL,
    base_url: Annotated[
        str | None, typer.Option(help="Talk to this OpenAI-compatible server instead.")
    ] = None,
    model_name: Annotated[str | None, typer.Option(help="Model to ask for at --base-url.")] = None,
    api_key: Annotated[
        str, typer.Option(envvar="OPENAI_API_KEY", help="Key for --base-url.", show_default=False)
    ] = "none",
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 is deterministic.")] = 0.6,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer.")] = None,
    context: ContextOption = None,
    thinking: ThinkingOption = False,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    weights: WeightsOption = "auto",
    draft_model: DraftOption = None,
) -> None:
    """Talk to a model in the terminal."""
    from openk2.server.terminal import local_answerer, remote_answerer, talk
    from openk2.types import Sampling

    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    if base_url is not None:
        talk(remote_answerer(base_url, model_name, sampling, api_key), system)
        return
    engine, tokenizer = load_model(
        model,
        max_batch=1,
        context=context,
        thinking=thinking,
        threads=threads,
        device=device,
        weights=weights,
        draft=draft_model,
    )

    from openk2.engine.thread import EngineThread
    from openk2.server.local.backend import LocalBackend

    with EngineThread(engine) as source:
        backend = LocalBackend(source, tokenizer, model.name, thinking=thinking)
        talk(local_answerer(backend, sampling), system)
