"""The model's hands on files: exact, bounded, and never outside the workspace."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openk2.agent.approval import Policy
from openk2.agent.tool import Call, Tool, ToolError, ToolResult
from openk2.agent.tools.confined import absolute, reach
from openk2.agent.tools.files import FileSettings, edit_file, read_file, write_file
from openk2.agent.tools.files_search import SearchSettings, list_files, search_files


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("the secret")
    return folder


def use(tool: Tool, work: Path, **arguments: Any) -> ToolResult:
    jsonschema_rs.validate(tool.spec.parameters, arguments)
    return asyncio.run(tool.run(arguments, Call("c1", work, 30.0)))


def fails(tool: Tool, work: Path, **arguments: Any) -> str:
    with pytest.raises(ToolError) as caught:
        use(tool, work, **arguments)
    return str(caught.value)


def test_a_file_is_read_with_numbers_and_in_parts(work: Path):
    (work / "a.txt").write_text("".join(f"line {n}\r\n" for n in range(1, 101)))
    part = use(read_file(), work, path="a.txt", start=3, lines=2).content
    assert part == "     3\tline 3\n     4\tline 4\n[lines 3 to 4 of 100: go on with start=5]"
    assert use(read_file(), work, path=str(work / "a.txt")).content.count("\n") == 99
    assert "100 lines only" in fails(read_file(), work, path="a.txt", start=101)
    (work / "empty").touch()
    assert use(read_file(), work, path="empty").content == "`empty` is empty."


def test_floods_of_text_are_cut(work: Path):
    (work / "long.txt").write_text("x" * 5_000_000 + "\nnext\n" + "é" * 2_500 + "\n" + "y" * 8_000)
    lines = use(read_file(), work, path="long.txt").content.split("\n")
    assert lines[0] == "     1\t" + "x" * 2_000 + "… [line cut]"
    assert lines[1] == "     2\tnext"
    assert lines[2].endswith("é… [line cut]") and len(lines) == 4
    tight = read_file(FileSettings(characters=100))
    (work / "many").write_text("0123456789\n" * 1_000)
    content = use(tight, work, path="many").content
    assert len(content) < 250 and content.endswith("of 1000: go on with start=6]")


def test_what_is_no_text_is_named_and_refused(work: Path):
    head = struct.pack(">IIBBBBB", 640, 480, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (work / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    (work / "a.pdf").write_bytes(b"%PDF-1.7 x")
    (work / "a.bin").write_bytes(bytes(range(256)) * 8)
    (work / "a.jpg").write_bytes(
        bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffc0001108012c019003012200") * 2
    )
    assert "PNG, 640 × 480 pixels" in fails(read_file(), work, path="a.png")
    assert "JPEG, 400 × 300 pixels" in fails(read_file(), work, path="a.jpg")
    assert "PDF" in fails(read_file(), work, path="a.pdf")
    assert "binary data of 2,048 bytes" in fails(read_file(), work, path="a.bin")
    (work / "latin1").write_bytes("Ein schöner Tag für alle\n".encode("latin1"))
    assert "sch�ner" in use(read_file(), work, path="latin1").content


def test_a_missing_path_names_the_nearest_that_exists(work: Path):
    (work / "src").mkdir()
    (work / "src" / "model.py").touch()
    text = fails(read_file(), work, path="src/modle.py")
    assert text == ("There is no `src/modle.py`: `src/` has model.py. Did you mean `src/model.py`?")
    assert "the workspace has src. Did you mean `src`?" in fails(read_file(), work, path="scr/x")
    assert "is a folder: use list_files" in fails(read_file(), work, path="src")
    assert "There is no `nowhere`" in fails(list_files(), work, path="nowhere")
    assert "There is no `nowhere`" in fails(search_files(), work, path="nowhere", pattern="x")


def test_writing_makes_folders_and_replaces_the_whole_file(work: Path):
    done = use(write_file(), work, path="a/b/c.txt", content="one\ntwo")
    assert done.content == "Wrote `a/b/c.txt`: now 2 lines, 7 bytes."
    assert done.artifacts == (work / "a/b/c.txt",)
    (work / "a/b/c.txt").chmod(0o755)
    assert "Replaced" in use(write_file(), work, path="a/b/c.txt", content="").content
    assert (work / "a/b/c.txt").stat().st_mode & 0o777 == 0o755
    assert (
        "Appended" in use(write_file(), work, path="a/b/c.txt", content="x\n", append=True).content
    )
    assert (work / "a/b/c.txt").read_text() == "x\n"
    assert sorted(path.name for path in (work / "a/b").iterdir()) == ["c.txt"]
    assert "half a character" in fails(write_file(), work, path="a", content="\ud800")
    assert "not a regular file" in fails(write_file(), work, path="a", content="x")
    assert "not a folder" in fails(write_file(), work, path="a/b/c.txt/d", content="x")


def test_an_edit_replaces_exactly_one_passage(work: Path):
    (work / "a.py").write_bytes(b"x = 1\r\ny = 2\r\nx = 1\r\n")
    text = fails(edit_file(), work, path="a.py", old="x = 1", new="x = 3")
    assert "2 times, at lines 1, 3" in text
    done = use(edit_file(), work, path="a.py", old="y = 2\nx = 1", new="y = 2\nx = 3")
    assert (work / "a.py").read_bytes() == b"x = 1\r\ny = 2\r\nx = 3\r\n"
    assert "-x = 1\n+x = 3" in done.content
    use(edit_file(), work, path="a.py", old="x =", new="z =", all=True)
    assert (work / "a.py").read_text().count("z =") == 2
    assert "line 2" in fails(edit_file(), work, path="a.py", old="y =  2", new="")
    assert "Line 2 is like" in fails(edit_file(), work, path="a.py", old="y = 2\nq", new="")
    assert "the same" in fails(edit_file(), work, path="a.py", old="y", new="y")
    (work / "b").write_bytes(b"\xff")
    assert "not UTF-8" in fails(edit_file(), work, path="b", old="y", new="z")
    small = edit_file(FileSettings(edit_bytes=3))
    assert "larger than 3 bytes" in fails(small, work, path="a.py", old="y", new="z")


WAYS_OUT = [
    "../secret.txt",
    "/etc/passwd",
    "a/../../secret.txt",
    "direct",
    "up/secret.txt",
    "root/etc/passwd",
    "chain",
    "self/up/secret.txt",
]


@pytest.mark.parametrize("path", WAYS_OUT)
@pytest.mark.parametrize(
    "tool", [read_file(), write_file(), edit_file(), list_files(), search_files()]
)
def test_no_path_and_no_link_leads_out(work: Path, path: str, tool: Tool):
    (work / "a").mkdir()
    (work / "direct").symlink_to("../secret.txt")
    (work / "up").symlink_to("..")
    (work / "root").symlink_to("/")
    (work / "chain").symlink_to("a/next")
    (work / "a" / "next").symlink_to(work.parent / "secret.txt")
    (work / "self").symlink_to(work)
    arguments = {"path": path, "content": "x", "old": "the", "new": "x", "pattern": "secret"}
    wanted = {key: arguments[key] for key in tool.spec.parameters["required"]} | {"path": path}
    assert "leads out of the workspace" in fails(tool, work, **wanted)
    assert (work.parent / "secret.txt").read_text() == "the secret"


def test_links_inside_are_followed_and_circles_end(work: Path):
    (work / "a").mkdir()
    (work / "a" / "file").write_text("text")
    (work / "link").symlink_to("a/../a/file")
    (work / "whole").symlink_to(work / "a")
    (work / "loop").symlink_to("loop")
    assert "text" in use(read_file(), work, path="link").content
    assert "text" in use(read_file(), work, path="whole/../link").content
    use(write_file(), work, path="whole/file", content="new")
    assert (work / "a" / "file").read_text() == "new" and (work / "link").is_symlink()
    assert "circle" in fails(read_file(), work, path="loop")


def test_pipes_sockets_and_devices_do_not_block(work: Path):
    os.mkfifo(work / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(work, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/sock")
        os.close(folder)
        begin = time.monotonic()
        assert "not a regular file" in fails(read_file(), work, path="pipe")
        assert "cannot be read" in fails(read_file(), work, path="sock")
        assert "not a regular file" in fails(write_file(), work, path="pipe", content="x")
        assert "No line matches" in use(search_files(), work, pattern="x").content
    assert time.monotonic() - begin < 5


def test_a_folder_that_turns_into_a_link_meanwhile_does_not_lead_out(work: Path):
    """Another process swaps a folder and a link to the outside while files are written."""
    (work / "real").mkdir()
    outside = work.parent / "outside"
    outside.mkdir()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (work / "real").rename(work / "kept")
            (work / "real").symlink_to(outside)
            (work / "real").unlink()
            (work / "kept").rename(work / "real")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(1_500):
            try:
                with reach(work, "real/x") as place:
                    place.write(b"x")
            except ToolError:
                pass
    finally:
        stop.set()
        thread.join()
    assert list(outside.iterdir()) == []


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "in", "out", "/"]), max_size=6)


@given(NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_path_what_is_reached_is_inside(work: Path, names: list[str]):
    (work / "a" / "b").mkdir(parents=True, exist_ok=True)
    for name, target in (("in", "a/b"), ("out", "../..")):
        if not (work / name).is_symlink():
            (work / name).symlink_to(target)
    path = "/".join(names)
    try:
        with reach(work, path) as place:
            found = Path(f"/proc/self/fd/{place.folder}").resolve() / place.name
    except ToolError:
        return
    assert found.resolve().is_relative_to(work)


def test_access_names_the_file_behind_a_link(work: Path):
    (work / ".env").touch()
    (work / "innocent").symlink_to(".env")
    assert absolute(work, "innocent") == (work / "innocent", work / ".env")
    assert absolute(work, "a/../b") == (work / "b",)
    access = edit_file().access({"path": "innocent"}, work)
    assert work / ".env" in access.reads and work / ".env" in access.writes
    assert write_file().access({"path": "/etc/x"}, work).writes == (Path("/etc/x"),)
    assert list_files().access({}, work).reads == (work,)


def test_a_listing_is_a_tree_without_what_programs_fill(work: Path):
    for name in ("src/deep/er/x.py", "node_modules/big.js", "b.txt", ".git/HEAD"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("12345")
    (work / "link").symlink_to("b.txt")
    assert use(list_files(), work).content.split("\n") == [
        "workspace/",
        "  src/",
        "    deep/",
        "      er/",
        "  b.txt (5 bytes)",
        "  link (link)",
    ]
    assert use(list_files(), work, path="src", depth=5).content.endswith("      x.py (5 bytes)")
    few = list_files(SearchSettings(entries=2))
    assert use(few, work).content.endswith("    deep/\n[3 more: list a folder of it]")


def test_a_search_names_file_and_line(work: Path):
    (work / "src").mkdir()
    (work / "src" / "a.py").write_text("import os\nx = Fetch()\n")
    (work / "b.txt").write_text("fetch\n" + "z" * 1_000 + "fetch" + "z" * 1_000)
    (work / "bin").write_bytes(b"fetch\0")
    found = use(search_files(), work, pattern=r"\bFetch\(").content
    assert found == "src/a.py:2: x = Fetch()"
    lines = use(search_files(), work, pattern="fetch", ignore_case=True).content.split("\n")
    assert [line.split(" ")[0] for line in lines] == ["b.txt:1:", "b.txt:2:", "src/a.py:2:"]
    assert "zfetchz" in lines[1] and len(lines[1]) < 350
    assert use(search_files(), work, pattern="e", glob="*.py", path="src/a.py").content != ""
    assert "No line matches" in use(search_files(), work, pattern="e", glob="*.md").content
    assert "not a regular expression" in fails(search_files(), work, pattern="(")
    few = search_files(SearchSettings(matches=1, file_bytes=100))
    text = use(few, work, pattern="[te]").content
    assert "[there are more matches" in text and "[1 files are too large" in text


def test_a_search_does_not_show_what_may_not_be_read(work: Path):
    (work / "keys").mkdir()
    for name in ("keys/a.txt", ".env", "b.txt"):
        (work / name).write_text("token")
    policy = Policy.of(["deny read keys/**", "deny read **/.env"])
    tool = search_files(hidden=lambda path: policy.hides(path, work))
    assert use(tool, work, pattern="token").content == "b.txt:1: token"


def test_a_pattern_that_takes_forever_is_stopped_and_named(work: Path):
    (work / "a.txt").write_text("match aaaa!\n")
    (work / "b.txt").write_text("a" * 40 + "!\n")
    begin = time.monotonic()
    quick = search_files(SearchSettings(seconds=0.5))
    text = use(quick, work, pattern=r"(a+)+$|match").content
    assert time.monotonic() - begin < 3
    assert text.startswith("a.txt:1: match") and "stopped in b.txt" in text


def test_a_search_that_is_cancelled_leaves_no_process(work: Path):
    (work / "b.txt").write_text("a" * 40 + "!\n")

    async def cancelled() -> list[str]:
        task = asyncio.ensure_future(
            search_files().run({"pattern": "(a+)+$"}, Call("c", work, 30.0))
        )
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        return [
            pid
            for pid in children.read_text().split()
            if b"scan.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    assert asyncio.run(cancelled()) == []
