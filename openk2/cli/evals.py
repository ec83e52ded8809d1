"""`openk2 eval`: benchmarks for any model.

In: names of benchmarks, a model, a folder. Out: answers and a report in the folder.
Must not know: what any benchmark asks, or how it scores.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
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
    WindowOption,
    open_model,
)
from openk2.cli.tree import app, fail

if TYPE_CHECKING:
    from openk2.evals.benchmark import AskSettings, Benchmark
    from openk2.evals.folder import Report

BenchmarksOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Which ones; `all` is every one whose packs are there; --list shows them.",
    ),
]
TasksOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Measure on these tasks: eval.jsonl of `openk2 synth`."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of answers and report; a run there is gone on with."),
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Most cases of each group.", show_default="all")
]
SamplesOption = Annotated[
    int | None,
    typer.Option(min=1, help="Ask each case so often.", show_default="what the benchmark says"),
]
TemperatureOption = Annotated[float, typer.Option(min=0, help="0: the most likely answer.")]
MaxTokensOption = Annotated[
    int | None,
    typer.Option(min=1, help="Most tokens of a turn.", show_default="what the benchmark says"),
]
StepsOption = Annotated[
    int, typer.Option(min=1, help="Most turns of the model for one message of the user.")
]
SeedOption = Annotated[int, typer.Option(help="Of the sample of cases and of what is drawn.")]
ConcurrencyOption = Annotated[int, typer.Option(min=1, help="Most questions at once.")]
DataOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the data packs.")]
AgainstOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Compare with the run in this folder.")
]
RescoreOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Score the answers of this folder again; no model is asked."),
]
ListOption = Annotated[bool, typer.Option("--list", help="Show the benchmarks and end.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@app.command("eval")
def evaluate(
    benchmarks: BenchmarksOption = None,
    tasks: TasksOption = None,
    base_url: BaseUrlOption = None,
    model: ModelNameOption = None,
    api_key_env: KeyOption = "OPENAI_API_KEY",
    dialect: DialectOption = "openai",
    window: WindowOption = None,
    out: OutOption = None,
    limit: LimitOption = None,
    samples: SamplesOption = None,
    temperature: TemperatureOption = 0.0,
    max_tokens: MaxTokensOption = None,
    steps: StepsOption = 20,
    seed: SeedOption = 0,
    concurrency: ConcurrencyOption = 4,
    data: DataOption = Path("data"),
    against: AgainstOption = None,
    rescore: RescoreOption = None,
    list_them: ListOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on benchmarks: answers, scores with intervals, a picture.

    The model is asked over HTTP with --base-url, else it runs in this process. Answers are kept as
    they come: the same command goes on where it was interrupted.
    """
    import asyncio

    from openk2.evals.benchmark import AskSettings

    if list_them:
        _show(as_json=as_json)
        return
    if rescore is not None:
        _print(_report(rescore, data, against, concurrency, tasks), rescore, as_json=as_json)
        return
    if (benchmarks is None and tasks is None) or out is None:
        fail("say what to measure and where: openk2 eval --benchmarks bfcl --out out/eval.")
    settings = AskSettings(
        temperature=temperature, max_tokens=max_tokens, max_steps=steps, seed=seed
    )
    chosen = [*_chosen(benchmarks or "", data), *_of_file(tasks)]
    wanted = _Wanted(chosen, settings, out, data, limit, samples, concurrency)
    try:
        asyncio.run(_ask(wanted, Endpoint(base_url, model, api_key_env, dialect, None, window)))
    except KeyboardInterrupt:
        typer.echo(f"openk2: interrupted; the same command goes on from {out}.", err=True)
        raise typer.Exit(130) from None
    _print(_report(out, data, against, concurrency, tasks), out, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Wanted:
    benchmarks: list[Benchmark]
    settings: AskSettings
    out: Path
    data: Path
    limit: int | None
    samples: int | None
    concurrency: int


def _chosen(names: str, data: Path) -> list[Benchmark]:
    from openk2.evals import registry

    every = names == "all"
    try:
        wanted = [part.strip() for part in names.split(",") if part.strip()]
        found = list(registry.ALL) if every else [registry.find(name) for name in wanted]
    except ValueError as error:
        fail(f"--benchmarks: {error}.")
    ready: list[Benchmark] = []
    for one in found:
        missing = next((data / pack for pack in one.packs if not (data / pack).exists()), None)
        if missing is None:
            ready.append(one)
        elif every:
            typer.echo(f"openk2: {one.name} is left out: it needs {missing}.", err=True)
        else:
            fail(f"{one.name} needs {missing}; --data names the folder of packs.")
    return ready


def _of_file(tasks: Path | None) -> list[Benchmark]:
    from openk2.envs.catalogue import domain
    from openk2.envs.domain import Domain
    from openk2.envs.task import Task
    from openk2.evals.worlds import worlds_of
    from openk2.synth.stages import domain_of

    def open_domain(task: Task) -> Domain:
        return domain_of(task) if "source" in task.meta else domain(task.domain)

    if tasks is None:
        return []
    if not tasks.is_file():
        fail(f"--tasks: there is no file {tasks}; `openk2 synth` writes eval.jsonl.")
    return [worlds_of(tasks, open_domain)]


async def _ask(wanted: _Wanted, endpoint: Endpoint) -> None:
    from openk2.agent.model import ModelError
    from openk2.agent.sandbox.isolation import SandboxMissing
    from openk2.agent.sandbox.process import SandboxFailed
    from openk2.evals.folder import Facts, FolderError, claim
    from openk2.evals.run import EndpointGoneError, choose, collect
    from openk2.text.corpus import DamagedPackError

    try:
        async with open_model(endpoint) as model:
            claim(wanted.out, Facts(model.name, wanted.settings))
            for one in wanted.benchmarks:
                cases = choose(one, wanted.data, limit=wanted.limit, seed=wanted.settings.seed)
                with counted(one.name) as advance:
                    await collect(
                        one, cases, model, wanted.settings, wanted.out,
                        samples=wanted.samples or one.samples, concurrency=wanted.concurrency,
                        on_progress=lambda progress, advance=advance: advance(
                            progress.done,
                            progress.of,
                            f"{progress.failed} not answered" if progress.failed else "",
                        ),
                    )  # fmt: skip
    except (
        FolderError, DamagedPackError, EndpointGoneError, ModelError, SandboxMissing, SandboxFailed
    ) as error:  # fmt: skip
        fail(f"{error}.")


def _report(
    folder: Path, data: Path, against: Path | None, threads: int, tasks: Path | None
) -> Report:
    from openk2.evals import registry
    from openk2.evals.answers import DamagedAnswersError
    from openk2.evals.folder import FolderError, write_report
    from openk2.text.corpus import DamagedPackError

    benchmarks = [*registry.ALL, *_of_file(tasks)]
    try:
        return write_report(folder, data, against, threads=threads, benchmarks=benchmarks)
    except (FolderError, DamagedAnswersError, DamagedPackError, OSError) as error:
        fail(f"{error}.")


def _print(report: Report, folder: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.to_json()))
        return
    for row in report.rows:
        found = row.scores.get(row.headline)
        score = "" if found is None else f"{found.value * 100:5.1f}  "
        score += "" if found is None else f"({found.low * 100:.1f} … {found.high * 100:.1f})"
        change = row.change.get(row.headline)
        moved = "" if change is None else f"  {change.value * 100:+.1f}"
        lost = f"  {row.too_long} too long" if row.too_long else ""
        lost += "".join(f"  {count} {fault}" for fault, count in row.errors.items())
        name = f"{row.benchmark}: {row.group}"
        print(f"{name:<44} {row.cases:>5}  {row.headline:<14} {score}{moved}{lost}")
    print(f"wrote {folder / 'report.md'}, report.json and report.png beside it")


def _show(*, as_json: bool) -> None:
    from openk2.evals import registry

    for one in registry.ALL:
        if as_json:
            print(
                json.dumps(
                    {
                        "name": one.name,
                        "about": one.about,
                        "about_zh": one.about_zh,
                        "headline": one.headline,
                        "licence": one.licence,
                        "source": one.source,
                        "packs": one.packs,
                    },
                    ensure_ascii=False,
                )
            )
        else:
            print(f"{one.name:<16} {one.headline:<16} {one.about}")
            print(f"{'':<33} {one.about_zh}")
