"""The safetensors writer: what it wrote the safetensors package reads; unfinished is invalid."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from openk2.export.hf import parse_size
from openk2.export.place import ExportError
from openk2.export.safetensors_writer import Spec, shard_names, split_shards, write_file
from openk2.model.safetensors_file import DTYPES, MappedFile, read_header

SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
TENSORS = st.dictionaries(
    NAMES.filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(list(DTYPES.values())), SHAPES),
    max_size=6,
)


def random_tensor(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    n_bytes = torch.empty(shape, dtype=dtype).numel() * dtype.itemsize
    high = 2 if dtype == torch.bool else 256
    return torch.randint(0, high, (n_bytes,), dtype=torch.uint8).view(dtype).reshape(shape)


def as_bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


@settings(max_examples=60)
@given(TENSORS, st.integers(0, 2**32), st.integers(1, 3))
def test_whatever_was_written_the_safetensors_package_reads(tmp_path_factory, table, seed, rows):
    torch.manual_seed(seed)
    path = tmp_path_factory.mktemp("writer") / "model.safetensors"
    tensors = {name: random_tensor(dtype, shape) for name, (dtype, shape) in table.items()}
    pieces = [
        (name, piece)
        for name, tensor in tensors.items()
        for piece in (tensor.split(rows) if tensor.dim() else [tensor])
    ]
    specs = [Spec(name, dtype, shape) for name, (dtype, shape) in table.items()]
    total = sum(spec.nbytes for spec in specs)
    assert sum(write_file(path, specs, pieces)) == total
    theirs = load_file(path)
    entries = read_header(path)
    assert theirs.keys() == entries.keys() == tensors.keys()
    mapped = MappedFile(path)
    for name, tensor in tensors.items():
        for read in (theirs[name], mapped.tensor(entries[name])):
            assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
            assert as_bytes(read) == as_bytes(tensor)


def test_every_tensor_is_aligned_for_its_type_and_the_file_says_pt(tmp_path):
    path = tmp_path / "model.safetensors"
    specs = [Spec("odd", torch.float8_e4m3fn, (3, 5)), Spec("wide", torch.float32, (3,))]
    pieces = [(s.name, torch.zeros(s.shape, dtype=s.dtype)) for s in specs]
    assert list(write_file(path, specs, pieces)) == [15, 12]
    assert all(
        entry.begin % DTYPES[entry.dtype].itemsize == 0 for entry in read_header(path).values()
    )
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize(
    "pieces",
    [
        [("a", torch.zeros(1, 4))],
        [("a", torch.zeros(3, 4))],
        [("a", torch.zeros(2, 4, dtype=torch.int32))],
        [],
    ],
    ids=["too little", "too much", "another type", "nothing"],
)
def test_pieces_that_were_not_announced_make_no_file(tmp_path, pieces):
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="announced"):
        list(write_file(path, [Spec("a", torch.float32, (2, 4))], pieces))
    assert not path.exists()


@pytest.mark.parametrize("names", [("a", "a"), ("__metadata__",)])
def test_names_that_the_header_cannot_hold_are_refused(tmp_path, names):
    specs = [Spec(name, torch.float32, (1,)) for name in names]
    with pytest.raises(ValueError, match="name"):
        list(write_file(tmp_path / "model.safetensors", specs, []))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 100))
def test_shards_keep_order_and_limit(sizes, limit):
    shards = list(split_shards(sizes, lambda size: size, limit))
    assert [size for shard in shards for size in shard] == sizes
    assert all(len(shard) == 1 or 0 < sum(shard) <= limit for shard in shards)
    for shard, following in itertools.pairwise(shards):
        assert sum(shard) + following[0] > limit, "a shard was closed early"


def test_files_have_the_published_names():
    assert shard_names(1) == ["model.safetensors"]
    assert shard_names(62)[0] == "model-00001-of-000062.safetensors"
    assert shard_names(62)[-1] == "model-00062-of-000062.safetensors"


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("5GB", 5 * 10**9), ("500 mb", 5 * 10**8), ("4.5GiB", 4_831_838_208), ("7", 7), ("2K", 2000)],
)
def test_sizes_are_read(text, nbytes):
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "5 apples", "0GB", "1e9"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ExportError, match="is not a size"):
        parse_size(text)
