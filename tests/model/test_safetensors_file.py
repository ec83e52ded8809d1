"""The safetensors reader against the safetensors package, and its refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from openk2.model.safetensors_file import DTYPES, MappedFile, WeightsError, read_header

GOOD = {
    "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}


def raw(path: Path, header: bytes, data: bytes = bytes(32), length: int | None = None) -> Path:
    length = len(header) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + header + data)
    return path


def refused(path: Path, header: object, *words: str) -> None:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    raw(path / "x.safetensors", data)
    with pytest.raises(WeightsError) as caught:
        read_header(path / "x.safetensors")
    message = str(caught.value)
    assert "x.safetensors" in message and "\n" not in message and len(message) < 1000
    assert all(word in message for word in words), message


def changed(name: str, **values: object) -> dict[str, object]:
    return {**GOOD, name: {**GOOD[name], **values}}


@pytest.mark.parity(
    format="BF16",
    direction="in",
    peer="safetensors",
    claim="tensors of every type and shape, bit for bit",
)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda n: n != "__metadata__"),
        st.tuples(
            st.sampled_from([d for d in DTYPES.values() if d != torch.bool]),
            st.lists(st.integers(0, 5), max_size=4),
        ),
        max_size=6,
    )
)
def test_what_the_package_writes_is_read_bit_for_bit(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    torch.manual_seed(0)
    tensors = {
        name: torch.randint(0, 100, shape, dtype=torch.uint8).to(dtype)
        for name, (dtype, shape) in contents.items()
    }
    save_file(tensors, path)
    entries = read_header(path)
    assert set(entries) == set(tensors)
    if any(tensor.numel() for tensor in tensors.values()):
        file = MappedFile(path)
        for name, tensor in tensors.items():
            found = file.tensor(entries[name])
            assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(found.view(-1).view(torch.uint8), tensor.view(-1).view(torch.uint8))


def test_tensors_at_odd_addresses_are_copied_to_even_ones(tmp_path):
    header = json.dumps(GOOD).encode()
    header += b" " * (1 - len(header) % 2)  # an odd length: no float32 is aligned
    path = raw(tmp_path / "x.safetensors", header, torch.arange(8.0).numpy().tobytes())
    tensor = MappedFile(path).tensor(read_header(path)["a.weight"])
    assert tensor.data_ptr() % 4 == 0
    assert tensor.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_good_header_is_good(tmp_path):
    entries = read_header(raw(tmp_path / "x.safetensors", json.dumps(GOOD).encode()))
    assert entries["b.weight"].begin - entries["a.weight"].begin == 24


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (changed("a.weight", dtype="F4"), ["a.weight", "unknown type", "F4"]),
        (changed("a.weight", dtype=7), ["a.weight", "malformed"]),
        (changed("a.weight", shape=[2, -3]), ["a.weight", "impossible shape"]),
        (changed("a.weight", shape=[True, 6]), ["a.weight", "impossible shape"]),
        (changed("a.weight", shape=[2.0, 3]), ["a.weight", "impossible shape"]),
        (changed("a.weight", shape=[2**47] * 8), ["a.weight", "shape asks for"]),
        (changed("a.weight", shape=[2**63, 2**63]), ["a.weight", "impossible shape"]),
        (changed("a.weight", shape=[1] * 9), ["a.weight", "impossible shape"]),
        (changed("a.weight", shape=[2**40] * 100_000), ["a.weight", "impossible shape"]),
        (changed("a.weight", data_offsets=[0, 20]), ["a.weight", "asks for 24"]),
        (changed("a.weight", data_offsets=[24, 0]), ["a.weight", "asks for 24"]),
        (changed("a.weight", data_offsets=[-24, 0]), ["a.weight", "asks for 24"]),
        (changed("a.weight", data_offsets=[False, 24]), ["a.weight", "asks for 24"]),
        (changed("a.weight", data_offsets=[2**99, 2**99 + 24]), ["a.weight"]),
        (changed("a.weight", data_offsets=[0, 24, 24]), ["a.weight", "malformed"]),
        (changed("b.weight", data_offsets=[8, 16]), ["b.weight", "does not begin where"]),
        (changed("b.weight", data_offsets=[26, 34]), ["b.weight", "does not begin where"]),
        ({**GOOD, "c": 3}, ["c is malformed"]),
        ({**GOOD, "evil\x1b[2J\n": 3}, ["evil\\x1b"]),
        ({**GOOD, "n" * 100_000: 3}, ["nnn", "malformed"]),
        ({"a.weight": GOOD["a.weight"]}, ["copy or download it again"]),
        ([1, 2], ["not a JSON object"]),
        (b'{"a": 1, "a": 2}', ["a appears twice"]),
        (b'{"w": {"dtype": "F32", "dtype": "F32"}}', ["dtype appears twice"]),
        (b"[" * 100_000, ["nested too deeply"]),
        (b'{"a":' * 100_000, ["nested too deeply"]),
        (b'{"a": ' + b"9" * 5000 + b"}", ["not JSON"]),
        (b'{"a": \xff}', ["not JSON"]),
        (b"{" + b" " * 50, ["not JSON"]),
        (b"[" + b"[]," * 2_100_000 + b"[]]", ["more than 4,000,000 values"]),
    ],
)
def test_a_damaged_header_is_refused_in_one_sentence(tmp_path, header, words):
    refused(tmp_path, header, *words)


@pytest.mark.parametrize("length", [0, 1, 10**6, 2**31, 2**63, 2**64 - 1])
def test_an_absurd_header_length_is_refused(tmp_path, length):
    path = raw(tmp_path / "x.safetensors", json.dumps(GOOD).encode(), length=length)
    with pytest.raises(WeightsError, match="cut short"):
        read_header(path)


def test_a_long_header_is_refused_before_it_is_read(tmp_path):
    path = raw(tmp_path / "x.safetensors", b"{}", length=200_000_000)
    os.truncate(path, 300_000_000)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        read_header(path)


@pytest.mark.parametrize("size", [0, 3, 8, 9, 40, -1])
def test_a_file_cut_anywhere_is_refused(tmp_path, size):
    path = raw(tmp_path / "x.safetensors", json.dumps(GOOD).encode())
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    with pytest.raises(WeightsError, match=r"x\.safetensors"):
        read_header(path)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "zero", "loop", "folder", "missing", "n" * 300, "nul\0"):
        for use in (read_header, MappedFile):
            with pytest.raises(WeightsError):
                use(tmp_path / name)


@given(st.data())
def test_random_damage_is_read_or_refused(tmp_path_factory, data):
    whole = bytearray(len(json.dumps(GOOD)).to_bytes(8, "little") + json.dumps(GOOD).encode())
    whole += bytes(32)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(whole) - 1))
        whole[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    path.write_bytes(whole)
    try:
        for entry in read_header(path).values():
            MappedFile(path).tensor(entry).clone()
    except WeightsError as error:
        assert "x.safetensors" in str(error)
