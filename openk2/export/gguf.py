"""A model directory as one GGUF file, for llama.cpp and what is built on it.

In: any directory that `Checkpoint` opens. Out: a file of llama.cpp's deepseek2 architecture. Its
head is written from shapes alone; then one block of rows after another is read from the mapped
source, converted and appended, so memory does not grow with the model.
Must not know: how a model computes. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openk2.export.gguf_metadata import (
    add_model,
    add_vocabulary,
    check_supported,
    ignored_betas,
)
from openk2.export.gguf_tensors import Format, GgufError, GgufTensor, encoded, gguf_tensors
from openk2.export.place import check_room, explained, refuse_dangling, unfinished
from openk2.export.tokenizer import TEMPLATE_FILE
from openk2.model.checkpoint import INDEX_FILE, Checkpoint
from openk2.text.tokenizer import CONFIG_FILE, RANKS_FILE

if TYPE_CHECKING:
    from gguf import GGUFWriter

ALIGNMENT = 32
"""Every tensor begins at a multiple of this: GGUF's default."""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What was written."""

    nbytes: int
    """Size of the file."""
    tensors: dict[str, int]
    """Tensors of each type."""
    fallback: tuple[str, ...]
    """Matrices in F16 because their rows are no multiple of 32."""
    options: str | None
    """What llama.cpp has to be told beside the file; None: nothing."""


def export_gguf(
    source: Path,
    out: Path,
    *,
    format: Format,
    force: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> GgufFile:
    """Write the model of `source` into the file `out`, which appears once it is complete.

    Args:
        source: The model directory to read.
        out: The file to write.
        format: What matrices are stored as; see `gguf_tensors`.
        force: Replace `out` if it exists.
        on_progress: Called with the bytes of tensors written so far and in all.

    Raises:
        ConfigError: The source's `config.json` does not describe a K2 model.
        WeightsError: A tensor is missing or damaged.
        TokenizerFileError: A tokenizer file is malformed.
        ExportError: `out` exists, is part of the source, finds no room or cannot be written, the
            tokenizer is missing, or the model does not fit into the format.
    """
    checkpoint = Checkpoint(source)
    checkpoint.check_complete()
    check_supported(checkpoint.config)
    tensors = gguf_tensors(checkpoint.config, format)
    with explained(out):
        _check_place(checkpoint, out, force)
    head = _head(checkpoint, out.stem, format, tensors)
    with unfinished(out) as temporary:
        _write_head(head, temporary)
        check_room(out, sum(_padded(tensor.nbytes) for tensor in tensors))
        _append_tensors(temporary, checkpoint, tensors, on_progress)
    return GgufFile(
        out.stat().st_size,
        dict(Counter(tensor.format for tensor in tensors)),
        tuple(t.name for t in tensors if t.format == "f16" != format),
        ignored_betas(checkpoint.config),
    )


def _check_place(checkpoint: Checkpoint, out: Path, force: bool) -> None:
    refuse_dangling(out)
    if not out.parent.is_dir():
        raise GgufError(f"{out.parent} is not a directory; make it first")
    if out.is_dir():
        raise GgufError(f"{out} is a directory; name a file in it")
    if _is_of(checkpoint, out):
        raise GgufError(f"{out} is or would be part of the model that is read; name another file")
    if out.exists() and not force:
        raise GgufError(f"{out} exists; replace it with --force or name another file")


def _is_of(checkpoint: Checkpoint, out: Path) -> bool:
    """Whether writing `out` would replace a file of the source, or put one among them."""
    source = checkpoint.directory.resolve()
    places = (out.resolve(), out.parent.resolve() / out.name)
    if out.suffix != ".gguf" and any(place.is_relative_to(source) for place in places):
        return True
    names = ("config.json", INDEX_FILE, RANKS_FILE, CONFIG_FILE, TEMPLATE_FILE)
    read = {entry.file for entry in checkpoint.entries.values()} | {source / n for n in names}
    return out.exists() and any(path.exists() and path.samefile(out) for path in read)


def _padded(nbytes: int) -> int:
    return nbytes + -nbytes % ALIGNMENT


def _head(
    checkpoint: Checkpoint, name: str, format: Format, tensors: list[GgufTensor]
) -> GGUFWriter:
    """Return everything that comes before the tensors' bytes; nothing is written yet."""
    import numpy as np
    from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, LlamaFileType

    writer = GGUFWriter(None, "deepseek2")
    writer.add_type("model")
    writer.add_name(name)
    mostly = "ALL_F32" if format == "f32" else f"MOSTLY_{format.upper()}"
    writer.add_file_type(LlamaFileType[mostly])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    add_model(writer, checkpoint.config)
    add_vocabulary(writer, checkpoint.config, checkpoint.directory)
    for tensor in tensors:
        kind = GGMLQuantizationType[tensor.format.upper()]
        # Not uint8, from which the writer would take the shape to count bytes.
        dtype = np.dtype(np.float32)
        writer.add_tensor_info(tensor.name, tensor.shape, dtype, tensor.nbytes, raw_dtype=kind)
    return writer


def _write_head(writer: GGUFWriter, path: Path) -> None:
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


def _append_tensors(
    path: Path,
    checkpoint: Checkpoint,
    tensors: list[GgufTensor],
    on_progress: Callable[[int, int], None],
) -> None:
    total = sum(tensor.nbytes for tensor in tensors)
    done = 0
    with path.open("ab") as file:
        for tensor in tensors:
            file.write(bytes(-file.tell() % ALIGNMENT))
            begin = file.tell()
            for data in encoded(checkpoint, checkpoint.config, tensor):
                file.write(data.tobytes())
                on_progress(done + file.tell() - begin, total)
            assert file.tell() - begin == tensor.nbytes, tensor.name
            done += tensor.nbytes
        file.write(bytes(-file.tell() % ALIGNMENT))
        file.flush()
        os.fsync(file.fileno())
