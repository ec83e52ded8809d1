"""Our tools for other agents: the protocol's server over a list of tools.

In: tools, a workspace, a policy. Out: a server that speaks over two streams, or an application for
HTTP. Must not know: which tools there are, or how a port is opened.

Nobody sits here to be asked: what the policy would ask is refused, with a sentence that says how
it can be allowed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import mimetypes
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jsonschema_rs

from openk2.agent.approval import Policy
from openk2.agent.tool import Call, Tool, ToolError, ToolResult

if TYPE_CHECKING:
    from mcp.server import Server, ServerRequestContext
    from mcp_types import (
        CallToolRequestParams,
        CallToolResult,
        ContentBlock,
        ListToolsResult,
        PaginatedRequestParams,
    )

    from openk2.agent.tool import Access

PATH = "/mcp"
"""Where the server answers over HTTP."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PROBLEM = 600
_INSTRUCTIONS = (
    "Tools that work in one folder, {workspace}, in a sandbox. Relative paths start there. "
    "Files that a tool makes stay there."
)


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Limits on what one answer may hold and how much runs at a time."""

    result_chars: int = 60_000
    """Longest text of an answer, about 15,000 tokens; Claude Code takes 25,000."""
    image_bytes: int = 1 << 20
    """Larger pictures are named instead of sent."""
    reads_at_once: int = 8
    """Calls that change nothing and run together; others run one at a time."""
    progress_seconds: float = 0.5
    """Shortest time between two notifications of progress."""
    body_bytes: int = 4 << 20
    """Longest request over HTTP."""


class ToolServer:
    """Carries out other agents' calls, one policy for all of them."""

    def __init__(
        self,
        tools: Sequence[Tool],
        workspace: Path,
        policy: Policy,
        settings: ServeSettings | None = None,
    ) -> None:
        """Serve tools; nothing runs before the first call.

        Args:
            tools: What is offered.
            workspace: The folder that they work in.
            policy: Which calls may go on.
            settings: Limits.
        """
        self._tools = {tool.name: tool for tool in tools}
        self._workspace = workspace.resolve()
        self._policy = policy
        self._settings = settings or ServeSettings()
        self._writing = asyncio.Lock()
        self._reading = asyncio.Semaphore(self._settings.reads_at_once)
        self._validators: dict[str, jsonschema_rs.Validator] = {}
        self._calls = 0
        self._tainted = False

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        progress: Callable[[str], None] = lambda text: None,
    ) -> ToolResult:
        """Check and carry out one call.

        Args:
            name: The tool.
            arguments: What it is to do.
            progress: Sees output as it comes.

        Raises:
            ToolError: There is no such tool, the arguments do not fit, the call is refused, or the
                work brought nothing.
        """
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(sorted(self._tools))
            raise ToolError(f"There is no tool {name!r}; there are {known}.", "bad_arguments")
        self._check(tool, arguments)
        async with self._reading if not tool.writes else self._writing:
            # Asked when its turn has come: the call before may have brought text of strangers.
            self._permit(tool, tool.access(arguments, self._workspace))
            self._calls += 1
            call = Call(f"mcp-{self._calls}", self._workspace, tool.timeout, progress)
            result = await _carry_out(tool, arguments, call)
        self._tainted = self._tainted or result.untrusted
        return result

    def protocol(self) -> Server[Any]:
        """Return a server of the protocol's package over these tools."""
        from mcp.server import Server

        from openk2 import __version__

        return Server(
            "openk2",
            version=__version__,
            instructions=_INSTRUCTIONS.format(workspace=self._workspace),
            get_tool_input_schema=self._schema,
            on_list_tools=self._on_list,
            on_call_tool=self._on_call,
        )

    async def serve_stdio(self) -> None:
        """Serve whoever holds our standard input and output, until the input ends."""
        from mcp.server.stdio import stdio_server

        protocol = self.protocol()
        async with stdio_server() as (received, sent):
            await protocol.run(received, sent, protocol.create_initialization_options())

    def http_app(self, token: str | None) -> App:
        """Return an application that serves agents on this machine.

        Requests whose `Host` or `Origin` is not this machine's are refused: a page in a browser
        could otherwise reach the server by a name of its own (DNS rebinding).

        Args:
            token: What they must show as a bearer token; None lets in whoever runs here.
        """
        app = cast(
            App,
            self.protocol().streamable_http_app(
                streamable_http_path=PATH,
                max_request_body_size=self._settings.body_bytes,
                host="127.0.0.1",
            ),
        )
        return app if token is None else _guarded(app, token)

    async def close(self) -> None:
        """End what the tools keep between calls."""
        for tool in self._tools.values():
            if tool.close is not None:
                await tool.close()

    def _check(self, tool: Tool, arguments: Mapping[str, Any]) -> None:
        if tool.name not in self._validators:
            self._validators[tool.name] = jsonschema_rs.validator_for(
                dict(tool.spec.parameters), offline=True
            )
        problems = [
            f"{'.'.join(map(str, error.instance_path)) or 'arguments'}: {error.message[:300]}"
            for error in self._validators[tool.name].iter_errors(dict(arguments))
        ]
        if problems:
            raise ToolError(
                f"The arguments of {tool.name} do not fit its schema: {'; '.join(problems[:5])}.",
                "bad_arguments",
            )

    def _permit(self, tool: Tool, access: Access) -> None:
        decision = self._policy.decide(
            tool.name, access, workspace=self._workspace, tainted=self._tainted
        )
        if decision.verdict == "deny":
            raise ToolError(f"A rule forbids this call ({decision.reason}).", "refused")
        if decision.verdict == "ask":
            raise ToolError(
                f"This call needs a person's consent ({decision.reason}), and nobody can be asked "
                "here. It is allowed where `openk2 mcp` runs with --yes, or with a --rule for it.",
                "refused",
            )

    # The protocol -----------------------------------------------------------------------------

    def _schema(self, name: str) -> Mapping[str, Any] | None:
        tool = self._tools.get(name)
        return None if tool is None else tool.spec.parameters

    async def _on_list(
        self, context: ServerRequestContext[Any, Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        from mcp_types import ListToolsResult, ToolAnnotations
        from mcp_types import Tool as Offered

        return ListToolsResult(
            tools=[
                Offered(
                    name=tool.name,
                    description=tool.spec.description,
                    input_schema=dict(tool.spec.parameters),
                    annotations=ToolAnnotations(read_only_hint=not tool.writes),
                )
                for tool in self._tools.values()
            ]
        )

    async def _on_call(
        self, context: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> CallToolResult:
        from mcp_types import CallToolResult, TextContent

        async with _reporting(context, self._settings.progress_seconds) as progress:
            try:
                result = await self.call(params.name, params.arguments or {}, progress)
            except ToolError as error:
                told = str(error)
            except Exception as error:  # noqa: BLE001 - a tool's defect must not end the server
                told = f"{params.name} is broken here: {type(error).__name__}: {error}"[:_PROBLEM]
            else:
                return CallToolResult(content=self._content(result), is_error=result.failed)
        return CallToolResult(content=[TextContent(type="text", text=told)], is_error=True)

    def _content(self, result: ToolResult) -> list[ContentBlock]:
        from mcp_types import ImageContent, ResourceLink, TextContent

        limit = self._settings.result_chars
        text = result.content
        if len(text) > limit:
            head, tail = text[: limit * 2 // 3], text[-(limit // 3) :]
            text = f"{head}\n[… {len(text) - limit:,} characters left out …]\n{tail}"
        blocks: list[ContentBlock] = [TextContent(type="text", text=text)]
        for path in result.artifacts:
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            size = path.stat().st_size
            picture = kind.startswith("image/") and kind != "image/svg+xml"
            if picture and size <= self._settings.image_bytes:
                data = base64.b64encode(path.read_bytes()).decode()
                blocks.append(ImageContent(type="image", data=data, mime_type=kind))
            blocks.append(
                ResourceLink(
                    type="resource_link",
                    name=path.name,
                    uri=path.as_uri(),
                    mime_type=kind,
                    size=size,
                )
            )
        return blocks


async def _carry_out(tool: Tool, arguments: Mapping[str, Any], call: Call) -> ToolResult:
    """Run a tool in a task of its own, which is cancelled once and then waited for.

    The protocol's package cancels a handler again at every await; a tool that must still end a
    process would never come to it.
    """
    import anyio

    task = asyncio.ensure_future(tool.run(arguments, call))
    try:
        async with asyncio.timeout(call.seconds):
            return await asyncio.shield(task)
    except TimeoutError:
        raise ToolError(
            f"{tool.name} took longer than {call.seconds:g} seconds and was ended; ask for less.",
            "timeout",
        ) from None
    finally:
        if not task.done():
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({task})
                if not task.cancelled():
                    task.exception()  # whoever asked is gone


@contextlib.asynccontextmanager
async def _reporting(
    context: ServerRequestContext[Any, Any], seconds: float
) -> AsyncGenerator[Callable[[str], None]]:
    """Give a function that reports progress; what comes too fast is put together."""
    import anyio

    lines: list[str] = []
    came = asyncio.Event()

    def progress(text: str) -> None:
        lines.append(text)
        came.set()

    async def report() -> None:
        count = 0
        while True:
            await came.wait()
            came.clear()
            count += len(lines)
            text = "".join(lines)[-1000:]
            lines.clear()
            await context.session.report_progress(count, None, text)
            await asyncio.sleep(seconds)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(report)
        try:
            yield progress
        finally:
            tasks.cancel_scope.cancel()


def _guarded(app: App, token: str) -> App:
    wanted = f"Bearer {token}".encode()

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(cast("list[tuple[bytes, bytes]]", scope["headers"]))
            if not hmac.compare_digest(headers.get(b"authorization", b""), wanted):
                head = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
                body = b'{"error": "this server wants Authorization: Bearer TOKEN"}'
                await send({"type": "http.response.start", "status": 401, "headers": head})
                await send({"type": "http.response.body", "body": body})
                return
        await app(scope, receive, send)

    return guarded
