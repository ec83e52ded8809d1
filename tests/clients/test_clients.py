"""Coding agents and SDKs, as their makers ship them, against a gateway in a process of its own.

Each runs a loop of two turns: the model calls a tool, the client runs it, the model reports what it
printed. `make clients` installs them; without, the tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.scripted_upstream import MODEL, PROOF, ScriptedModel, listen

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MODULES = Path(os.environ.get("OPENK2_CLIENTS", ROOT / ".venv" / "clients")) / "node_modules"
NODE = shutil.which("node")
SECONDS = 100


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def gateway(model: ScriptedModel) -> Iterator[str]:
    """Start `openk2 serve --upstream` and give its root URL."""
    command = [sys.executable, "-m", "openk2.cli", "serve", "--port", "0", "--upstream"]
    with listen(model) as upstream:
        process = subprocess.Popen(
            [*command, upstream], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "http://" in line)
            url = next(word for word in line.split() if word.startswith("http://"))
            yield url.removesuffix("/v1")
        finally:
            process.terminate()
            process.communicate(timeout=20)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Run a client in an empty home and an empty directory, and give what it printed."""

    def run_it(command: list[str], **environment: str) -> str:
        program = Path(command[0])
        if NODE is None or not program.exists():
            pytest.skip(f"{program} is not installed: run `make clients`, which needs Node and npm")
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        settings = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            command,
            cwd=work,
            env=settings | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run_it


def said_by_tool(model: ScriptedModel) -> list[str]:
    """What clients returned for the model's calls."""
    messages = [message for body in model.bodies for message in body["messages"]]
    return [str(message["content"]) for message in messages if message["role"] == "tool"]


def test_claude_code(gateway, model, run):
    program = MODULES / "@anthropic-ai" / "claude-code-linux-x64" / "claude"
    printed = run(
        [str(program), "-p", "Run the command.", "--allowedTools", "Bash"],
        ANTHROPIC_BASE_URL=gateway,
        ANTHROPIC_AUTH_TOKEN="none",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )
    assert PROOF in printed
    assert any(PROOF in text for text in said_by_tool(model))
    # What it says about itself would change the prompt, and with it what is cached.
    assert "x-anthropic-billing-header" not in json.dumps(model.bodies)


def test_codex(gateway, model, run, tmp_path):
    home = tmp_path / "codex"
    home.mkdir()
    (home / "config.toml").write_text(
        f"""
model = "{MODEL}"
model_provider = "openk2"
[model_providers.openk2]
name = "openk2"
base_url = "{gateway}/v1"
wire_api = "responses"
"""
    )
    program = MODULES / ".bin" / "codex"
    options = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    printed = run([str(program), "exec", *options, "Run the command."], CODEX_HOME=str(home))
    assert PROOF in printed
    assert any(PROOF in text for text in said_by_tool(model))


AI_SDK = """
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const provider = createOpenAICompatible({
  name: "openk2", baseURL: process.argv[2], includeUsage: true,
});
const result = streamText({
  model: provider("scripted"),
  prompt: "How is the weather?",
  stopWhen: stepCountIs(3),
  tools: {
    get_weather: tool({
      description: "Tell the weather.",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => `${city}: openk2-${40 + 2}`,
    }),
  },
});
let text = "";
for await (const piece of result.textStream) text += piece;
console.log(text);
console.log(JSON.stringify((await result.steps).map((step) => step.usage)));
"""


def test_ai_sdk(gateway, model, run, tmp_path):
    # Node looks for packages beside the script and above it.
    (tmp_path / "node_modules").symlink_to(MODULES)
    script = tmp_path / "loop.mjs"
    script.write_text(AI_SDK)
    if not (MODULES / "ai").exists():
        pytest.skip("the AI SDK is not installed: run `make clients`, which needs Node and npm")
    printed = run([str(NODE), str(script), f"{gateway}/v1"])
    assert f"Beijing: {PROOF}" in printed
    assert any(PROOF in text for text in said_by_tool(model))
    assert '"inputTokens":11' in printed
