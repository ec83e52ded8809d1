"""Claude Code, as its maker ships it, with our tools: it connects, and a model calls one.

`make clients` installs it; without, the tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.mcp.harness import HERE, ours
from tests.clients.scripted_upstream import PROOF, ScriptedModel, listen

pytestmark = pytest.mark.slow
ROOT = HERE.parents[2]
MODULES = Path(os.environ.get("OPENK2_CLIENTS", ROOT / ".venv" / "clients")) / "node_modules"
PROGRAM = MODULES / "@anthropic-ai" / "claude-code-linux-x64" / "claude"
SECONDS = 100


@pytest.fixture
def claude(tmp_path: Path) -> Callable[..., str]:
    """Run it in an empty home, and give what it printed."""

    def run(*words: str, **environment: str) -> str:
        if not PROGRAM.exists():
            pytest.skip(f"{PROGRAM} is not installed: run `make clients`, which needs Node and npm")
        settings = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "NO_PROXY": "127.0.0.1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        done = subprocess.run(
            [str(PROGRAM), *words],
            cwd=tmp_path,
            env=settings | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def gateway() -> Iterator[tuple[str, ScriptedModel]]:
    """Start `openk2 serve --upstream` before a scripted model, and give its root URL."""
    model = ScriptedModel()
    command = [sys.executable, "-m", "openk2.cli", "serve", "--port", "0", "--upstream"]
    with listen(model) as upstream:
        process = subprocess.Popen(
            [*command, upstream], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "http://" in line)
            url = next(word for word in line.split() if word.startswith("http://"))
            yield url.removesuffix("/v1"), model
        finally:
            process.terminate()
            process.communicate(timeout=20)


def test_it_connects(claude: Callable[..., str], tmp_path: Path):
    entry = ours(tmp_path)
    given = [word for name, value in entry["env"].items() for word in ("-e", f"{name}={value}")]
    claude("mcp", "add", "ours", "-s", "user", *given, "--", entry["command"], *entry["args"])
    assert "Connected" in claude("mcp", "list")


def test_a_model_calls_our_tool(
    claude: Callable[..., str], gateway: tuple[str, ScriptedModel], tmp_path: Path
):
    url, model = gateway
    file = tmp_path / "mcp.json"
    # By itself it goes on before servers have answered, and shows tools only when searched for.
    entry = ours(tmp_path) | {"alwaysLoad": True}
    file.write_text(json.dumps({"mcpServers": {"ours": entry}}))
    printed = claude(
        "-p",
        "How is the weather?",
        "--mcp-config",
        str(file),
        "--strict-mcp-config",
        "--allowedTools",
        "mcp__ours__weather",
        "--disallowedTools",
        "Bash",
        ANTHROPIC_BASE_URL=url,
        ANTHROPIC_AUTH_TOKEN="none",
        MCP_CONNECTION_NONBLOCKING="0",
        MCP_CONNECT_TIMEOUT_MS="60000",
        ENABLE_TOOL_SEARCH="auto:100",
    )
    asked = [tool["function"]["name"] for body in model.bodies for tool in body.get("tools", [])]
    assert "mcp__ours__weather" in asked, str(sorted(set(asked))) + printed
    assert f"Beijing: {PROOF}" in printed
