"""An `Inspection` as text for people and as plain values for machines.

In: an inspection. Out: lines, or what JSON is made of. Must not know: files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from openk2.model.config import K2Config
from openk2.model.inspect import Inspection
from openk2.model.untrusted import shown

MOST_LINES = 20
"""Problems, notes and files of one kind that a person is shown; JSON has them all."""


def lines(it: Inspection) -> Iterator[str]:
    """Yield the report line by line."""
    yield f"{it.directory}"
    yield ""
    yield from (f"{label:<14}{text}" for label, text in _facts(it))
    yield ""
    yield from _table(it)
    for title, items in (("Problems", it.problems), ("Notes", it.notes)):
        if items:
            yield ""
            yield f"{title}:"
            yield from _few(items)
    if it.missing_files:
        yield ""
        yield f"Missing files ({size(it.missing_bytes)} of tensors are not here):"
        yield from _few(it.missing_files)
    for why, files in it.ignored.items():
        yield ""
        yield f"Never opened, {why}:"
        yield from _few(files)
    yield ""
    yield "This directory would load." if it.loads else "This directory would not load."


def plain(it: Inspection) -> dict[str, Any]:
    """Return the whole inspection as JSON values."""
    values = {
        field.name: getattr(it, field.name)
        for field in dataclasses.fields(it)
        if field.name not in ("entries", "config", "directory")
    }
    return {
        "directory": str(it.directory),
        "loads": it.loads,
        "config": dataclasses.asdict(it.config),
        "total_bytes": total_bytes(it),
        "cache_bytes_full_context": it.cache_bytes_per_token * it.config.max_position_embeddings,
        **values,
    }


def total_bytes(it: Inspection) -> int:
    """Return the bytes of all tensors that were found."""
    return sum(sum(forms.values()) for forms in it.bytes.values())


def size(count: float) -> str:
    """Write a number of bytes with three digits and a decimal unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if count < 100 or unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:,.3g} TB" if count < 1000 else f"{count:,.0f} TB"


def _facts(it: Inspection) -> Iterator[tuple[str, str]]:
    config = it.config
    yield "layers", f"{config.num_hidden_layers} ({config.first_k_dense_replace} dense)"
    yield "width", f"{config.hidden_size:,}, vocabulary {config.vocab_size:,}"
    yield "attention", _attention(config)
    yield "experts", _experts(config)
    yield "parameters", f"{it.parameters:,}, {it.active_parameters:,} active per token"
    yield "context", _context(config)
    full = it.cache_bytes_per_token * config.max_position_embeddings
    yield "cache", f"{it.cache_bytes_per_token:,} bytes per token, {size(full)} at full context"
    yield "stored as", f"{it.found} (config.json declares {it.declared})"
    present = it.shards - len(it.missing_files)
    yield "files", f"{present} of {it.shards}, {size(total_bytes(it))} of tensors"
    yield "tokenizer", f"{it.tokenizer:,} tokens" if isinstance(it.tokenizer, int) else "none"


def _attention(config: K2Config) -> str:
    query = config.q_lora_rank or "none"
    return (
        f"{config.num_attention_heads} heads of {config.qk_nope_head_dim} + "
        f"{config.qk_rope_head_dim} rotary, values of {config.v_head_dim}; latents: query {query}, "
        f"key-value {config.kv_lora_rank}"
    )


def _experts(config: K2Config) -> str:
    return (
        f"{config.n_routed_experts} routed, {config.num_experts_per_tok} per token, "
        f"{config.n_shared_experts} shared"
    )


def _context(config: K2Config) -> str:
    yarn = config.rope_scaling
    if yarn is None:
        return f"{config.max_position_embeddings:,} tokens, no YaRN"
    return (
        f"{config.max_position_embeddings:,} tokens, YaRN x{yarn.factor:g} from "
        f"{yarn.original_max_position_embeddings:,}, betas {yarn.beta_fast:g}/{yarn.beta_slow:g}"
    )


def _table(it: Inspection) -> Iterator[str]:
    forms = sorted({form for row in it.bytes.values() for form in row})
    heads = [*forms, "all"]
    widths = [max(len(head), 8) for head in heads]

    def row(label: str, cells: list[str]) -> str:
        padded = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"{label:<16}{'  '.join(padded)}"

    yield row("", heads)
    for label, found in it.bytes.items():
        cells = [size(found[form]) if form in found else "" for form in forms]
        yield row(label, [*cells, size(sum(found.values()))])
    sums = [sum(found.get(form, 0) for found in it.bytes.values()) for form in forms]
    yield row("all", [size(count) for count in [*sums, sum(sums)]])


def _few(items: list[str]) -> Iterator[str]:
    for item in items[:MOST_LINES]:
        yield f"  {item if len(item) > 200 else shown(item)}"
    if len(items) > MOST_LINES:
        yield f"  and {len(items) - MOST_LINES:,} more (--json lists them)"
