"""Where exports go: nobody's file is touched, and what cannot be written is said in a sentence."""

import errno
import os
import shutil
import signal
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from openk2.cli import app, checkpoints
from openk2.export.gguf import export_gguf
from openk2.export.hf import export_hf
from openk2.export.place import ExportError, unfinished
from openk2.model.checkpoint import Checkpoint
from tests.export.test_gguf import SMALL, write_model


@pytest.fixture
def source(tmp_path) -> Path:
    return write_model(tmp_path / "source", SMALL)


def write(kind: str, source: Path, out: Path, **settings: Any) -> None:
    if kind == "gguf":
        export_gguf(source, out, format="f16", **settings)
    else:
        export_hf(source, out, shard_bytes=100_000, **settings)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("name", ["model.safetensors", "tiktoken.model", "config.json", "new"])
def test_no_file_of_the_source_is_replaced_or_joined(name, source):
    before = contents(source)
    arguments = ["export", "gguf", str(source), str(source / name), "--format", "f16", "--force"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert f"{name} is or would be part of the model that is read" in done.stderr
    assert contents(source) == before


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_another_name_of_a_source_file_is_known(link, source, tmp_path):
    link(source / "model.safetensors", tmp_path / "out.gguf")
    before = contents(source)
    with pytest.raises(ExportError, match="part of the model"):
        write("gguf", source, tmp_path / "out.gguf", force=True)
    assert contents(source) == before


def test_a_gguf_file_may_lie_beside_its_source(source):
    for _ in range(2):
        write("gguf", source, source / "model.gguf", force=True)
    Checkpoint(source).check_complete()


def test_files_with_names_for_the_time_being_are_nobody_elses(source, tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "out.gguf.tmp").symlink_to(tmp_path / "victim")
    write("gguf", source, tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf.tmp").is_symlink()
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_name_for_the_time_being_cannot_be_known_and_goes_away(tmp_path):
    with unfinished(tmp_path / "a") as first, unfinished(tmp_path / "a") as second:
        assert first != second and first.parent == second.parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "b"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("kind", ["gguf", "hf"])
def test_files_are_as_readable_as_any_new_file(kind, source, tmp_path):
    before = os.umask(0o027)
    try:
        write(kind, source, tmp_path / "out")
    finally:
        os.umask(before)
    files = [tmp_path / "out"] if kind == "gguf" else list((tmp_path / "out").iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o640}


@pytest.mark.parametrize("kind", ["gguf", "hf"])
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "cannot be written, the disk is full: make room"),
        (errno.EROFS, "cannot be written, Read-only file system: name a place where you may write"),
    ],
)
def test_what_the_system_refuses_names_the_file(kind, code, said, source, tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ExportError, match=rf"out\S* {said}"):
        write(kind, source, tmp_path / "out")
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("kind", ["gguf", "hf"])
def test_a_place_below_a_file_and_a_link_to_nothing_are_said(kind, source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"Not a directory|file is not a directory"):
        write(kind, source, tmp_path / "file" / "out")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(ExportError, match=r"link is a link to .*nothing, which does not exist"):
        write(kind, source, tmp_path / "link")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "file", "link"}


@pytest.mark.parametrize("kind", ["gguf", "hf"])
@pytest.mark.parametrize("name", ["tiktoken.model", "tokenizer_config.json"])
def test_a_source_without_a_tokenizer_says_what_to_do(kind, name, source, tmp_path):
    (source / name).unlink()
    with pytest.raises(ExportError, match=rf"{name} is missing: add the tokenizer's files"):
        write(kind, source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_room_is_asked_for_every_byte_before_the_directory_is_made(source, tmp_path, monkeypatch):
    write("hf", source, tmp_path / "first")
    total = sum(path.stat().st_size for path in (tmp_path / "first").iterdir())
    disk, asked = shutil.disk_usage(tmp_path), []

    def left(free):
        return lambda path: asked.append(path) or disk._replace(free=free)

    out = tmp_path / "new" / "out"
    monkeypatch.setattr(shutil, "disk_usage", left(total - 1))
    with pytest.raises(ExportError, match=rf"needs {total:,} bytes and .* has {total - 1:,} left"):
        write("hf", source, out)
    assert asked == [tmp_path] and not out.parent.exists()
    monkeypatch.setattr(shutil, "disk_usage", left(total))
    write("hf", source, out)


@pytest.mark.parametrize(
    ("kind", "said"), [("gguf", "was not written"), ("hf", "does not load: remove it")]
)
def test_control_c_says_what_is_left(kind, said, source, tmp_path, monkeypatch):
    @contextmanager
    def bar():
        yield lambda done, total: os.kill(os.getpid(), signal.SIGINT) if done > total / 2 else None

    monkeypatch.setattr(checkpoints, "bytes_bar", bar)
    out = tmp_path / "out"
    options = ["--format", "f16"] if kind == "gguf" else ["--shard-size", "100KB"]
    done = CliRunner().invoke(app, ["export", kind, str(source), str(out), *options])
    assert done.exit_code == 130
    (line,) = done.stderr.splitlines()
    assert line.startswith("openk2: interrupted: ") and line.endswith(said)
    left = list(out.iterdir()) if out.exists() else []
    assert f"{out} holds {len(left)} files" in line or (kind, left) == ("gguf", [])
    assert not list(tmp_path.rglob("*.tmp")) and not (out / "config.json").exists()
