"""Size is a budget: files, functions, names, the README, the data and the shipped weights."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES = 500
FILE_LINES_HARD = 600
FUNCTION_LINES = 60
README_LINES = 200
DATA_BYTES = 40_000_000
WEIGHT_BYTES = 60_000_000

LONG_FILES: dict[str, str] = {}
"""Path → why it cannot be split. A file here may reach FILE_LINES_HARD, never more."""

FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
FORBIDDEN_CLASSES = ("Manager", "Factory")


def python_files() -> list[Path]:
    roots = ("openk2", "bench", "runs", "examples", "tests", "docs")
    return sorted(path for root in roots for path in (ROOT / root).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def definitions(*kinds: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kinds):
                yield path, node


def test_no_file_is_longer_than_the_budget():
    sizes = {name(path): lines(path) for path in python_files()}
    allowed = {file: FILE_LINES_HARD if file in LONG_FILES else FILE_LINES for file in sizes}
    assert {file: size for file, size in sizes.items() if size > allowed[file]} == {}


def test_the_list_of_long_files_holds_only_long_files():
    short = [file for file in LONG_FILES if lines(ROOT / file) <= FILE_LINES]
    assert short == [], "these fit the budget now: take them off the list"


def test_no_function_is_longer_than_the_budget():
    long = [
        f"{name(path)}:{node.lineno} {node.name}: {length} lines"
        for path, node in definitions(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert long == []


def test_no_file_has_a_name_that_says_nothing():
    parts = {
        name(path): {*path.with_suffix("").parts[len(ROOT.parts) :]} for path in python_files()
    }
    assert [file for file, words in parts.items() if words & FORBIDDEN_NAMES] == []


def test_no_class_is_a_manager_or_a_factory():
    classes = [
        f"{name(path)}: {node.name}"
        for path, node in definitions(ast.ClassDef)
        if isinstance(node, ast.ClassDef) and node.name.endswith(FORBIDDEN_CLASSES)
    ]
    assert classes == []


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_the_readme_is_short(readme: str):
    assert lines(ROOT / readme) <= README_LINES


def test_the_training_data_fits_its_budget():
    files = (path for path in (ROOT / "data").rglob("*") if path.is_file())
    assert 0 < sum(path.stat().st_size for path in files) <= DATA_BYTES


def test_each_shipped_model_fits_its_budget():
    models = [path.parent for path in (ROOT / "openk2" / "assets").glob("*/config.json")]
    sizes = {
        name(model): sum(file.stat().st_size for file in model.glob("*.safetensors"))
        for model in models
    }
    assert models and min(sizes.values()) > 0, "a model without weights is not shipped"
    assert {model: size for model, size in sizes.items() if size > WEIGHT_BYTES} == {}


def test_help_needs_no_torch():
    code = (
        "import sys; sys.argv = ['openk2', '--help']\n"
        "from openk2.cli import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules, 'torch is imported for a help text'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout
