"""`openk2 synth`: conversations with tools, verified by doing them again.

In: domains or the user's own tools. Out: files of conversations. Must not know: how they are made.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openk2.cli.bars import counted
from openk2.cli.endpoint import (
    BaseUrlOption,
    DialectOption,
    Endpoint,
    KeyOption,
    ModelNameOption,
    open_model,
)
from openk2.cli.tree import app, fail

if TYPE_CHECKING:
    from openk2.synth.config import SynthConfig
    from openk2.synth.overlap import Overlap
    from openk2.synth.run import Mapper
    from openk2.synth.stages import Part

group = typer.Typer(invoke_without_command=True, no_args_is_help=False)
app.add_typer(group, name="synth")

DomainsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Domains; `openk2 synth domains` lists them.",
        show_default="all but the held-out ones",
    ),
]
ToolsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Your own tools in place of domains: an MCP tool list or client configuration, "
        "OpenAPI, a Python file, a list in OpenAI's or Anthropic's form.",
    ),
]
CountOption = Annotated[
    int, typer.Option("--count", "-n", min=1, help="Verified conversations to make.")
]
OutOption = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder of the files; a run there is gone on with.")
]
SeedOption = Annotated[int, typer.Option(help="The same seed gives the same files.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Processes; the output is the same.")]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Work on a Ray cluster; `local` starts one."),
]
DataOption = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Data packs; what overlaps with its eval/ is left out."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as thinking=0.5."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
FileArgument = Annotated[Path, typer.Argument(help="A .jsonl file of a run.")]


@group.callback()
def synth(
    context: typer.Context,
    domains: DomainsOption = None,
    tools: ToolsOption = None,
    count: CountOption = 1000,
    out: OutOption = Path("out/synth"),
    seed: SeedOption = 0,
    workers: WorkersOption = 1,
    ray: RayOption = None,
    data: DataOption = Path("data"),
    overrides: SetOption = None,
    base_url: BaseUrlOption = None,
    model: ModelNameOption = None,
    api_key_env: KeyOption = "OPENAI_API_KEY",
    dialect: DialectOption = "openai",
    as_json: JsonOption = False,
) -> None:
    """Make conversations with tools; each is replayed on a fresh world before it is kept.

    With --base-url or --model a language model rewords what users say, fills out the results of
    tools that are only specified, and judges; it can leave conversations out and let none in.
    """
    if context.invoked_subcommand is not None:
        return
    config = _config(domains, count, seed, overrides or [])
    if (data / "tools" / "tool_catalogue.jsonl.zst").is_file():
        config = replace(config, data=str(data))
    if tools is not None:
        config = _with_tools(config, tools, out)
    overlap = _overlap(data, as_json=as_json)
    if base_url is None and model is None:
        _run(config, out, _mapper(workers, ray), overlap, lambda part: part, as_json=as_json)
        return
    endpoint = Endpoint(base_url, model, api_key_env, dialect, None, None)
    with _polishing(endpoint, config) as polish:
        _run(config, out, _mapper(workers, ray), overlap, polish, as_json=as_json)


@contextlib.contextmanager
def _polishing(endpoint: Endpoint, config: SynthConfig) -> Generator[Callable[[Part], Part]]:
    """Hold a language model open for as long as the run takes."""
    import asyncio

    from openk2.synth.llm import Language, polish

    stack = contextlib.AsyncExitStack()
    with asyncio.Runner() as runner:
        model = runner.run(stack.enter_async_context(open_model(endpoint)))
        language = Language(model, config)
        try:
            yield lambda part: runner.run(polish(language, part))
        finally:
            runner.run(stack.aclose())
            done = language.counts
            typer.echo(
                f"openk2: {model.name} reworded {done.reworded} lines ({done.kept_as_it_was} kept "
                f"as they were), filled out {done.enriched} results, judged down "
                f"{done.judged_down}; {done.failed} answers were missing or unreadable.",
                err=True,
            )


def _config(domains: str | None, count: int, seed: int, overrides: list[str]) -> SynthConfig:
    from openk2 import config as settings
    from openk2.envs.catalogue import domain
    from openk2.synth.config import SynthConfig

    names = [part.strip() for part in (domains or "").split(",") if part.strip()]
    given = [f"count={count}", f"seed={seed}", *overrides]
    try:
        for name in names:
            domain(name)
        return replace(settings.load(SynthConfig, overrides=given), domains=tuple(names))
    except KeyError as error:
        fail(f"--domains: {error.args[0]}.")
    except ValueError as error:
        fail(f"{error}.")


_SHOWN = 20
"""Refused tools that are shown; the file has all."""
_MEASURED_ON = 0.15
"""Share of agents with a user's own tools that are kept apart, where the settings say nothing."""


def _with_tools(config: SynthConfig, path: Path, out: Path) -> SynthConfig:
    """Read a user's tools, say what is refused, and keep the rest as the run's first file."""
    import orjson

    from openk2.synth.spec_check import SpecError
    from openk2.synth.specs import load_specs

    try:
        loaded = load_specs(path)
    except SpecError as error:
        fail(f"--tools: {error}.")
    out.mkdir(parents=True, exist_ok=True)
    told = (*loaded.refused, *loaded.notes)
    for where, reason in told[:_SHOWN]:
        typer.echo(f"openk2: left out {where}: {reason}", err=True)
    if len(told) > _SHOWN:
        rest = len(told) - _SHOWN
        typer.echo(f"openk2: and {rest} more; {out / 'refused.jsonl'} has all.", err=True)
    refused = [{"where": where, "reason": reason} for where, reason in told]
    specs = [
        {"name": tool.name, "description": tool.description, "inputSchema": dict(tool.parameters)}
        | ({"outputSchema": loaded.outputs[tool.name]} if tool.name in loaded.outputs else {})
        for tool in loaded.tools
    ]
    for name, rows in (("refused", refused), ("specs", specs)):
        (out / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    if not loaded.tools:
        fail(f"--tools: no tool of {path} can be used: {out / 'refused.jsonl'} says why.")
    typer.echo(f"openk2: {len(loaded.tools)} tools, {len(loaded.refused)} left out.", err=True)
    evaluation = config.evaluation or _MEASURED_ON
    file = str((out / "specs.jsonl").resolve())
    return replace(config, tools_file=file, evaluation=evaluation)


def _mapper(workers: int, ray: str | None) -> Mapper:
    from openk2.synth.run import here
    from openk2.synth.workers import Processes, RayCluster

    if ray is not None:
        try:
            return RayCluster(ray)
        except ModuleNotFoundError:
            fail("--ray: Ray is not installed: pip install 'openk2[scale]'.")
        except ConnectionError as error:
            fail(f"--ray: {error}.")
    return Processes(workers) if workers > 1 else here


def _overlap(data: Path, *, as_json: bool) -> Overlap | None:
    from openk2.synth.overlap import Overlap
    from openk2.text.eval_packs import eval_texts

    if not (data / "eval").is_dir():
        if not as_json:
            note = f"openk2: no evaluation packs in {data}/eval: overlap is not checked."
            typer.echo(note, err=True)
        return None
    return Overlap(eval_texts(data))


def _run(
    config: SynthConfig,
    out: Path,
    mapper: Mapper,
    overlap: Overlap | None,
    polish: Callable[[Part], Part],
    *,
    as_json: bool,
) -> None:
    import time

    from openk2.synth.run import OtherRunError, kept_before, synthesise

    began, at_start = time.monotonic(), kept_before(out)
    with counted("conversations", config.count, show=not as_json) as advance:

        def on_progress(kept: int) -> None:
            advance(kept, note=f"{(kept - at_start) / (time.monotonic() - began):.0f}/s")

        try:
            progress = synthesise(config, out, overlap, mapper, polish, on_progress)
        except (OtherRunError, ValueError) as error:
            fail(f"{error}.")
        except KeyboardInterrupt:
            typer.echo(f"openk2: interrupted; the same command goes on from {out}.", err=True)
            raise typer.Exit(130) from None
    seconds = time.monotonic() - began
    if as_json:
        typer.echo((out / "report.json").read_text(encoding="utf-8").rstrip())
        return
    dropped = sum(progress.rejected.values())
    typer.echo(
        f"{progress.kept} verified conversations in {out / 'train.jsonl'}, {dropped} left out "
        f"(rejected.jsonl says why); {seconds:.0f} s.\n"
        f"Look at some: openk2 synth show {out / 'train.jsonl'}"
    )


@group.command()
def show(
    file: FileArgument = Path("out/synth/train.jsonl"),
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")] = 10,
    kind: Annotated[str | None, typer.Option(help="Only of this kind, as `parallel`.")] = None,
    skip: Annotated[int, typer.Option(min=0, help="How many to pass over first.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show conversations in the terminal."""
    from rich.console import Console

    from openk2.synth.run import read_rows
    from openk2.synth.show import renderables

    if not file.is_file():
        fail(f"there is no file {file}: run openk2 synth first.")
    rows = (row for row in read_rows(file) if kind is None or row.get("kind") == kind)
    console = Console()
    for row in itertools.islice(rows, skip, skip + count):
        if as_json:
            typer.echo(json.dumps(row, ensure_ascii=False))
        elif "messages" not in row:
            console.print_json(data=row)
        else:
            console.print(*renderables(row), sep="\n")


@group.command()
def stage(
    name: Annotated[str, typer.Argument(help="agents, tasks, users, trajectories, verified.")],
    source: Annotated[Path, typer.Argument(help="Rows of the stage before.")],
    target: Annotated[Path, typer.Argument(help="Rows of this stage.")],
    seed: SeedOption = 0,
    overrides: SetOption = None,
) -> None:
    """Run one stage over a file, as if nothing had come after it."""
    import orjson

    from openk2.synth.run import read_rows
    from openk2.synth.stages import STAGES

    if name not in STAGES:
        fail(f"there is no stage {name!r}: it is one of {', '.join(STAGES)}.")
    if not source.is_file():
        fail(f"there is no file {source}.")
    config = _config(None, 1, seed, overrides or [])
    with target.open("wb") as file:
        for row in read_rows(source):
            for made in STAGES[name](row, config):
                file.write(orjson.dumps(made) + b"\n")


@group.command("domains")
def list_domains(as_json: JsonOption = False) -> None:
    """List the hand-written domains."""
    from openk2.envs.catalogue import HELD_OUT, domain, names

    rows = [
        {
            "name": name,
            "what": domain(name).en,
            "tools": len(domain(name).tools),
            "goals": len(domain(name).intents),
            "held_out": name in HELD_OUT,
        }
        for name in names()
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        held = "  (held out: only to measure on)" if row["held_out"] else ""
        typer.echo(f"{row['name']:12} {row['tools']:2} tools  {row['what']}{held}")
