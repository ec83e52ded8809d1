"""A Hugging Face model directory: its configuration, and its tensors in the form they are stored.

In: a directory from anywhere. Out: a checked table of tensors, mapped views of them, and matrices
in bfloat16, FP8 or INT4 that nobody has expanded. Nothing is unpickled and no remote code runs.
Must not know: how a model computes, or what it is exported to.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openk2.kernels import fp8, int4
from openk2.kernels.stored import FloatMatrix, Fp8Matrix, Int4Matrix, StoredMatrix
from openk2.kernels.stored import dense as expand
from openk2.model.config import ConfigError, K2Config
from openk2.model.names import published_shapes
from openk2.model.safetensors_file import Entry, MappedFile, WeightsError, read_header

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
FLOATS = ("BF16", "F16", "F32")


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
            WeightsError: It, or the scales that belong to it, are missing.
        """
        if f"{name}_packed" in self.entries:
            return Int4Matrix(self.tensor(f"{name}_packed"), self.tensor(f"{name}_scale"))
        if self._entry(name).dtype == "F8_E4M3":
            return Fp8Matrix(self.tensor(name), self.tensor(f"{name}_scale_inv"))
        return FloatMatrix(self.tensor(name))

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
        if f"{name}_packed" in self.entries:
            O, N = shape
            if N % int4.GROUP:
                file = self.entries[f"{name}_packed"].file
                raise WeightsError(f"{file}: {name} has {N} inputs, INT4 needs a multiple of 32")
            self._expect(f"{name}_packed", (O, N // int4.PER_WORD), ("I32",))
            self._expect(f"{name}_scale", (O, N // int4.GROUP), FLOATS)
            if f"{name}_shape" in self.entries:
                self._expect(f"{name}_shape", (2,), ("I32", "I64"))
            return
        if self._entry(name).dtype != "F8_E4M3" or len(shape) != 2:
            self._expect(name, shape, FLOATS)
            return
        self._expect(name, shape, ("F8_E4M3",))
        O, N = shape
        self._expect(f"{name}_scale_inv", fp8.scale_shape((O, N)), FLOATS)

    def _expect(self, name: str, shape: tuple[int, ...], dtypes: tuple[str, ...]) -> None:
        entry = self._entry(name)
        if entry.shape != shape:
            raise WeightsError(
                f"{entry.file}: {name} has shape {list(entry.shape)}, config.json makes it "
                f"{list(shape)}"
            )
        if entry.dtype not in dtypes:
            raise WeightsError(
                f"{entry.file}: {name} is stored as {entry.dtype}, expected {' or '.join(dtypes)}"
            )


def read_config(directory: Path) -> tuple[K2Config, dict[str, Any]]:
    """Read `config.json` of a model directory, checked and as it is.

    Raises:
        ConfigError: It is missing, is not JSON, or does not describe a K2 model.
    """
    path = directory / "config.json"
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{directory} has no config.json; is it a model directory?") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a JSON object")
    try:
        return K2Config.from_dict(values), values
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_entries(directory: Path) -> dict[str, Entry]:
    """Return where each tensor of a directory lies, from the headers alone.

    Raises:
        WeightsError: The index or a shard is missing or damaged, or they disagree.
    """
    index = directory / INDEX_FILE
    if not index.exists():
        return read_header(directory / SINGLE_FILE)
    weight_map = _read_index(index)
    entries: dict[str, Entry] = {}
    for file in sorted(set(weight_map.values())):
        for name, entry in read_header(directory / file).items():
            if weight_map.get(name) == file:
                entries[name] = entry
    for name, file in weight_map.items():
        if name not in entries:
            raise WeightsError(
                f"{directory / file} has no tensor {name}, although the index says so"
            )
    return entries


def _read_index(index: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
        items = list(weight_map.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WeightsError(f"{index} is not an index of safetensors shards") from None
    for name, file in items:
        is_plain = isinstance(file, str) and Path(file).name == file
        if not is_plain or not file.endswith(".safetensors"):
            raise WeightsError(f"{index} places {name} in {file!r}, which is no shard beside it")
    return weight_map
