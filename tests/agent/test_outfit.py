"""What an agent has at hand: by its window, by what is on the machine, by what was asked for."""

import asyncio

import pytest

from openk2.agent.journal import Journal
from openk2.agent.loop import Live, Settings
from openk2.agent.models.echo import Echo
from openk2.agent.outfit import FEW, Options, Outfit
from openk2.agent.sandbox.isolation import SandboxMissing
from openk2.agent.tool import Tool
from openk2.types import ToolSpec


def names(folder, window=131_072, **options):
    """Return the names of an agent's tools, and what is missing."""

    async def look():
        workspace = folder / "workspace"
        workspace.mkdir()
        outfit = Outfit(folder, workspace, Echo(), Options(network=False, **options))
        journal = Journal.create(folder)
        async with outfit:
            agent = outfit.agent(Settings("Look", window=window), journal, Live(), None)
            found = [tool.name for tool in agent.tools()]
        journal.close()
        return found, outfit.missing

    return asyncio.run(look())


def test_every_tool_is_there_once(tmp_path):
    found, _ = names(tmp_path)
    assert len(found) == len(set(found))
    assert {"read_file", "search_files", "update_plan", "read_result", "task", "swarm"} <= set(
        found
    )


def test_a_small_window_gets_few_tools_and_those_of_the_caller(tmp_path):
    async def run(arguments, call):
        raise AssertionError

    mine = Tool(spec=ToolSpec("mine"), run=run)
    found, _ = names(tmp_path, window=4096, more=(mine,))
    assert set(found) <= {*FEW, "mine"}
    assert {"read_file", "finish", "mine"} <= set(found)


def test_without_isolation_nothing_runs_code_and_a_sentence_says_so(tmp_path, monkeypatch):
    def refuse(*, allow_unsafe):
        assert not allow_unsafe
        raise SandboxMissing(
            "nothing here isolates the programs of a model: run `make system-deps`"
        )

    monkeypatch.setattr("openk2.agent.outfit.choose_sandbox", refuse)
    found, missing = names(tmp_path)
    assert not {"shell", "code_interpreter"} & set(found)
    assert "read_file" in found
    assert any("make system-deps" in sentence for sentence in missing)


@pytest.mark.parametrize(
    "text, told",
    [("", "cannot be read"), ("[]", "mcpServers"), ("{", "not JSON")],
)
def test_a_bad_file_of_servers_is_a_sentence_and_the_rest_is_there(tmp_path, text, told):
    file = tmp_path / "mcp.json"
    if text:
        file.write_text(text)
    found, missing = names(tmp_path, mcp=file)
    assert "read_file" in found
    assert any(told in sentence for sentence in missing)
