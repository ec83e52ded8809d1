"""The signing key in a file: made once, kept from others, the same ever after."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openk2.server.signing_key import KEY_BYTES, read_or_make_key


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path):
    path = tmp_path / "key"
    key = read_or_make_key(path)
    assert len(key) == KEY_BYTES and read_or_make_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key != read_or_make_key(tmp_path / "other")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["key", "other"]


def test_servers_that_start_at_once_have_the_same_key(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(read_or_make_key, [tmp_path / "key"] * 32))
    assert len(keys) == 1


@pytest.mark.parametrize("said", ["", "not hexadecimal", "00ff", "\u00e9" * 40])
def test_a_file_without_a_key_is_refused(tmp_path: Path, said: str):
    path = tmp_path / "key"
    path.write_text(said)
    path.chmod(0o600)
    with pytest.raises(ValueError, match="holds no key"):
        read_or_make_key(path)
    assert path.read_text() == said


@pytest.mark.skipif(os.name != "posix", reason="files have modes on POSIX alone")
def test_a_key_that_others_can_read_is_refused(tmp_path: Path):
    path = tmp_path / "key"
    read_or_make_key(path)
    path.chmod(0o640)
    with pytest.raises(ValueError, match="can be read by others; run chmod 600"):
        read_or_make_key(path)
