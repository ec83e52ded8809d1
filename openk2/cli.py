"""The command tree: every `openk2` command, its options and its help.

In: command-line arguments. Out: calls into the rooms.
Must not know: how anything works. Imports of rooms stay inside the commands, so that `--help`
answers at once.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from openk2.engine.engine import Engine
    from openk2.text.tokenizer import Tokenizer

SHIPPED_MODEL = Path(__file__).parent / "assets" / "nano"

# rich_markup_mode=None: drawing the help with rich costs more than everything else together.
app = typer.Typer(
    help="The whole Kimi K2 system: train, serve and talk to a K2 model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command that the arguments name."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character shows a mark instead of ending the program.
            stream.reconfigure(errors="replace")
    app()


@app.callback()
def _root() -> None:
    # With a callback, a tree of one command still asks for the command's name.
    pass


def _fail(message: str) -> NoReturn:
    typer.echo(f"openk2: {message}", err=True)
    raise typer.Exit(2)


# Options that several commands share ------------------------------------------------------------

ModelOption = Annotated[
    Path, typer.Option("--model", help="Model directory.", show_default="the shipped nano model")
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads.", show_default="PyTorch's choice")
]
DeviceOption = Annotated[
    Literal["cpu", "cuda"] | None,
    typer.Option(help="Where the model runs.", show_default="a GPU if there is one"),
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
    threads: ThreadsOption = None,
    device: DeviceOption = None,
) -> None:
    """Serve a model to OpenAI clients over HTTP."""
    listener = _listen(host, port)
    engine, tokenizer = _load(model, max_batch=max_batch, threads=threads, device=device)

    from openk2.engine.thread import EngineThread
    from openk2.server.app import create_app

    name = model.resolve().name
    shown_host = f"[{host}]" if ":" in host else host
    url = f"http://{shown_host}:{listener.getsockname()[1]}/v1"
    welcome = WELCOME.format(name=name, url=url, program=_program(sys.argv[0]))
    with EngineThread(engine) as source:
        api = create_app(source, tokenizer, name, on_ready=lambda: print(welcome, flush=True))
        _run(api, listener, on_stop=source.close)


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

    config = uvicorn.Config(api, log_level="warning", timeout_graceful_shutdown=3)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it once it has stopped
        Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before the model is loaded: a mistake should show at once."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Listening is what collides; connections wait in the backlog until the model is warm.
        listener.listen(128)
    except OSError as error:
        _fail(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port.")
    return listener


def _load(
    directory: Path, *, max_batch: int, threads: int | None, device: str | None
) -> tuple[Engine, Tokenizer]:
    from openk2.text.tokenizer import Tokenizer

    try:
        # First, because it is quick to say that this is no model directory.
        tokenizer = Tokenizer.load(directory)

        import torch

        from openk2.engine.engine import Engine
        from openk2.model import weights

        if threads is not None:
            torch.set_num_threads(threads)
        has_gpu = torch.cuda.is_available()
        if device == "cuda" and not has_gpu:
            _fail("PyTorch finds no CUDA GPU here; leave --device out to run on the CPU.")
        model = weights.load(directory, device=device or ("cuda" if has_gpu else "cpu"))
    except (OSError, ValueError) as error:
        _fail(f"cannot load the model in {directory}: {error}; name another with --model.")
    stop_ids = frozenset((tokenizer.im_end, tokenizer.eos))
    max_len = model.config.max_position_embeddings
    return Engine(model, max_batch=max_batch, max_len=max_len, stop_ids=stop_ids), tokenizer


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
    threads: ThreadsOption = None,
    device: DeviceOption = None,
) -> None:
    """Talk to a model in the terminal."""
    from openk2.server.terminal import local_answerer, remote_answerer, talk
    from openk2.types import Sampling

    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    if base_url is not None:
        talk(remote_answerer(base_url, model_name, sampling, api_key), system)
        return
    engine, tokenizer = _load(model, max_batch=1, threads=threads, device=device)

    from openk2.engine.thread import EngineThread

    with EngineThread(engine) as source:
        talk(local_answerer(source, tokenizer, sampling), system)


# Training ---------------------------------------------------------------------------------------

ConfigArgument = Annotated[Path, typer.Argument(help="TOML file of the run, as in configs/.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as loop.steps=100."),
]
PrepareOption = Annotated[bool, typer.Option("--prepare-only", help="Tokenise the data and stop.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Start over instead of resuming.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the last metrics as JSON.")]


@app.command()
def pretrain(
    config: ConfigArgument,
    overrides: SetOption = None,
    prepare_only: PrepareOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on text; an interrupted run resumes where it stopped."""
    from openk2.train.pretrain import PretrainConfig, run

    _train(PretrainConfig, run, config, overrides, prepare_only, fresh, as_json)


@app.command()
def sft(
    config: ConfigArgument,
    overrides: SetOption = None,
    prepare_only: PrepareOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a model on conversations; an interrupted run resumes where it stopped."""
    from openk2.train.sft import SftConfig, run

    _train(SftConfig, run, config, overrides, prepare_only, fresh, as_json)


EXIT_CODES = {"signal": 130, "time": 75}
"""Of a run that stopped early: as of a program that Ctrl-C ended, and EX_TEMPFAIL."""


def _train(
    kind: type[Any],
    run: Callable[..., Any],
    path: Path,
    overrides: list[str] | None,
    prepare_only: bool,
    fresh: bool,
    as_json: bool,
) -> None:
    from openk2 import config as settings
    from openk2.train import shards
    from openk2.train.heap import keep_heap
    from openk2.train.pretrain import check_start

    keep_heap()
    try:
        config = settings.load(kind, path, overrides or [])
    except ValueError as error:
        _fail(str(error))
    try:
        if not prepare_only:  # quick to say, and preparing is not
            check_start(config.model)
        shards.prepare(config.data, lambda line: typer.echo(line, err=True))
        if prepare_only:
            return
        result = run(config, resume=not fresh, show_progress=sys.stderr.isatty())
    except (OSError, ValueError, FloatingPointError) as error:
        _fail(f"{path}: {error}")
    if as_json:
        typer.echo(json.dumps({"step": result.step, "reason": result.reason, **result.metrics}))
    else:
        typer.echo(f"{result.reason} at step {result.step}; see {config.out}/metrics.png")
        if result.reason != "finished":
            typer.echo("type the same command again to go on")
    if result.reason != "finished":  # or a script would go on with half a model
        raise typer.Exit(EXIT_CODES[result.reason])


# Looking into a checkpoint ----------------------------------------------------------------------


# Other tools' formats ---------------------------------------------------------------------------

export = typer.Typer(
    help="Write a model for other tools.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(export, name="export")


# What does not fit here -------------------------------------------------------------------------


if __name__ == "__main__":
    main()
