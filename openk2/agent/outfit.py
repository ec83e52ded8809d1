"""What an agent has at hand in one run: tools, a sandbox, sub-agents, servers.

In: options, a folder, a model. Out: agents with their tools; what could not be had, in sentences.
Must not know: the terminal, or how any of the tools works.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openk2.agent.approval import Policy
from openk2.agent.budget import Limits, share
from openk2.agent.calls import Approve, Caller, ResultStore
from openk2.agent.canonical import digest, from_json
from openk2.agent.errand import Errand, Report, RunErrand
from openk2.agent.journal import NAME, Journal
from openk2.agent.loop import Agent, Live, Settings
from openk2.agent.mcp.config import McpConfigError, read_config
from openk2.agent.mcp.tools import McpMissing, McpTools, connect_servers
from openk2.agent.model import ChatModel
from openk2.agent.repeat import RepeatGuard
from openk2.agent.runs import RESULTS, ending
from openk2.agent.sandbox.choose import choose_sandbox
from openk2.agent.sandbox.isolation import Program, Sandbox, SandboxMissing
from openk2.agent.tool import Call, Tool, ToolError
from openk2.agent.tools.addresses import Reach
from openk2.agent.tools.browser import browser
from openk2.agent.tools.checkpoint import checkpoint
from openk2.agent.tools.chromium import BrowserSettings, find_chromium
from openk2.agent.tools.code import code_interpreter
from openk2.agent.tools.compact import compact
from openk2.agent.tools.corpus import CorpusError, OfflineCorpus
from openk2.agent.tools.delegate import delegate
from openk2.agent.tools.fetch import FetchSettings, fetch
from openk2.agent.tools.files import edit_file, read_file, write_file
from openk2.agent.tools.files_search import list_files, search_files
from openk2.agent.tools.finish import finish
from openk2.agent.tools.go_back import go_back
from openk2.agent.tools.plan import Board, RunCheck, update_plan
from openk2.agent.tools.read_result import read_result
from openk2.agent.tools.search import SearxngSearch, web_search
from openk2.agent.tools.shell import shell
from openk2.agent.tools.swarm import swarm
from openk2.types import Sampling

ERRANDS = "errands"
SMALL_WINDOW = 12_000
"""Tokens; the descriptions of all tools take about 3,500."""
FEW = ("list_files", "read_file", "write_file", "shell", "code_interpreter", "finish")
"""What a model with a smaller window is offered."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the agents of a run may use."""

    rules: tuple[str, ...] = ()
    """Approval rules, one per line (`approval.py`)."""
    yes: bool = False
    """Answer every question with yes."""
    corpus: Path | None = None
    """Offline corpus that web_search and fetch answer from."""
    searxng: str | None = None
    """SearXNG instance that web_search asks."""
    network: bool = True
    """Whether fetch and the browser reach the network."""
    reach: Reach = field(default_factory=Reach)
    """Which addresses they may connect to."""
    mcp: Path | None = None
    """File with MCP servers."""
    unsafe: bool = False
    """Run code even where nothing isolates it well."""
    sub_agents: bool = True
    """Whether the tools `task` and `swarm` are there; sub-agents themselves have none."""
    more: tuple[Tool, ...] = ()
    """Tools of the caller's."""


class Outfit:
    """The tools of one workspace; an async context that ends whatever they keep running."""

    def __init__(self, folder: Path, workspace: Path, model: ChatModel, options: Options) -> None:
        """Say what is wanted; nothing starts yet.

        Args:
            folder: The run's own, outside the workspace: long results, errands, logs.
            workspace: Where its tools work.
            model: Who answers, sub-agents too.
            options: What may be used.
        """
        self.folder = folder
        self.workspace = workspace
        self.missing: list[str] = []
        """What could not be had, one sentence each."""
        self.model = model
        self._options = options
        self._policy = Policy.of(options.rules, yes=options.yes)
        self._fixed: list[Tool] = []
        self._servers: McpTools | None = None
        self._sandbox: Sandbox | None = None
        self._run_check: RunCheck | None = None

    async def __aenter__(self) -> Outfit:
        """Find out what there is; servers connect in the background."""
        self._fixed = [read_file(), write_file(), edit_file(), list_files()]
        self._fixed.append(search_files(hidden=self._hidden))
        self._fixed += [*self._running_code(), *self._web(), *self._options.more]
        if self._options.mcp is not None:
            self._servers = self._connect(self._options.mcp)
        if self._servers is not None:
            # Most answer at once, and the first step then has their tools.
            await self._servers.settle(1.0)
        return self

    async def __aexit__(self, *exception: object) -> None:
        """End kernels, browsers and servers."""
        for tool in self._fixed:
            if tool.close is not None:
                await tool.close()
        if self._servers is not None:
            await self._servers.close()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those that work in the workspace: files, code, the web; not those of a run's own."""
        return tuple(self._fixed)

    def agent(
        self,
        settings: Settings,
        journal: Journal,
        live: Live,
        approve: Approve,
        progress: Callable[[str, str], None] = lambda call_id, text: None,
    ) -> Agent:
        """Return an agent with these tools.

        Args:
            settings: Its goal and limits.
            journal: Where it is written down.
            live: What it shows and takes in.
            approve: Asks a person.
            progress: Sees the output of calls that go on.
        """
        board = Board(settings.goal)
        store = ResultStore(self.folder / RESULTS)
        caller = Caller(
            journal,
            self.workspace,
            self._policy,
            approve,
            store,
            RepeatGuard(settings.repeats),
            progress=progress,
        )
        own: list[Tool] = []

        def tools() -> Sequence[Tool]:
            if settings.window < SMALL_WINDOW:
                few = [tool for tool in [*own, *self._fixed] if tool.name in FEW]
                return [*few, *self._options.more]
            served = self._servers.tools() if self._servers is not None else ()
            return [*own, *self._fixed, *served]

        agent = Agent(settings, self.model, tools, caller, journal, board, live)
        own += [
            update_plan(board, self._run_check),
            finish(board),
            read_result(store.read),
            compact(),
            checkpoint(),
            go_back(lambda: agent.context.checkpoints),
        ]
        if self._options.sub_agents:
            own += self._sub_agents(agent, approve)
        return agent

    def _hidden(self, path: Path) -> bool:
        return self._policy.hides(path, self.workspace)

    # Tools -----------------------------------------------------------------------------------

    def _running_code(self) -> list[Tool]:
        try:
            sandbox = choose_sandbox(allow_unsafe=self._options.unsafe)
        except SandboxMissing as error:
            self.missing.append(str(error))
            return []
        self._sandbox = sandbox
        self._run_check = _checks_in(sandbox)
        return [shell(sandbox), code_interpreter(sandbox)]

    def _web(self) -> list[Tool]:
        options = self._options
        corpus, found = None, list[Tool]()
        if options.corpus is not None:
            try:
                corpus = OfflineCorpus(options.corpus)
                found.append(web_search(corpus))
            except CorpusError as error:
                self.missing.append(f"web_search is off: {error}")
        elif options.searxng is not None:
            found.append(web_search(SearxngSearch(options.searxng)))
        if options.network or corpus is not None:
            if importlib.util.find_spec("trafilatura") is None:
                self.missing.append(
                    "pages come whole, with their menus: pip install 'openk2[agent]' finds the text"
                )
            settings = FetchSettings(reach=options.reach, offline=not options.network)
            found.append(fetch(settings, corpus))
        chromium = BrowserSettings(reach=options.reach, offline=not options.network)
        try:
            find_chromium(chromium)
            found.append(browser(chromium))
        except ToolError as error:
            self.missing.append(f"browser is off: {error}")
        return found

    def _connect(self, file: Path) -> McpTools | None:
        try:
            servers = connect_servers(
                read_config(file, os.environ),
                environment=os.environ,
                logs=self.folder,
                cache=Path.home() / ".cache" / "openk2" / "mcp",
                sandbox=self._sandbox,
                workspace=self.workspace,
            )
        except (McpConfigError, McpMissing) as error:
            self.missing.append(str(error))
            return None
        self.missing += servers.problems
        return servers

    # Sub-agents ------------------------------------------------------------------------------

    def _sub_agents(self, agent: Agent, approve: Approve) -> list[Tool]:
        run = self.errands(agent.settings, approve)

        def left() -> Limits:
            return share(agent.limits, agent.spent, 1)

        folder = self.folder / ERRANDS
        return [delegate(run, folder, left), swarm(run, folder, left)]

    def errands(self, parent: Settings, approve: Approve) -> RunErrand:
        """Return what runs sub-agents with tools like these, each in a workspace of its own.

        Args:
            parent: The settings that they share but for goal and limits.
            approve: Asks a person.
        """

        async def run(errand: Errand) -> Report:
            return await self._run_errand(parent, errand, approve)

        return run

    async def _run_errand(self, parent: Settings, errand: Errand, approve: Approve) -> Report:
        live = Live()
        there = (errand.folder / NAME).exists()
        journal = Journal.resume(errand.folder) if there else Journal.create(errand.folder)
        if journal.records:
            settings = from_json(Settings, journal.records[0].data["settings"])
            if ending(journal.records) in (None, "budget"):
                live.limits = errand.limits
        else:
            system = parent.system.replace(str(self.workspace), str(errand.workspace))
            settings = dataclasses.replace(
                parent,
                goal=errand.goal,
                system=system,
                limits=errand.limits,
                sampling=_of_its_own(parent.sampling, errand.id),
            )
        options = dataclasses.replace(self._options, sub_agents=False, mcp=None)
        try:
            async with Outfit(errand.folder, errand.workspace, self.model, options) as outfit:
                agent = outfit.agent(settings, journal, live, approve)
                result = await agent.run()
        finally:
            journal.close()
        root = errand.workspace
        artifacts = tuple(os.path.relpath(path, root) for path in result.artifacts)
        return Report(
            result.status,
            result.summary,
            artifacts,
            result.spent,
            untrusted=agent.caller.tainted,
        )


def _of_its_own(sampling: Sampling | None, id: str) -> Sampling | None:
    """Give a sub-agent another seed: with one for all, attempts at a goal would be one attempt."""
    if sampling is None or sampling.seed is None:
        return sampling
    seed = int(digest([sampling.seed, id])[:8], 16)
    return dataclasses.replace(sampling, seed=seed)


def _checks_in(sandbox: Sandbox) -> RunCheck:
    async def run(command: str, call: Call) -> tuple[int, str]:
        program = Program(("bash", "-c", command), call.workspace, environment=_ENVIRONMENT)
        done = await sandbox.run(program, timeout=min(120.0, call.seconds))
        return done.status, (done.stdout + done.stderr).decode("utf-8", errors="replace")

    return run


_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
