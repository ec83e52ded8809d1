"""Every import in the package obeys the two tables in docs/architecture.md, lazy ones included."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "openk2"
FOR_ALL = {"types", "config"}
TORCH_FREE = ["types", "config", "text", "cli"]


@dataclass(frozen=True)
class Import:
    """One imported module: where, what, and whether the import waits inside a function."""

    path: Path
    line: int
    module: str
    lazy: bool

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def table(header: str) -> dict[str, tuple[set[str], set[str]]]:
    """Read a docs table into {first cell: (names anywhere, names inside functions only)}."""
    lines = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()
    start = lines.index(header) + 2
    rows: dict[str, tuple[set[str], set[str]]] = {}
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        first, second = (cell.strip() for cell in line.strip("|").split("|"))
        anywhere, _, inside = second.partition("inside functions:")
        if second.endswith("all inside functions"):
            anywhere, inside = "", second
        key = first.strip("`")
        assert key not in rows, f"two rows for {key}"
        rows[key] = set(re.findall(r"`(\w+)`", anywhere)), set(re.findall(r"`(\w+)`", inside))
    return rows


ROOMS = table("| room | may import |")
PACKAGES = table("| package | may be imported by |")


def rooms_on_disk() -> set[str]:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    return modules | {path.parent.name for path in PACKAGE.glob("*/*.py")}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, lazy: bool) -> None:
        found.extend(Import(path, line, module, lazy) for line, module in modules_of(node, path))
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, lazy or function or is_type_checking(node))

    visit(ast.parse(path.read_text(encoding="utf-8")), lazy=False)
    return found


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def modules_of(node: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    match node:
        case ast.Import(names=names, lineno=line):
            yield from ((line, alias.name) for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level, lineno=line):
            base = module or ""
            if level:
                package = path.relative_to(ROOT).with_suffix("").parts[:-level]
                base = ".".join([*package, *([module] if module else [])])
            # `from openk2 import text` names a room in the alias.
            if base == "openk2":
                yield from ((line, f"openk2.{alias.name}") for alias in names)
            else:
                yield line, base
        case ast.Call(args=[ast.Constant(value=str(module)), *_], lineno=line):
            if ast.unparse(node.func) in {"__import__", "import_module", "importlib.import_module"}:
                yield line, module


def wrong_room(found: Import) -> bool:
    parts = found.module.split(".")
    room = room_of(found.path)
    if parts[0] != "openk2" or len(parts) == 1:
        return False
    if parts[1] not in rooms_on_disk():  # a name such as __version__, or a room that is not there
        return not hasattr(__import__("openk2"), parts[1])
    if parts[1] == room or parts[1] in FOR_ALL:
        return False
    anywhere, inside = ROOMS.get(room, (set(), set()))
    return parts[1] not in anywhere | (inside if found.lazy else set())


def wrong_package(found: Import) -> bool:
    package = found.module.split(".")[0]
    if package in sys.stdlib_module_names or package == "openk2":
        return False
    anywhere, inside = PACKAGES.get(package, (set(), set()))
    return room_of(found.path) not in anywhere | (inside if found.lazy else set())


def test_every_room_has_a_row_and_every_row_a_room():
    assert rooms_on_disk() - set(ROOMS) == set(), "rooms without a row in docs/architecture.md"
    assert set(ROOMS) - rooms_on_disk() == set(), "rows in docs/architecture.md without a room"


def test_the_table_has_no_cycle():
    below = {room: anywhere | inside for room, (anywhere, inside) in ROOMS.items()}
    order: list[str] = []
    while len(order) < len(below):
        free = [room for room in below if room not in order and below[room] <= set(order)]
        assert free, f"these rooms import each other in a circle: {set(below) - set(order)}"
        order += free


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_what_its_row_allows(room: str):
    found = [i for path in files() if room_of(path) == room for i in imports(path)]
    assert [str(i) for i in found if wrong_room(i)] == []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_uses_only_the_packages_that_list_it(room: str):
    found = [i for path in files() if room_of(path) == room for i in imports(path)]
    assert [str(i) for i in found if wrong_package(i)] == []


def test_every_package_permission_is_used():
    used: set[tuple[str, str]] = set()
    for found in (found for path in files() for found in imports(path)):
        used.add((found.module.split(".")[0], room_of(found.path)))
    allowed = {
        (package, room)
        for package, (anywhere, inside) in PACKAGES.items()
        for room in anywhere | inside
    }
    assert allowed - used == set()


def test_every_dependency_is_in_the_package_table_and_has_a_decision_note():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    runtime = [name_of(line) for line in [*project["dependencies"], *extras["train"]]]
    assert set(runtime) - set(PACKAGES) == set()
    notes = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    titles = " ".join(path.read_text(encoding="utf-8").splitlines()[0] for path in notes)
    everything = {*runtime, *map(name_of, extras["dev"])} - {"openk2"}
    assert everything - set(re.findall(r"[\w-]+", titles)) == set()


def name_of(requirement: str) -> str:
    return re.split(r"[\s<>=\[]", requirement)[0]


@pytest.mark.parametrize("room", TORCH_FREE)
def test_these_rooms_load_without_torch(room: str):
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in files()
        if room_of(path) == room
    ]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert modules and done.returncode == 0, done.stderr or f"{room} loads torch"


def test_imports_are_found_wherever_they_hide(tmp_path: Path):
    source = (
        "from typing import TYPE_CHECKING\n"
        "import importlib\n"
        "if TYPE_CHECKING:\n    from openk2.server import app\n"
        "from openk2 import train\n"
        "def late():\n    from ..engine import cache\n    importlib.import_module('openk2.cli')\n"
    )
    room = PACKAGE / "text" / "hidden.py"  # never written: only its place in the package counts
    found = [
        (module, line)
        for node in ast.walk(ast.parse(source))
        for line, module in modules_of(node, room)
        if module.startswith("openk2")
    ]
    assert sorted(found) == [
        ("openk2.cli", 8),
        ("openk2.engine", 7),
        ("openk2.server", 4),
        ("openk2.train", 5),
    ]
    assert all(wrong_room(Import(room, line, module, lazy=True)) for module, line in found)
