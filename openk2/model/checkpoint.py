"""A Hugging Face model directory: its configuration, and its tensors in the form they are stored.

In: a directory from anywhere. Out: a checked table of tensors, mapped views of them, and matrices
in bfloat16, FP8 or INT4 that nobody has expanded. Nothing is unpickled and no remote code runs.
Must not know: how a model computes, or what it is exported to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openk2.kernels import fp8, int4
from openk2.kernels.stored import FloatMatrix, Fp8Matrix, Int4Matrix, StoredMatrix
from openk2.kernels.stored import dense as expand
from openk2.model.config import ConfigError, K2Config
from openk2.model.formats import read_quantization
from openk2.model.names import is_linear, published_shapes
from openk2.model.safetensors_file import (
    MAX_HEADER_BYTES,
    MAX_SIZE,
    Entry,
    MappedFile,
    WeightsError,
    read_header,
)
from openk2.model.untrusted import (
    MissingFileError,
    UntrustedFileError,
    is_directory,
    is_there,
    listing,
    open_regular,
    read_json,
    shown,
)

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
HEAD = "lm_head.weight"
FLOATS = ("BF16", "F16", "F32")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
MAX_CONFIG_BYTES = 4_000_000
MAX_INDEX_BYTES = 100_000_000
"""The largest published index, of 210,000 tensors, has about 25 MB."""
MAX_HEADERS_BYTES = 64_000_000
"""All headers of a directory together: about a million names. Those of Kimi K2 Thinking: 28 MB."""


class Checkpoint:
    """A model directory whose headers have been read and whose tensors have not."""

    def __init__(self, directory: Path) -> None:
        """Read `config.json`, the index and every shard's header.

        Raises:
            ConfigError: `config.json` does not describe a K2 model.
            WeightsError: The index or a shard is missing or damaged.
        """
        self.directory = directory
        self.config, self.settings = read_config(directory)
        self.entries: dict[str, Entry] = read_entries(directory)
        self._files: dict[Path, MappedFile] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as they are stored."""
        return sum(entry.nbytes for entry in self.entries.values())

    def check_complete(self) -> None:
        """Refuse a directory that lacks a tensor or holds one of the wrong shape or type.

        Raises:
            WeightsError: The first tensor that is wrong, with its file.
        """
        moe_layers = self.config.num_hidden_layers - self.config.first_k_dense_replace
        least = self.config.num_hidden_layers + 3 * moe_layers * self.config.n_routed_experts
        if least > 10 * len(self.entries):  # before a table of all of them is made
            raise WeightsError(
                f"{self.directory} holds {len(self.entries):,} tensors, config.json asks for more "
                f"than {least:,}: they do not belong together"
            )
        for name, shape in published_shapes(self.config).items():
            self._check(name, shape)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor as it is stored: a read-only view of the mapped file.

        Raises:
            WeightsError: There is no such tensor.
        """
        entry = self._entry(name)
        return self._file(entry).tensor(entry)

    def matrix(self, name: str) -> StoredMatrix:
        """Return the weight `name`, which ends in `.weight`, in its stored form.

        Raises:
            WeightsError: It or its scales are missing, or a scale is NaN or infinite.
        """
        if f"{name}_packed" in self.entries:
            return Int4Matrix(self.tensor(f"{name}_packed"), self.finite(f"{name}_scale"))
        if self._entry(name).dtype == "F8_E4M3":
            return Fp8Matrix(self.tensor(name), self.finite(f"{name}_scale_inv"))
        return FloatMatrix(self.tensor(name))

    def finite(self, name: str) -> Tensor:
        """Return a tensor after reading all of it: scales, of which one NaN spoils every answer.

        Raises:
            WeightsError: It is missing, or holds NaN or infinity.
        """
        tensor = self.tensor(name)
        if not tensor.isfinite().all():
            raise WeightsError(
                f"{self.entries[name].file}: {name} holds NaN or infinity: download it again"
            )
        return tensor

    def dense(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return a weight or vector expanded to `dtype`; a view where it is stored so."""
        if f"{name}_packed" in self.entries or self._entry(name).dtype == "F8_E4M3":
            return expand(self.matrix(name), dtype)
        return self.tensor(name).to(dtype)

    def parts(self, name: str) -> list[str]:
        """Return the stored tensors that make up the weight `name`, empty if it is missing."""
        suffixes = ("", "_scale_inv", "_packed", "_scale", "_shape")
        return [name + suffix for suffix in suffixes if name + suffix in self.entries]

    def will_need(self, name: str) -> None:
        """Start reading a weight from disk without waiting for it."""
        for part in self.parts(name):
            entry = self.entries[part]
            if entry.nbytes:
                self._file(entry).will_need(entry)

    def map_files(self) -> None:
        """Map every shard now, so that what cannot be mapped is known before it is needed.

        Raises:
            WeightsError: The system refuses a mapping, of too many files for example.
        """
        for entry in self.entries.values():
            self._file(entry)

    def _file(self, entry: Entry) -> MappedFile:
        if entry.file not in self._files:
            self._files[entry.file] = MappedFile(entry.file)
        return self._files[entry.file]

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise WeightsError(f"{self.directory} has no tensor {name}; config.json asks for it")
        return self.entries[name]

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        """Check the weight `name` of the unquantised `shape`, in whichever form it is stored."""
        for part, expected in expected_parts(self.entries, name, shape).items():
            if part not in self.entries and expected.optional:
                continue
            if fault := expected.fault(part, self._entry(part)):
                raise WeightsError(fault)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a stored tensor has to be."""

    shape: tuple[int, ...]
    dtypes: tuple[str, ...]
    """Types it may be stored as; empty: none fits this shape."""
    optional: bool = False

    def fault(self, name: str, entry: Entry) -> str | None:
        """Say what is wrong with the tensor `name`; None if nothing is."""
        if not self.dtypes:
            return f"{entry.file}: {name} is INT4, which needs a multiple of {int4.GROUP} inputs"
        if entry.shape != self.shape:
            return (
                f"{entry.file}: {name} has shape {list(entry.shape)}, config.json makes it "
                f"{list(self.shape)}"
            )
        if entry.dtype not in self.dtypes:
            wanted = " or ".join(self.dtypes)
            return f"{entry.file}: {name} is stored as {entry.dtype}, expected {wanted}"
        return None


def expected_parts(
    entries: Mapping[str, Entry], name: str, shape: tuple[int, ...]
) -> dict[str, Expected]:
    """Return the stored tensors that make up the weight `name` of the unquantised `shape`.

    Only matrices that a product reads may be quantised: an embedding's rows, a router and a norm
    are read as they are, without scales.
    """
    if not is_linear(name) and name != HEAD:
        return {name: Expected(shape, FLOATS)}
    if f"{name}_packed" in entries:
        outputs, inputs = shape
        groups, rest = divmod(inputs, int4.GROUP)
        return {
            f"{name}_packed": Expected((outputs, groups * 4), () if rest else ("I32",)),
            f"{name}_scale": Expected((outputs, groups), FLOATS),
            f"{name}_shape": Expected((2,), ("I32", "I64"), optional=True),
        }
    stored = entries.get(name)
    if stored is None or stored.dtype != "F8_E4M3":
        return {name: Expected(shape, FLOATS)}
    return {
        name: Expected(shape, ("F8_E4M3",)),
        f"{name}_scale_inv": Expected(fp8.scale_shape((shape[0], shape[1])), FLOATS),
    }


def read_config(directory: Path) -> tuple[K2Config, dict[str, Any]]:
    """Read `config.json` of a model directory, checked and as it is.

    Raises:
        ConfigError: It is missing, is not JSON, or does not describe a K2 model.
    """
    path = directory / "config.json"
    if not is_directory(directory):
        raise ConfigError(
            f"{shown(str(directory))} is no directory here; name one that holds a model"
        )
    try:
        values = read_json(path, MAX_CONFIG_BYTES)
    except MissingFileError:
        raise ConfigError(f"{directory} has no config.json; is it a model directory?") from None
    except UntrustedFileError as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a JSON object")
    try:
        read_quantization(values)
        return K2Config.from_dict(values, complete=True), values
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_entries(directory: Path) -> dict[str, Entry]:
    """Return where each tensor of a directory lies, from the headers alone.

    Raises:
        WeightsError: The index or a shard is missing or damaged, or they disagree.
    """
    budget = HeaderBudget()
    if not is_there(directory / INDEX_FILE):
        if not is_there(directory / SINGLE_FILE):
            raise WeightsError(without_weights(directory))
        budget.take(directory / SINGLE_FILE)
        return read_header(directory / SINGLE_FILE)
    weight_map = read_index(directory).weight_map
    entries: dict[str, Entry] = {}
    for file in sorted(set(weight_map.values())):
        budget.take(directory / file)
        for name, entry in read_header(directory / file).items():
            place = weight_map.get(name)
            if place == file:
                entries[name] = entry
            elif place is not None:
                raise WeightsError(
                    f"{entry.file} holds {shown(name)}, which the index places in {place}: "
                    "download both files and the index again"
                )
    for name, file in weight_map.items():
        if name not in entries:
            raise WeightsError(
                f"{directory / file} has no tensor {shown(name)}, although the index says so"
            )
    return entries


class HeaderBudget:
    """What the headers of one directory may cost together, whatever is in them."""

    def __init__(self) -> None:
        """Begin with no shard."""
        self._left = MAX_HEADERS_BYTES
        self._seen: dict[tuple[int, int], Path] = {}

    def take(self, path: Path) -> None:
        """Count a shard before its header is read; a damaged one is left to `read_header`.

        Raises:
            WeightsError: It is an earlier shard under a second name, or there are too many names.
        """
        try:
            with open_regular(path) as file:
                status = os.fstat(file.fileno())
                length = int.from_bytes(file.read(8), "little")
        except (OSError, UntrustedFileError):
            return
        earlier = self._seen.setdefault((status.st_dev, status.st_ino), path)
        if earlier != path:
            raise WeightsError(f"{path} is the same file as {earlier.name}: download both again")
        if length > min(MAX_HEADER_BYTES, status.st_size - 8):
            return
        if length > self._left:
            raise WeightsError(
                f"{path}: with the shards before it, the headers have more than "
                f"{MAX_HEADERS_BYTES:,} bytes, twice those of Kimi K2: this is no such model"
            )
        self._left -= length


@dataclass(frozen=True, slots=True)
class Index:
    """What `model.safetensors.index.json` says."""

    weight_map: dict[str, str]
    """The shard that holds each tensor: a file name, never a path."""
    total_size: int | None
    """Bytes of all tensors, if it says so."""


def read_index(directory: Path) -> Index:
    """Read and check the index of a directory's shards; no shard is opened.

    Raises:
        WeightsError: It is damaged, too large, or points outside the directory.
    """
    path = directory / INDEX_FILE
    try:
        values = read_json(path, MAX_INDEX_BYTES)
    except UntrustedFileError as error:
        raise WeightsError(f"{path} is not an index of safetensors shards: {error}") from None
    weight_map = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(weight_map, dict):
        raise WeightsError(f"{path} is not an index of safetensors shards: it has no weight_map")
    files = {file for file in weight_map.values() if isinstance(file, str)}
    good = {file for file in files if _is_shard_name(file)}
    for name, file in weight_map.items():
        if not isinstance(file, str) or file not in good:
            raise WeightsError(
                f"{path} places {shown(name)} in {shown([file])[1:-1]}, which is no shard beside it"
            )
    metadata = values.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if not isinstance(total, int | float) or not 0 <= total < MAX_SIZE:
        total = None
    return Index(weight_map, None if total is None else int(total))


def _is_shard_name(file: str) -> bool:
    is_plain = file.isprintable() and Path(file).name == file
    return is_plain and file.endswith(".safetensors") and len(file.encode()) <= 255


def without_weights(directory: Path) -> str:
    """Say what a directory holds that has neither an index nor a single file of weights."""
    names = listing(directory)
    if any(name.endswith(".safetensors") for name in names):
        return f"{directory} holds shards without their {INDEX_FILE}: download that file again"
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
    if pickles:
        return (
            f"{directory} holds only pickle files ({shown(pickles[0])}), which openk2 never opens "
            "because reading them can run code: use the model's safetensors release, or convert it"
        )
    return f"{directory} holds no {SINGLE_FILE} and no {INDEX_FILE}: download the weights"
