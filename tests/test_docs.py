"""The reference matches the code, records are complete, and links in the docs lead somewhere."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer
from starlette.routing import Route

from docs.reference.generate import PAGE_WRITERS, command_paths, config_classes
from docs.reference.http_page import DIALECTS, ENDPOINTS, FAILURES, field_rows
from openk2.cli import app
from openk2.server.app import create_app
from tests import parity

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
RECORDS = sorted((ROOT / "bench" / "records").glob("*.json"))
RECORD_KEYS = {"commit", "machine", "command", "result"}


def pages() -> list[Path]:
    places = [DOCS.rglob("*.md"), (ROOT / "data").glob("*.md"), (ROOT / "examples").rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *(path for found in places for path in found)])


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# The reference ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted(PAGE_WRITERS))
def test_a_generated_page_is_up_to_date(page: str):
    assert read(REFERENCE / page) == PAGE_WRITERS[page](), "run `make docs` and commit the result"


def test_every_command_and_option_is_in_the_reference():
    text = read(REFERENCE / "cli.md")
    root = typer.main.get_command(app)
    for path in command_paths(root):
        assert f"## {' '.join(['openk2', *path])}\n" in text
        command: Any = root
        for word in path:
            command = command.commands[word]
        missing = [option for parameter in command.params for option in parameter.opts]
        assert [option for option in missing if option not in text] == []


def test_every_setting_is_in_the_reference():
    text = read(REFERENCE / "settings.md")
    for module, name in config_classes():
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        fields = dataclasses.fields(getattr(importlib.import_module(module), name))
        assert [field.name for field in fields if f"| `{field.name}` |" not in section] == []


def test_every_endpoint_is_in_the_reference():
    text = read(REFERENCE / "http-api.md")
    # Routes are made without looking at the model behind them.
    api = create_app(cast(Any, SimpleNamespace(models=())))
    endpoints = [
        f"{method} {route.path.replace(':path', '')}"
        for route in api.routes
        if isinstance(route, Route)
        for method in sorted(route.methods or ())
    ]
    assert "POST /v1/chat/completions" in endpoints
    assert [endpoint for endpoint in endpoints if f"`{endpoint}`" not in text] == []
    paths = {endpoint.partition(" ")[2].removeprefix("/anthropic") for endpoint in endpoints}
    assert paths - ENDPOINTS.keys() == {""}, "say in http_page.ENDPOINTS what it answers"


def test_every_request_field_is_in_the_reference():
    sections = read(REFERENCE / "http-api.md").split("\n## ")
    for dialect in DIALECTS:
        section = next(text for text in sections if text.startswith(f"{dialect.title}\n"))
        told = re.findall(r"^\| `([^`]+)`( \+)? \| .+ \| (\w+) \| .+ \|$", section, re.MULTILINE)
        rows = field_rows(dialect.name)
        assert {path: status for path, _, status in told} == {p: r.status for p, r in rows.items()}
        assert {path for path, ours, _ in told if ours} == {p for p, r in rows.items() if r.ours}


def test_what_becomes_of_a_field_is_said_in_one_place():
    pages = [REFERENCE / dialect.page for dialect in DIALECTS]
    assert [page.name for page in pages if "| field |" in read(page)] == []
    assert [page.name for page in pages if "](http-api.md" not in read(page)] == []


def test_every_error_code_is_in_the_reference():
    known = {code: status for status, code, _ in FAILURES}
    trees = [ast.parse(read(path)) for path in sorted((ROOT / "openk2" / "server").rglob("*.py"))]
    codes = {code for tree in trees for code in codes_in(tree)}
    assert {"unsupported_value", "upstream_unreachable"} <= codes
    assert codes - known.keys() == set(), "say in http_page.FAILURES when it comes"
    told = [found for tree in trees for found in statuses_in(tree)]
    assert (429, "engine_overloaded") in told
    assert [(status, code) for status, code in told if known[code] != status] == []


def statuses_in(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield status and code of every error that is made with both."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name("ApiError"), args=[ast.Constant(int(status)), *_]):
                for keyword in node.keywords:
                    if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                        yield status, cast(str, keyword.value.value)
            case _:
                pass


def codes_in(tree: ast.Module) -> Iterator[str]:
    """Yield the codes that a module gives to errors, also by the names of its constants."""
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "code":
            for inner in ast.walk(node.value):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield inner.value
                elif isinstance(inner, ast.Name) and inner.id in constants:
                    yield constants[inner.id]


def test_the_parity_page_has_a_row_for_every_marked_test(
    parity_rows: list[parity.Row], pytestconfig: pytest.Config
):
    if pytestconfig.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        pytest.skip("only a run of the whole suite collects every mark")
    assert parity_rows
    assert read(parity.PAGE) == parity.page(parity_rows), "run `make parity` and commit the result"


# Records and links ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECORDS, ids=str)
def test_a_record_says_what_was_measured_where_and_how(path: Path):
    record = json.loads(read(path))
    assert set(record) >= RECORD_KEYS
    assert all(record[key] for key in RECORD_KEYS)
    assert re.fullmatch(r"[0-9a-f]{7,40}\+?", record["commit"])


def test_every_row_of_measurements_in_the_readme_links_a_record():
    section = read(ROOT / "README.md").partition("\n## Measured\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    records = {path.relative_to(ROOT).as_posix() for path in RECORDS}
    assert rows
    assert [row for row in rows if records.isdisjoint(re.findall(r"\]\(([^)]+)\)", row))] == []


def test_the_readme_shows_every_room():
    text = read(ROOT / "README.md")
    tree = text.partition("```text\nopenk2/\n")[2].partition("```")[0]
    modules = {path.name for path in (ROOT / "openk2").glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in (ROOT / "openk2").glob("*/__init__.py")}
    assert {room for room in modules | folders if f"\n  {room} " not in f"\n{tree}"} == set()


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_a_readme_has_no_gap(page: str):
    assert "TODO" not in read(ROOT / page)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_and_json_in_a_page_can_be_read(page: Path):
    for language, block in re.findall(r"```(python|json)\n(.*?)```", read(page), re.DOTALL):
        compile(block, page.name, "exec") if language == "python" else json.loads(block)


def links(page: Path) -> Iterator[str]:
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", read(page), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    prose = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_inside_the_repository_lead_somewhere(page: Path):
    broken: list[str] = []
    for target in links(page):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_exist(page: Path):
    named = re.findall(
        r"`((?:openk2|bench|runs|tests|docs|data|configs)/[\w./-]*\w/?)`", read(page)
    )
    assert [name for name in named if not (ROOT / name).exists()] == []
