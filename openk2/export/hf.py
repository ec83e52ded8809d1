"""A model directory that Hugging Face's own classes read, in any of the published number formats.

In: any directory that `Checkpoint` opens. Out: a new directory with sharded safetensors and the
JSON files beside them. Shards are planned from shapes; then one weight at a time, in blocks of
rows, is read from the mapped source, converted and written.
Must not know: how a model computes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from openk2.export import hf_config
from openk2.export.hf_plan import Format, Plan, Weight, make_plan
from openk2.export.place import (
    ExportError,
    as_json,
    check_room,
    explained,
    refuse_dangling,
    write_bytes,
)
from openk2.export.safetensors_writer import (
    Piece,
    Spec,
    header_nbytes,
    shard_names,
    split_shards,
    write_file,
)
from openk2.export.tokenizer import load_tokenizer, tokenizer_files
from openk2.kernels import fp8, int4
from openk2.model.checkpoint import INDEX_FILE, Checkpoint
from openk2.model.config import K2Config
from openk2.model.safetensors_file import WeightsError
from openk2.text.tokenizer import Tokenizer

CONFIG = "config.json"
Shards = dict[str, list[Weight]]
"""The weights of each safetensors file."""
DEFAULT_SHARD_BYTES = 5 * 10**9
BLOCK_VALUES = 1 << 20
"""Values converted at a time: some 20 MB with all that quantising them needs."""


@dataclass(frozen=True, slots=True)
class HfDirectory:
    """What was written."""

    files: tuple[str, ...]
    """The safetensors files."""
    nbytes: int
    """Bytes of all tensors."""
    left_out: tuple[str, ...]
    """Tensors of the source that its configuration does not ask for."""
    notes: tuple[str, ...]
    """What its readers do not get right."""


def export_hf(
    source: Path,
    out: Path,
    *,
    format: Format | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    with_tokenizer: bool = True,
    scales: int4.Scales = "absmax",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> HfDirectory:
    """Write the model of `source` into the new directory `out`.

    `config.json` comes last: until it is there, nothing opens the directory.

    Args:
        source: The model directory to read.
        out: The directory to write; new or empty.
        format: Number format of the weights; as they are stored if None.
        shard_bytes: Largest file, unless a single weight is larger.
        with_tokenizer: Write the tokenizer, too; the source must have one.
        scales: How the scales of what is rounded to INT4 are chosen.
        on_progress: Called with the bytes written so far and in all.

    Raises:
        ConfigError: The source's `config.json` does not describe a K2 model.
        WeightsError: A tensor is missing, damaged, or cannot be stored in the format.
        ExportError: `out` holds files or cannot be written, the disk is too small, or the
            tokenizer is missing.
        KeyboardInterrupt: With what is left in `out`.
    """
    checkpoint = Checkpoint(source)
    checkpoint.check_complete()
    plan = make_plan(checkpoint, format, scales)
    shards = _shards(plan, shard_bytes)
    files = _small_files(checkpoint, plan, shards, with_tokenizer)
    headers = sum(header_nbytes(_specs(weights)) for weights in shards.values())
    with explained(out):
        _make_directory(out, plan.nbytes + headers + sum(map(len, files.values())))
    config = files.pop(CONFIG)
    with _telling_what_is_left(out):
        for name, data in files.items():  # before what takes hours
            write_bytes(out / name, data)
        _write_shards(checkpoint, shards, out, on_progress)
        write_bytes(out / CONFIG, config)
    used = {part for weight in plan.weights for part in checkpoint.parts(weight.name)}
    left_out = tuple(name for name in checkpoint.entries if name not in used)
    return HfDirectory(tuple(shards), plan.nbytes, left_out, plan.notes)


def _small_files(
    checkpoint: Checkpoint, plan: Plan, shards: Shards, with_tokenizer: bool
) -> dict[str, bytes]:
    """Return every file but the weights', whole."""
    source, config = checkpoint.directory, checkpoint.config
    tokenizer, files = None, {}
    if with_tokenizer:
        tokenizer = load_tokenizer(source, ", or leave it out with --no-tokenizer")
        config = _with_ids(config, tokenizer)
        files |= tokenizer_files(source, tokenizer, config.max_position_embeddings)
    generation = hf_config.generation_json(source, config, tokenizer)
    files[hf_config.GENERATION_FILE] = as_json(generation)
    files[CONFIG] = as_json(hf_config.config_json(config, plan.dtype, plan.quantization))
    if len(shards) > 1:
        places = {spec.name: file for file in shards for spec in _specs(shards[file])}
        metadata = {"total_size": plan.nbytes}
        files[INDEX_FILE] = as_json(
            {"metadata": metadata, "weight_map": dict(sorted(places.items()))}
        )
    return files


def _shards(plan: Plan, shard_bytes: int) -> Shards:
    shards = list(split_shards(plan.weights, lambda weight: weight.nbytes, shard_bytes))
    return dict(zip(shard_names(len(shards)), shards, strict=True))


def _specs(weights: Iterable[Weight]) -> list[Spec]:
    return [part for weight in weights for part in weight.parts]


@contextlib.contextmanager
def _telling_what_is_left(out: Path) -> Generator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sizes = [path.stat().st_size for path in out.iterdir()]
        raise KeyboardInterrupt(
            f"{out} holds {len(sizes)} files, {sum(sizes):,} bytes, of an unfinished export and "
            "does not load: remove it"
        ) from None


def _pieces(checkpoint: Checkpoint, weights: Iterable[Weight]) -> Iterator[Piece]:
    for weight in weights:
        checkpoint.will_need(weight.name)
        if weight.form == "stored":
            yield from _stored(checkpoint, weight)
        elif len(weight.parts[0].shape) == 1:
            yield weight.name, checkpoint.dense(weight.name, weight.parts[0].dtype)
        else:
            yield from _converted(checkpoint, weight)


def _stored(checkpoint: Checkpoint, weight: Weight) -> Iterator[Piece]:
    for part in weight.parts:
        if part.name in checkpoint.entries:
            yield part.name, checkpoint.tensor(part.name)
        else:  # the one that a source may lack
            yield part.name, torch.tensor(checkpoint.matrix(weight.name).shape, dtype=part.dtype)


def _converted(checkpoint: Checkpoint, weight: Weight) -> Iterator[Piece]:
    """Yield a matrix's new tensors, a block of rows at a time."""
    name, form, names = weight.name, weight.form, [part.name for part in weight.parts]
    matrix = checkpoint.matrix(name)
    # Whole blocks of FP8 rows: their scales do not depend on what else is in memory.
    step = max(1, BLOCK_VALUES // matrix.shape[1] // fp8.BLOCK) * fp8.BLOCK
    for start in range(0, matrix.shape[0], step):
        stop = min(start + step, matrix.shape[0])
        block = matrix.rows(start, stop, form if isinstance(form, torch.dtype) else torch.float32)
        if form not in (torch.bfloat16, torch.float32) and not bool(block.abs().amax().isfinite()):
            raise WeightsError(
                f"{checkpoint.directory}: {name} holds values that are not finite in this format; "
                "choose --format bf16 or f32"
            )
        if form == "fp8":
            yield from zip(names, fp8.quantize(block), strict=True)
        elif form == "int4":
            yield from zip(names, int4.quantize(block, scales=weight.scales), strict=False)
        else:
            yield name, block
    if form == "int4":
        yield names[2], torch.tensor(matrix.shape, dtype=torch.int32)


def _write_shards(
    checkpoint: Checkpoint, shards: Shards, out: Path, on_progress: Callable[[int, int], None]
) -> None:
    total = sum(weight.nbytes for weights in shards.values() for weight in weights)
    done = 0
    for file, weights in shards.items():
        written = write_file(out / file, _specs(weights), _pieces(checkpoint, weights))
        with contextlib.closing(written):  # an interrupted file is removed now, not some day
            for nbytes in written:
                done += nbytes
                on_progress(done, total)


def _with_ids(config: K2Config, tokenizer: Tokenizer) -> K2Config:
    """Fill in the special ids that the source leaves open."""

    def known(id_: int | None, found: int) -> int:
        return found if id_ is None else id_

    return replace(
        config,
        bos_token_id=known(config.bos_token_id, tokenizer.bos),
        eos_token_id=known(config.eos_token_id, tokenizer.eos),
        pad_token_id=known(config.pad_token_id, tokenizer.pad),
    )


def check_new(out: Path) -> None:
    """Refuse a directory in which something would be overwritten.

    Raises:
        ExportError: There is something.
    """
    refuse_dangling(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(
            f"{out} exists and is not empty: name a new directory, or remove what an interrupted "
            "export left there"
        )


def _make_directory(out: Path, nbytes: int) -> None:
    """Create `out`, refusing what would be overwritten and what would not fit."""
    check_new(out)
    check_room(out, nbytes)
    out.mkdir(parents=True, exist_ok=True)


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return the bytes of `5GB`, `500 MB` or `4.5GiB`.

    Raises:
        ExportError: It is no such size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise ExportError(f"{text!r} is not a size; write one like 5GB or 500MB")
    return int(
        float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " ")
    )
