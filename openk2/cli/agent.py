"""`openk2 agent`, `openk2 replay` and `openk2 runs`.

In: a goal, a model, what the agent may use. Out: a run in its folder, seen as it happens.
Must not know: how the loop, the tools or the journal work.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openk2.cli.endpoint import (
    BaseUrlOption,
    DialectOption,
    Endpoint,
    KeyOption,
    ModelNameOption,
    PricesOption,
    WindowOption,
    open_model,
    read_price,
)
from openk2.cli.tree import app, fail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from openk2.agent.calls import Answer, Approve, Question
    from openk2.agent.journal import Journal
    from openk2.agent.loop import Live, Result, Settings
    from openk2.agent.model import ChatModel
    from openk2.agent.outfit import Outfit
    from openk2.agent.view import View

RunsOption = Annotated[
    Path | None, typer.Option("--runs", metavar="DIR", help="Where runs are kept.",
    show_default="~/.local/state/openk2/runs"),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="JSON Lines instead of text.")]


GoalArgument = Annotated[
    str | None, typer.Argument(help="What to do; `-` reads it from the input.")
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder that it works in.", show_default="a new one"),
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Answer every question with yes; rules still deny.")
]
RuleOption = Annotated[
    list[str] | None,
    typer.Option(metavar="RULE", help="Such as 'allow host docs.python.org'; can be repeated."),
]
RulesOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Rules, one per line.")]
ResumeOption = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="Go on with a run (its id, or `last`); GOAL is more to do."),
]
StepsOption = Annotated[
    int | None, typer.Option(min=1, help="Most answers of the model.", show_default="300")
]
TokensOption = Annotated[int | None, typer.Option(min=1, help="Most tokens in all.")]
CostOption = Annotated[
    float | None, typer.Option(min=0, help="Most money, in the price's currency.")
]
MinutesOption = Annotated[float | None, typer.Option(min=0, help="Most time.")]
CorpusOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Offline corpus for web_search and fetch.")
]
SearxngOption = Annotated[
    str | None, typer.Option(metavar="URL", help="SearXNG instance for web_search.")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="No network for any tool.")]
McpOption = Annotated[
    Path | None, typer.Option("--mcp", metavar="FILE", help="MCP servers (mcpServers JSON).")
]
UnsafeOption = Annotated[
    bool, typer.Option("--unsafe", help="Run code even where nothing isolates it well.")
]
HeavyOption = Annotated[
    int | None,
    typer.Option(min=2, max=32, help="Make so many attempts, and one that reflects on them."),
]


@app.command()
def agent(
    goal: GoalArgument = None,
    base_url: BaseUrlOption = None,
    model: ModelNameOption = None,
    api_key_env: KeyOption = "OPENAI_API_KEY",
    dialect: DialectOption = "openai",
    workspace: WorkspaceOption = None,
    yes: YesOption = False,
    rule: RuleOption = None,
    rules: RulesOption = None,
    resume: ResumeOption = None,
    steps: StepsOption = None,
    max_tokens: TokensOption = None,
    max_cost: CostOption = None,
    max_minutes: MinutesOption = None,
    prices: PricesOption = None,
    window: WindowOption = None,
    corpus: CorpusOption = None,
    searxng: SearxngOption = None,
    offline: OfflineOption = False,
    mcp_config: McpOption = None,
    unsafe: UnsafeOption = False,
    heavy: HeavyOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand over a task: plan, call tools for hundreds of steps, leave artefacts and a journal.

    What happens is shown as it happens, asked where a rule says so, and written to a journal that
    survives anything: `openk2 agent --resume last` goes on, `openk2 replay last` checks it.
    """
    import asyncio

    _require_agent()
    wanted = _Wanted(
        goal=_read_goal(goal, needed=resume is None),
        endpoint=Endpoint(base_url, model, api_key_env, dialect, read_price(prices), window),
        workspace=workspace,
        limits={
            "steps": steps,
            "tokens": max_tokens,
            "cost": None if max_cost is None else round(max_cost * 1e6),
            "seconds": None if max_minutes is None else max_minutes * 60,
        },
        rules=_read_rules(rules, rule or []),
        yes=yes,
        tools=_Tools(corpus, searxng, offline, mcp_config, unsafe),
        json=as_json,
        heavy=heavy,
    )
    try:
        result = asyncio.run(_run(wanted, _folder(runs, resume), resumed=resume is not None))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(0 if result.status in ("complete", "answered") else 1)


@app.command()
def replay(
    run: Annotated[str, typer.Argument(help="A run's id, its beginning, its folder, or `last`.")],
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a journal again with no model and no network, and check that all is the same."""
    import asyncio

    from openk2.agent.canonical import to_json
    from openk2.agent.journal import Diverged, JournalError
    from openk2.agent.replay import replay_all
    from openk2.agent.runs import default_folder, find

    try:
        found = asyncio.run(replay_all(find(runs or default_folder(), run)))
    except (JournalError, Diverged) as error:
        fail(f"{error}.")
    for name, one in found.items():
        if as_json:
            print(json.dumps({"run": name, **to_json(one)}))
            continue
        ending = f"interrupted: {one.interrupted}" if one.result is None else one.result.status
        print(f"{name}: {one.records} records the same in {one.seconds:.2f} s, {ending}")
        print(f"  {one.hash}")


@app.command()
def runs(
    run: Annotated[str | None, typer.Argument(help="Show this run again.")] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write RUN as a trace for Perfetto or chrome://tracing."),
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the agent's runs, or show one again."""
    from openk2.agent.canonical import to_json
    from openk2.agent.journal import NAME, JournalError, read
    from openk2.agent.runs import default_folder, find, list_runs
    from openk2.agent.trace import chrome_trace
    from openk2.agent.view import JsonView, LineView

    folder = runs or default_folder()
    if run is None:
        for one in list_runs(folder):
            began = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.began))
            goal = " ".join(one.goal.split())[:60]
            if as_json:
                print(json.dumps(to_json(one)))
            else:
                print(f"{one.id}  {began}  {one.status:<11}  {one.steps:>4} steps  {goal}")
        return
    try:
        records, _ = read(find(folder, run) / NAME)
    except JournalError as error:
        fail(f"{error}.")
    if trace is not None:
        trace.write_text(json.dumps(chrome_trace(records)), encoding="utf-8")
        print(f"wrote {trace}: open it at ui.perfetto.dev")
        return
    view = JsonView(print) if as_json else LineView(print)
    for record in records:
        view.record(record, True)


# What the options say ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tools:
    corpus: Path | None
    searxng: str | None
    offline: bool
    mcp: Path | None
    unsafe: bool


@dataclass(frozen=True, slots=True)
class _Wanted:
    goal: str
    endpoint: Endpoint
    workspace: Path | None
    limits: dict[str, Any]
    rules: list[str]
    yes: bool
    tools: _Tools
    json: bool
    heavy: int | None


def _require_agent() -> None:
    import importlib.util

    missing = [
        name for name in ("rich", "jupyter_client") if importlib.util.find_spec(name) is None
    ]
    if missing:
        fail("the agent needs packages that are not installed: pip install 'openk2[agent]'.")


def _read_goal(goal: str | None, *, needed: bool) -> str:
    if goal == "-":
        goal = sys.stdin.read()
    elif goal is None and needed and sys.stdin.isatty():
        goal = input("What shall I do? / 要做什么？ ")
    if needed and not (goal or "").strip():
        fail("say what to do: openk2 agent 'GOAL'.")
    return (goal or "").strip()


def _read_rules(file: Path | None, lines: list[str]) -> list[str]:
    from openk2.agent.approval import Policy

    try:
        found = file.read_text(encoding="utf-8").splitlines() if file else []
        Policy.of([*found, *lines])
    except (OSError, ValueError) as error:
        fail(f"--rule: {error}.")
    return [*found, *lines]


def _folder(runs: Path | None, resume: str | None) -> Path:
    from openk2.agent.journal import JournalError
    from openk2.agent.runs import default_folder, find, new_folder

    folder = runs or default_folder()
    try:
        return find(folder, resume) if resume else new_folder(folder)
    except (JournalError, OSError) as error:
        fail(f"{error}.")


# A run -------------------------------------------------------------------------------------------


async def _run(wanted: _Wanted, folder: Path, *, resumed: bool) -> Result:
    import asyncio

    from openk2.agent.context import ContextFull
    from openk2.agent.journal import Diverged, Journal, JournalError
    from openk2.agent.loop import Live
    from openk2.agent.model import ModelError
    from openk2.agent.outfit import Outfit
    from openk2.agent.runs import ending

    view = _view(wanted.json)
    live = Live(on_event=view.event)
    hint = f"openk2 agent --resume {folder.name}"
    journal = None
    try:
        journal = Journal.resume(folder) if resumed else Journal.create(folder)
        journal.subscribers.append(view.record)
        async with open_model(wanted.endpoint) as model:
            settings, workspace = _settings(wanted, folder, journal, model)
            heavy = wanted.heavy
            if journal.records:
                heavy = journal.records[0].data.get("runs")
                live.words = [wanted.goal] if wanted.goal else []
                given = {name: limit for name, limit in wanted.limits.items() if limit is not None}
                if given:
                    live.limits = dataclasses.replace(settings.limits, **given)
                elif ending(journal.records) == "budget":
                    fail("that run has used up a budget: raise it, for example with --steps 600.")
            talks = _talks(wanted)
            live.after = _more(live, view) if talks else None
            outfit = Outfit(folder, workspace, model, _options(wanted))
            async with outfit:
                for sentence in outfit.missing:
                    typer.echo(f"openk2: {sentence}", err=True)
                approve = _approver(view, talks)
                if heavy:
                    return await _heavily(heavy, settings, outfit, journal, approve)
                agent = outfit.agent(settings, journal, live, approve, view.progress)
                return await agent.run()
    except Diverged as error:
        fail(f"{error}.")
    except (ModelError, ContextFull, JournalError, OSError) as error:
        view.close()
        fail(f"{error}." + (f" Nothing is lost: {hint}" if journal is not None else ""))
    except asyncio.CancelledError:
        view.close()
        typer.echo(f"\nstopped; go on with: {hint}", err=True)
        raise
    finally:
        view.close()
        if journal is not None:
            journal.close()


async def _heavily(
    runs: int, settings: Settings, outfit: Outfit, journal: Journal, approve: Approve
) -> Result:
    """Run the goal several times and once more over what came of it."""
    from openk2.agent.canonical import from_json, to_json
    from openk2.agent.errand import bring_back
    from openk2.agent.heavy import HeavySettings, run_heavy
    from openk2.agent.loop import Result

    async def perform() -> Any:
        found = await run_heavy(
            settings.goal,
            outfit.errands(settings, approve),
            outfit.folder / "heavy",
            limits=settings.limits,
            base=outfit.workspace,
            settings=HeavySettings(runs=runs),
        )
        copies, missing = bring_back(found.report, found.workspace, outfit.workspace)
        summary = found.report.summary + (f" ({missing})" if missing else "")
        made = tuple(map(str, copies))
        agreed = f"{len(found.clusters[0]) if found.clusters else 0} of {runs} attempts agree"
        ended = {"status": found.report.status, "summary": summary, "reason": agreed}
        return to_json({**ended, "artifacts": made, "spent": found.spent})

    about = {"settings": to_json(settings), "runs": runs}
    opening = {"model": outfit.model.name, "workspace": str(outfit.workspace), **about}
    journal.note("heavy", "heavy", opening)
    result = from_json(
        Result, await journal.effect("attempts", "attempts", {"runs": runs}, perform)
    )
    journal.note("result", "result 1", to_json(result))
    return result


def _settings(
    wanted: _Wanted, folder: Path, journal: Any, model: ChatModel
) -> tuple[Settings, Path]:
    """Take the settings from the journal of a run that goes on, else from the options."""
    from openk2.agent.budget import Limits
    from openk2.agent.canonical import from_json
    from openk2.agent.loop import Settings
    from openk2.agent.prompt import system_prompt
    from openk2.agent.runs import WORKSPACE

    if journal.records:
        opening = journal.records[0].data
        return from_json(Settings, opening["settings"]), Path(opening["workspace"])
    workspace = (wanted.workspace or folder / WORKSPACE).resolve()
    workspace.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        wanted.goal,
        system=system_prompt(workspace, time.strftime("%Y-%m-%d")),
        limits=Limits(**{**wanted.limits, "steps": wanted.limits["steps"] or Limits().steps}),
        window=wanted.endpoint.window or model.context_window,
    )
    return settings, workspace


def _options(wanted: _Wanted) -> Any:
    from openk2.agent.outfit import Options

    tools = wanted.tools
    return Options(
        rules=tuple(wanted.rules),
        yes=wanted.yes,
        corpus=tools.corpus,
        searxng=tools.searxng,
        network=not tools.offline,
        mcp=tools.mcp,
        unsafe=tools.unsafe,
    )


def _view(as_json: bool) -> View:
    from openk2.agent.view import JsonView, LineView, TerminalView

    def write(line: str) -> None:
        print(line, flush=True)

    if as_json:
        return JsonView(write)
    if not sys.stdout.isatty():
        return LineView(write)
    from rich.console import Console

    return TerminalView(Console(highlight=False))


def _talks(wanted: _Wanted) -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and not wanted.json


def _approver(view: View, talks: bool) -> Callable[[Question], Awaitable[Answer]]:
    """Ask the person at the terminal; without one, the answer is no."""
    import asyncio

    one_at_a_time = asyncio.Lock()

    async def approve(question: Question) -> Answer:
        if not talks:
            return "no"
        async with one_at_a_time:
            view.pause()
            try:
                return await asyncio.to_thread(_ask, question)
            finally:
                view.unpause()

    return approve


def _ask(question: Question) -> Answer:
    from openk2.agent.describe import call_line, printable

    answers: dict[str, Answer] = {"y": "once", "a": "session", "n": "no"}
    call = call_line({"name": question.tool, "arguments": question.arguments})
    print(f"\n? {printable(call)}\n  {printable(question.reason)}")
    while True:
        said = input("  [y] once / 一次  [a] always in this run / 本次都可以  [n] no / 不行: ")
        if answer := answers.get(said.strip().lower()[:1]):
            return answer


def _more(live: Live, view: View) -> Callable[[Result], Awaitable[None]]:
    """Let the person say what else there is to do when a run has ended."""
    import asyncio

    async def after(result: Result) -> None:
        view.pause()
        try:
            said = await asyncio.to_thread(input, "\n› (Enter ends / 回车结束) ")
        except EOFError:
            said = ""
        view.unpause()
        if said.strip():
            live.words.append(said.strip())

    return after
