"""No link leads out of a workspace, whatever the sandbox put into it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from openk2.agent.tool import ToolError
from openk2.agent.tools.inside import read_inside, write_inside


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    return folder


def test_what_is_written_is_read_back(workspace: Path):
    file = write_inside(workspace, "new/deep/a.txt", b"1")
    assert file == workspace / "new/deep/a.txt" and file.read_bytes() == b"1"
    write_inside(workspace, str(file), b"2")
    assert read_inside(workspace, "./new//deep/a.txt", 10) == b"2"
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    "path",
    [
        *("link", "out/secret", "../secret", "sub/../../secret", "/etc/passwd"),
        *("pipe", "sub", "", ".", "none", "none/x", "a\0b"),
    ],
)
def test_nothing_outside_and_nothing_odd_is_read(workspace: Path, path: str):
    with pytest.raises(ToolError) as refused:
        read_inside(workspace, path, 100)
    assert "secret" not in str(refused.value).replace(path, "")


@pytest.mark.parametrize("path", ["out/new", "../new", "/tmp/new", "link/x", "sub", ""])
def test_nothing_outside_is_written(workspace: Path, path: str):
    before = sorted(workspace.parent.iterdir())
    with pytest.raises(ToolError):
        write_inside(workspace, path, b"x")
    assert sorted(workspace.parent.iterdir()) == before


def test_writing_over_a_link_replaces_the_link(workspace: Path):
    write_inside(workspace, "link", b"mine")
    assert (workspace.parent / "secret").read_text() == "secret"
    assert (workspace / "link").read_bytes() == b"mine" and not (workspace / "link").is_symlink()


def test_a_file_that_is_too_long_is_not_read(workspace: Path):
    (workspace / "long").write_bytes(b"x" * 101)
    with pytest.raises(ToolError, match="101 bytes"):
        read_inside(workspace, "long", 100)


def test_a_folder_that_turns_into_a_link_is_not_followed(workspace: Path):
    stop = threading.Event()
    folder, away, link = workspace / "flip", workspace / "away", workspace / "flop"
    folder.mkdir()
    (folder / "secret").write_text("mine")
    link.symlink_to(workspace.parent)

    def flip() -> None:
        while not stop.is_set():
            folder.rename(away)
            link.rename(folder)
            folder.rename(link)
            away.rename(folder)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _ in range(2000):
            try:
                assert read_inside(workspace, "flip/secret", 100) == b"mine"
            except ToolError:
                continue
    finally:
        stop.set()
        thread.join()
