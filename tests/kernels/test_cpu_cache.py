"""Compiled code is kept and shared by processes, and nobody depends on that it can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from openk2.kernels.cpu import build
from openk2.kernels.cpu.cache import STEP, Unit, compiling_elsewhere, is_writable

MODULE = """
from pathlib import Path
from openk2.kernels.cpu.cache import Unit, kept

UNIT = Unit("example", (Path(__file__),), "import example; example.add(1, 2)")

@kept(UNIT)
def add(a, b):
    return a + b + {extra}
"""
CALL = "print(example.add(1, 2), sum(example.add.stats.cache_misses.values()))"
IN_TURN = f"import example\nwith example.UNIT.turn():\n    {CALL}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own, and a module that is compiled, for this process's children."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "example.py").write_text(MODULE.format(extra=0), "utf-8")
    return tmp_path


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(build.__file__).parents[3],
    )


def outputs(*codes: str) -> list[str]:
    processes = [start(code) for code in codes]
    return [process.communicate()[0].strip() for process in processes]


def test_of_several_processes_at_once_one_compiles(folder: Path):
    assert sorted(outputs(*[IN_TURN] * 4)) == ["3 0", "3 0", "3 0", "3 1"]


def test_processes_that_do_not_take_turns_leave_nothing_broken(folder: Path):
    found = outputs(*[f"import example\n{CALL}"] * 4)
    assert [line.split()[0] for line in found] == ["3"] * 4
    assert outputs(IN_TURN) == ["3 0"]


def test_changed_sources_are_compiled_anew(folder: Path):
    assert outputs(IN_TURN) == ["3 1"]
    (folder / "example.py").write_text(MODULE.format(extra=4), "utf-8")
    assert outputs(IN_TURN) == ["7 1"]


def test_where_nothing_can_be_kept_everything_works(folder: Path):
    (folder / "cache").write_text("a file where the directory should be", "utf-8")
    assert outputs(IN_TURN) == ["3 1"]
    with STEP.turn() as kept:
        assert not kept
    assert not is_writable(STEP.directory())
    with compiling_elsewhere([STEP]):
        assert not STEP.is_compiled()


def test_a_turn_waits_for_the_process_that_compiles(folder: Path):
    left = folder / "left"
    unit = Unit("waits", (), f"import time; time.sleep(0.3); open({str(left)!r}, 'w').close()")
    assert is_writable(unit.directory())
    processes = unit.compile_elsewhere()
    with unit.turn() as kept:
        assert kept
        assert left.exists()
        assert not unit.is_compiled()
    assert unit.is_compiled()
    assert [process.wait() for process in processes] == [0]


@pytest.mark.parametrize("statement", ["raise SystemExit(3)", "import os; os.abort()", "?"])
def test_a_process_that_dies_gives_its_turn_back(folder: Path, statement: str):
    unit = Unit("dies", (), statement)
    assert is_writable(unit.directory())
    processes = unit.compile_elsewhere()
    with unit.turn() as kept:
        assert kept
    assert all(process.wait() for process in processes)


def test_no_process_outlives_the_block(folder: Path):
    unit = Unit("sleeps", (), "import time; time.sleep(600)")
    with compiling_elsewhere([unit]):
        pass
    with unit.turn() as kept:
        assert kept


@pytest.mark.parametrize("damage", [b"", b"\x80", b"not a pickle"])
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_damaged_files_are_compiled_anew(folder: Path, ending: str, damage: bytes):
    from numba import types

    def double(x):
        return 2 * x

    for _ in range(2):
        native = build._native(double, types.int64, keep=True)
        assert native.ctypes(21) == 42
        assert native.cache_hits == 0
        files = [*STEP.directory().rglob(f"*.{ending}")]
        assert files
        for path in files:
            path.write_bytes(damage)
