"""Run a scenario with a model, or with the scripted one, and check what it made.

    python examples/run.py 4 --base-url http://127.0.0.1:8000/v1 --model NAME
    python examples/run.py all --scripted
    python examples/run.py 4 --verify out/examples/04-price-indicators/20261122-120000-1a2b

In: a scenario's name and a model. Out: a folder with journal, workspace and verdicts.
Must not know: any one scenario.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:  # started as a file, not as a module
    sys.path.insert(0, str(HERE.parent))

from examples.checks import Check  # noqa: E402
from examples.scenario import Scenario, find, scenarios  # noqa: E402

if TYPE_CHECKING:
    from openk2.agent.calls import Answer, Question
    from openk2.agent.loop import Result
    from openk2.agent.model import ChatModel
    from openk2.agent.view import View

WORKSPACE, MAIL, VERDICTS = "workspace", "mail", "verify.json"


@dataclass(frozen=True, slots=True)
class Finished:
    """A run with what it came to."""

    scenario: str
    folder: Path
    status: str
    """As the agent's loop says it, or `verified` where nothing was run."""
    steps: int
    seconds: float
    checks: Sequence[Check]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; 0 if every check holds."""
    options = parser().parse_args(arguments)
    try:
        chosen = scenarios() if options.scenario == "all" else [find(options.scenario)]
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    if not (options.scripted or options.base_url or options.verify):
        print("say which model: --base-url URL [--model NAME], or --scripted", file=sys.stderr)
        return 2
    passed = True
    for scenario in chosen:
        if options.verify:
            finished = judge_folder(scenario, options.verify)
        else:
            finished = asyncio.run(carry_out(scenario, options))
            finished = judged(scenario, finished)
        show(finished, as_json=options.json)
        passed &= finished.passed
    return 0 if passed else 1


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    made = argparse.ArgumentParser(description="Run a scenario and check what it made.")
    names = ", ".join(scenario.name for scenario in scenarios())
    made.add_argument("scenario", help=f"name, number, or `all`: {names}")
    made.add_argument("--scripted", action="store_true", help="play the recorded decisions")
    made.add_argument("--base-url", metavar="URL", help="endpoint of the model, up to /v1")
    made.add_argument("--model", metavar="NAME", help="its name; the endpoint's first by default")
    made.add_argument("--dialect", choices=("openai", "anthropic"), default="openai")
    made.add_argument("--api-key-env", metavar="NAME", default="OPENAI_API_KEY",
                      help="environment variable with the key")  # fmt: skip
    made.add_argument("--language", choices=("en", "zh"), default="en", help="of the goal")
    made.add_argument("--steps", type=int, default=100, help="most answers of the model")
    made.add_argument("--runs", type=Path, default=Path("out/examples"), help="where runs are kept")
    made.add_argument("--verify", type=Path, metavar="RUN", help="only check an earlier run")
    made.add_argument("--quiet", action="store_true", help="show the verdicts only")
    made.add_argument("--json", action="store_true", help="one JSON object per scenario")
    return made


async def carry_out(scenario: Scenario, options: argparse.Namespace) -> Finished:
    """Run a scenario in a new folder."""
    from openk2.agent.context import ContextFull
    from openk2.agent.model import ModelError
    from openk2.agent.runs import new_folder

    try:
        model = await model_of(scenario, options)
    except (ModelError, ValueError) as error:
        raise SystemExit(f"openk2: {error}") from None
    folder = new_folder(options.runs / scenario.name).resolve()
    workspace = folder / WORKSPACE
    workspace.mkdir()
    scenario.make_inputs(workspace)
    began = time.monotonic()
    view = view_of(options)
    status, steps = "stopped", 0
    try:
        result = await act(scenario, folder, model, view, options)
        status, steps = result.status, result.spent.steps
    except (ModelError, ContextFull) as error:  # what it made until then is judged as it is
        print(f"openk2: {error}", file=sys.stderr)
    finally:
        view.close()
        await model.close()
    return Finished(scenario.name, folder, status, steps, time.monotonic() - began, ())


async def act(
    scenario: Scenario, folder: Path, model: ChatModel, view: View, options: argparse.Namespace
) -> Result:
    """Let the agent work: offline, in its sandbox, with a mail server that sends nothing on."""
    from examples.sink import mail_sink
    from openk2.agent.budget import Limits
    from openk2.agent.journal import Journal
    from openk2.agent.loop import Live, Settings
    from openk2.agent.outfit import Options, Outfit
    from openk2.agent.prompt import system_prompt
    from openk2.agent.tools.corpus import build_corpus
    from openk2.agent.tools.email import MailServer, send_email

    workspace = folder / WORKSPACE
    corpus = folder / "corpus.sqlite" if scenario.documents() else None
    if corpus is not None:
        build_corpus(scenario.documents(), corpus)
    settings = Settings(
        scenario.goal(options.language),
        system=system_prompt(workspace, time.strftime("%Y-%m-%d")),
        limits=Limits(steps=options.steps),
        window=model.context_window,
    )
    async with mail_sink(folder / MAIL) as port:
        to = scenario.recipients()
        mail = MailServer("127.0.0.1", port, "agent@runs.example", to, security="none")
        tools = (send_email(mail),) if to else ()
        outfit = Outfit(
            folder, workspace, model, Options(yes=True, corpus=corpus, network=False, more=tools)
        )
        async with outfit:
            for sentence in outfit.missing:
                print(f"openk2: {sentence}", file=sys.stderr)
            journal = Journal.create(folder)
            journal.subscribers.append(view.record)
            try:
                agent = outfit.agent(
                    settings, journal, Live(on_event=view.event), refuse, view.progress
                )
                return await agent.run()
            finally:
                journal.close()


async def refuse(question: Question) -> Answer:
    """Answer what the rules leave open: nobody is there to ask."""
    return "no"


async def model_of(scenario: Scenario, options: argparse.Namespace) -> ChatModel:
    """Connect to the model, or play the script."""
    if options.scripted:
        from openk2.agent.models.scripted import Scripted

        # Turns are counted in the conversation: none of it may be compacted away.
        return Scripted(scenario.turns(), by_history=True, context_window=4_000_000)
    from openk2.agent.models.anthropic import AnthropicMessages
    from openk2.agent.models.openai import OpenAIChat

    kind = AnthropicMessages if options.dialect == "anthropic" else OpenAIChat
    key = os.environ.get(options.api_key_env, "").strip() or None
    return await kind.discover(options.base_url, options.model, api_key=key)


def view_of(options: argparse.Namespace) -> View:
    """Choose how the run is shown."""
    from openk2.agent.view import LineView, TerminalView

    if options.quiet or options.json:
        return LineView(lambda line: None)
    if not sys.stdout.isatty():
        return LineView(print)
    from rich.console import Console

    return TerminalView(Console(highlight=False))


def judged(scenario: Scenario, finished: Finished) -> Finished:
    """Check a run, and keep the verdicts beside its journal."""
    checks = list(scenario.verify(finished.folder / WORKSPACE))
    verdict = {"scenario": scenario.name, "checks": [asdict(check) for check in checks]}
    (finished.folder / VERDICTS).write_text(json.dumps(verdict, indent=2), encoding="utf-8")
    return Finished(
        finished.scenario,
        finished.folder,
        finished.status,
        finished.steps,
        finished.seconds,
        checks,
    )


def judge_folder(scenario: Scenario, folder: Path) -> Finished:
    """Check an earlier run."""
    checks = scenario.verify(folder / WORKSPACE)
    return Finished(scenario.name, folder, "verified", 0, 0.0, checks)


def show(finished: Finished, *, as_json: bool) -> None:
    """Print the verdicts: a table, or JSON."""
    if as_json:
        shown = {**asdict(finished), "folder": str(finished.folder), "passed": finished.passed}
        print(json.dumps(shown, ensure_ascii=False))
        return
    held = sum(check.ok for check in finished.checks)
    print(f"\n{finished.scenario}: {finished.status}, {finished.steps} steps, "
          f"{finished.seconds:.1f} s, {held} of {len(finished.checks)} checks hold")  # fmt: skip
    width = max((len(check.name) for check in finished.checks), default=0)
    for check in finished.checks:
        print(f"  {'ok  ' if check.ok else 'FAIL'}  {check.name:<{width}}  {check.why}")
    print(f"  {finished.folder}")


if __name__ == "__main__":
    sys.exit(main())
