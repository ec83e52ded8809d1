"""The command tree: every `openk2` command, its options and its help.

In: command-line arguments. Out: calls into the rooms.
Must not know: how anything works. Imports of rooms stay inside the commands, so that `--help`
answers at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
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
    from collections.abc import Callable, Generator

    from openk2.engine.engine import Engine
    from openk2.model.inspect import Inspection
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
    context: ContextOption = None,
    thinking: ThinkingOption = False,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
) -> None:
    """Serve a model to OpenAI clients over HTTP."""
    listener = _listen(host, port)
    engine, tokenizer = _load(
        model,
        max_batch=max_batch,
        context=context,
        thinking=thinking,
        threads=threads,
        device=device,
    )

    from openk2.engine.thread import EngineThread
    from openk2.server.app import create_app

    name = model.resolve().name
    shown_host = f"[{host}]" if ":" in host else host
    url = f"http://{shown_host}:{listener.getsockname()[1]}/v1"
    welcome = WELCOME.format(name=name, url=url, program=_program(sys.argv[0]))
    with EngineThread(engine) as source:
        api = create_app(
            source,
            tokenizer,
            name,
            thinking=thinking,
            on_ready=lambda: print(welcome, flush=True),
        )
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
    directory: Path,
    *,
    max_batch: int,
    context: int | None,
    thinking: bool,
    threads: int | None,
    device: str | None,
) -> tuple[Engine, Tokenizer]:
    from openk2.text.template import render
    from openk2.text.tokenizer import Tokenizer
    from openk2.types import Message

    try:
        # First, because it is quick to say that this is no model directory.
        tokenizer = Tokenizer.load(directory)
        spoken = [Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "Bye")]
        render(spoken, (), tokenizer, thinking=thinking)  # it has every token of the template

        import torch

        from openk2.engine.loading import load_engine

        if threads is not None:
            torch.set_num_threads(threads)
        has_gpu = torch.cuda.is_available()
        if device == "cuda" and not has_gpu:
            _fail("PyTorch finds no CUDA GPU here; leave --device out to run on the CPU.")
        engine, note = load_engine(
            directory,
            # A published config.json names [EOS], but a turn ends with <|im_end|>.
            stop_ids=frozenset((tokenizer.im_end, tokenizer.eos)),
            vocab_size=tokenizer.vocab_size,
            max_batch=max_batch,
            context=context,
            device=device or ("cuda" if has_gpu else "cpu"),
        )
    except (OSError, ValueError) as error:
        _fail(f"cannot load the model in {directory}: {error}; name another with --model.")
    if note is not None:
        typer.echo(f"openk2: {note}", err=True)
    return engine, tokenizer


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
) -> None:
    """Talk to a model in the terminal."""
    from openk2.server.terminal import local_answerer, remote_answerer, talk
    from openk2.types import Sampling

    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    if base_url is not None:
        talk(remote_answerer(base_url, model_name, sampling, api_key), system)
        return
    engine, tokenizer = _load(
        model, max_batch=1, context=context, thinking=thinking, threads=threads, device=device
    )

    from openk2.engine.thread import EngineThread

    with EngineThread(engine) as source:
        talk(local_answerer(source, tokenizer, sampling, thinking=thinking), system)


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


@app.command()
def inspect(
    directory: Annotated[Path, typer.Argument(help="Model directory; shards may be missing.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every tensor and look for NaN and infinity.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what a model directory holds, what it lacks, and whether it would load.

    Only config.json, the tokenizer, the index and the safetensors headers are read, so a directory
    of a terabyte takes seconds; pickle files and Python code are never opened. --verify reads
    everything. The exit status is 0 when the directory would load and 1 when it would not.

        openk2 inspect ~/models/Kimi-K2-Instruct
    """
    from openk2.model import inspection_text
    from openk2.model.config import ConfigError
    from openk2.model.inspect import inspect as look

    try:
        found = look(directory, _vocabulary(directory))
    except ConfigError as error:
        if as_json:
            typer.echo(json.dumps({"loads": False, "problems": [str(error)]}))
        typer.echo(f"openk2: {error}", err=True)
        raise typer.Exit(1) from None
    if verify:
        _verify(found)
    if as_json:
        typer.echo(json.dumps(inspection_text.plain(found)))
    else:
        typer.echo("\n".join(inspection_text.lines(found)))
    if not found.loads:
        raise typer.Exit(1)


def _vocabulary(directory: Path) -> int | str:
    """Return the size of a directory's vocabulary, or why it has none."""
    from openk2.text.tokenizer import CONFIG_FILE, RANKS_FILE, Tokenizer

    for name in (RANKS_FILE, CONFIG_FILE):
        if not (directory / name).is_file():
            return f"{directory} has no {name}, and so no tokenizer"
    try:
        return Tokenizer.load(directory).vocab_size
    except (OSError, ValueError) as error:
        return f"the tokenizer cannot be used: {error}"


def _verify(found: Inspection) -> None:
    from openk2.model.verify import verify

    total = sum(entry.nbytes for entry in found.entries.values())
    with typer.progressbar(length=total, label="verifying", file=sys.stderr) as bar:
        for finding in verify(found.entries, bar.update):
            (found.problems if finding.is_refused else found.notes).append(str(finding))
    found.notes.append(f"every tensor was read: {total:,} bytes")


# Other tools' formats ---------------------------------------------------------------------------

export = typer.Typer(
    help="Write a model for other tools.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(export, name="export")


@export.command("gguf")
def export_gguf(
    source: Annotated[Path, typer.Argument(help="Model directory.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.gguf", help="File to write.")],
    format: Annotated[
        Literal["f32", "f16", "q8_0", "q4_0"],
        typer.Option(help="What matrices are stored as. q4_0: routed experts; the others q8_0."),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON.")
    ] = False,
) -> None:
    """Write one file for llama.cpp and what is built on it.

    q8_0 is nearly lossless. q4_0 keeps the experts of an INT4 checkpoint (Kimi K2 Thinking) as
    they are, bit for bit; of any other checkpoint it rounds them. f16 and f32 are for further
    conversion. Memory does not grow with the model.
    """
    try:
        from openk2.export.gguf import export_gguf as write

        with _bytes_bar() as advance:
            done = write(source, out, format=format, force=force, on_progress=advance)
    except ModuleNotFoundError as error:
        _fail(f"{error}; install what exporting needs: pip install 'openk2[export]'")
    except (OSError, ValueError) as error:
        _fail(f"cannot export {source}: {error}")
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(done)))
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(done.tensors.items()))
    typer.echo(f"{out}: {done.nbytes:,} bytes, {sum(done.tensors.values())} tensors ({kinds})")
    if done.fallback:
        typer.echo(f"in f16, for their rows are no multiple of 32: {', '.join(done.fallback)}")
    if done.options:
        typer.echo(
            "llama.cpp does not read this model's YaRN betas from a file: "
            f"start it with {done.options}"
        )


@export.command("hf")
def export_hf(
    source: Annotated[Path, typer.Argument(help="Model directory, in any stored form.")],
    out: Annotated[Path, typer.Argument(help="Directory to write; new or empty.")],
    format: Annotated[
        Literal["bf16", "f32", "f16", "fp8", "int4"] | None,
        typer.Option(
            help="Number format: fp8 as Kimi K2 is published, int4 as Kimi K2 Thinking.",
            show_default="as stored",
        ),
    ] = None,
    shard_size: Annotated[str, typer.Option(help="Largest file, as 500MB.")] = "5GB",
    with_tokenizer: Annotated[
        bool, typer.Option("--tokenizer/--no-tokenizer", help="Write the tokenizer, too.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON.")
    ] = False,
) -> None:
    """Write a directory that Hugging Face's own classes load, without remote code.

    One weight at a time is in memory, so a model of any size can be written. To turn a published
    FP8 checkpoint into bfloat16: openk2 export hf Kimi-K2-Instruct k2-bf16 --format bf16
    """
    from openk2.export import hf

    try:
        with _bytes_bar() as advance:
            written = hf.export_hf(
                source,
                out,
                format=format,
                shard_bytes=hf.parse_size(shard_size),
                with_tokenizer=with_tokenizer,
                on_progress=advance,
            )
    except (OSError, ValueError) as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(written)))
        return
    typer.echo(f"{out}: {len(written.files)} files with {written.nbytes:,} bytes of weights")
    if written.left_out:
        typer.echo(f"left out {len(written.left_out)} tensors that config.json does not ask for")


@contextlib.contextmanager
def _bytes_bar() -> Generator[Callable[[int, int], None]]:
    """Give a function that shows how many bytes of all are done; silent without a terminal."""
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def advance(done: int, total: int) -> None:
            if not bars and sys.stderr.isatty():
                bar = typer.progressbar(length=total, label="writing", file=sys.stderr)
                bars.append(stack.enter_context(bar))
            for bar in bars:
                bar.update(done - bar.pos)

        yield advance


# What does not fit here -------------------------------------------------------------------------


PlanModelOption = Annotated[
    str, typer.Option("--model", help="nano, small, k2, a model directory or its config.json.")
]
TaskOption = Annotated[
    Literal["train", "serve", "rl"],
    typer.Option(help="What the GPUs are for; rl trains and serves on the same ones in turn."),
]
GpuOption = Annotated[Literal["h800", "h100", "h200", "b200"], typer.Option(help="Which GPU.")]
FormatOption = Annotated[
    Literal["bf16", "fp8", "int4"],
    typer.Option("--format", help="Weights that are served; training is in BF16."),
]
PlanContextOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Tokens of a sequence.", show_default="train 4096, rl 16384, serve 32768"
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Sequences of a training step, or at the same time in one engine.",
        show_default="train 2^26 tokens, else 16",
    ),
]
MicroBatchOption = Annotated[
    int, typer.Option(min=1, help="Sequences that a rank trains on in one pass.")
]
RecomputeOption = Annotated[
    Literal["report", "none"],
    typer.Option(
        help="report: computed again, kept in FP8 or sent to RAM as in K2. none: all kept in BF16."
    ),
]
OffloadOption = Annotated[
    bool, typer.Option("--offload-optimizer", help="Keep optimizer states in the node's RAM.")
]
PipelineOption = Annotated[
    int | None, typer.Option(min=1, help="Pipeline stages.", show_default="16, small models 1")
]
ExpertsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Ranks that share experts in training.", show_default="16, small models 1"
    ),
]
EngineGpusOption = Annotated[
    int | None, typer.Option(min=1, help="GPUs of one engine.", show_default="the fewest that fit")
]
AttentionOption = Annotated[
    Literal["tp", "dp"] | None,
    typer.Option(
        help="tp: heads are divided over an engine. dp: every GPU has answers of its own.",
        show_default="the faster that fits",
    ),
]
MfuOption = Annotated[
    float,
    typer.Option(
        min=0.01, max=1, help="Share of peak FLOPs; DeepSeek-V3's hours make 0.35, with FP8."
    ),
]
BandwidthOption = Annotated[
    float, typer.Option(min=0.01, max=1, help="Share of memory bandwidth that decoding reaches.")
]
PriceOption = Annotated[
    float | None,
    typer.Option(min=0, help="USD.", show_default="H800 2, H100 3, H200 4, B200 5.25, assumed"),
]
TokensOption = Annotated[
    float | None,
    typer.Option(min=1, help="Tokens of the whole run.", show_default="train 15.5e12, as K2"),
]


@app.command()
def plan(
    task: TaskOption,
    gpus: Annotated[int, typer.Option(min=1, help="How many GPUs.")],
    gpu: GpuOption = "h800",
    model: PlanModelOption = "k2",
    form: FormatOption = "fp8",
    context: PlanContextOption = None,
    batch: BatchOption = None,
    micro_batch: MicroBatchOption = 1,
    recompute: RecomputeOption = "report",
    offload_optimizer: OffloadOption = False,
    pp: PipelineOption = None,
    ep: ExpertsOption = None,
    engine_gpus: EngineGpusOption = None,
    attention: AttentionOption = None,
    mfu: MfuOption = 0.30,
    bandwidth_utilisation: BandwidthOption = 0.60,
    price_per_gpu_hour: PriceOption = None,
    tokens: TokensOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Say what a model needs of GPUs: memory, layout, communication, time and price.

    For example: openk2 plan --model k2 --task train --gpus 256 --gpu h800
    """
    from openk2.plan import report
    from openk2.plan.plan import make, read_model
    from openk2.plan.request import Request

    request = Request(
        task=task,
        gpus=gpus,
        gpu=gpu,
        form=form,
        context=context or 0,
        batch=batch or 0,
        micro_batch=micro_batch,
        recompute=recompute,
        offload_optimizer=offload_optimizer,
        pipeline=pp,
        experts=ep,
        engine=engine_gpus,
        attention=attention,
        mfu=mfu,
        bandwidth_utilisation=bandwidth_utilisation,
        price_usd_per_hour=price_per_gpu_hour,
        tokens=tokens or 0.0,
    )
    try:
        found = make(read_model(model), request)
    except (OSError, ValueError) as error:
        _fail(str(error))
    typer.echo(json.dumps(report.to_dict(found)) if as_json else report.to_text(found, model))


if __name__ == "__main__":
    main()
