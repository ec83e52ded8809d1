"""What a model directory holds and lacks, from its headers alone.

In: a directory, complete or not. Out: an `Inspection`; no tensor is read and only `config.json`,
the index and the safetensors headers are opened. Must not know: how it is shown, or tokenizers.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openk2.model.checkpoint import (
    INDEX_FILE,
    PICKLE_SUFFIXES,
    SINGLE_FILE,
    HeaderBudget,
    Index,
    expected_parts,
    read_config,
    read_index,
    without_weights,
)
from openk2.model.config import K2Config
from openk2.model.formats import read_quantization
from openk2.model.names import Shape, is_linear, is_routed_expert, published_shapes
from openk2.model.safetensors_file import Entry, WeightsError, read_header
from openk2.model.untrusted import is_there, listing, shown

COMPONENTS = {
    "routed experts": ".mlp.experts.",
    "embedding": "model.embed_tokens.",
    "head": "lm_head.",
    "norms": "norm.weight",
    "attention": ".self_attn.",
    "shared experts": ".mlp.shared_experts.",
    "router": ".mlp.gate.",
    "dense MLP": ".mlp.",
}
"""What the names of a component's tensors contain; the first that fits counts."""
MOST_LINES = 20
"""Problems of one kind that are told apart; the others are counted."""

_LAYER = re.compile(r"^model\.layers\.(\d+)\.(.+)$")
_EXPERT = re.compile(r"\.experts\.\d+\.")
_SHARD = re.compile(r"^(.+)-([0-9]{5})-of-(0?[0-9]{5})\.safetensors$")


@dataclass(slots=True)
class Inspection:
    """What was found in a model directory."""

    directory: Path
    config: K2Config
    declared: str
    """Stored form that `config.json` declares: `BF16`, `FP8` or `INT4`."""
    found: str = "nothing"
    """Stored form that most of the large matrices have."""
    parameters: int = 0
    active_parameters: int = 0
    """Parameters that one token visits."""
    cache_bytes_per_token: int = 0
    """In bfloat16: the latents and rotary keys of all layers."""
    bytes: dict[str, dict[str, int]] = field(default_factory=dict)
    """Bytes by component and stored form."""
    shards: int = 0
    """Shards that there should be."""
    missing_files: list[str] = field(default_factory=list)
    missing_bytes: int = 0
    """Bytes of tensors that are not there: exact if the index gives a total, else estimated."""
    tokenizer: int | str | None = None
    """Its vocabulary size, or why there is none."""
    ignored: dict[str, list[str]] = field(default_factory=dict)
    """Files that are never opened, by why."""
    problems: list[str] = field(default_factory=list)
    """Why the directory would not load; empty if it would."""
    notes: list[str] = field(default_factory=list)
    """What is odd and no reason to refuse."""
    entries: dict[str, Entry] = field(default_factory=dict, repr=False)
    """Every tensor that was found in a readable shard."""

    @property
    def loads(self) -> bool:
        """Whether nothing was found that keeps the directory from loading."""
        return not self.problems


def inspect(directory: Path, tokenizer: int | str) -> Inspection:
    """Look at a directory's configuration, index and headers.

    Args:
        directory: The model directory; some of its shards may be missing.
        tokenizer: Vocabulary size of its tokenizer, or why it has none.

    Raises:
        ConfigError: `config.json` does not describe a K2 model: nothing else can be judged.
    """
    config, settings = read_config(directory)
    it = Inspection(directory, config, read_quantization(settings).form, tokenizer=tokenizer)
    shapes = published_shapes(config)
    _count(it, shapes)
    placed = _read_shards(it)
    used = _compare(it, shapes, placed)
    it.missing_bytes = it.missing_bytes or _estimate_missing(it, shapes)
    _list_unexpected(it, used)
    _sum_bytes(it)
    _compare_forms(it)
    _compare_tokenizer(it)
    _list_ignored(it, settings)
    return it


def _count(it: Inspection, shapes: Mapping[str, Shape]) -> None:
    config = it.config
    it.parameters = sum(math.prod(shape) for shape in shapes.values())
    moe_layers = config.num_hidden_layers - config.first_k_dense_replace
    expert = 3 * config.hidden_size * config.moe_intermediate_size
    idle = config.n_routed_experts - config.num_experts_per_tok
    it.active_parameters = it.parameters - moe_layers * idle * expert
    it.cache_bytes_per_token = 2 * config.num_hidden_layers * config.latent_dim


def _read_shards(it: Inspection) -> dict[str, str]:
    """Fill in the entries of all readable shards; return where the index places each tensor."""
    index = _index(it)
    files = sorted(set(index.weight_map.values())) or _files_without_index(it)
    it.shards = len(files)
    twice: list[str] = []
    unnamed: list[str] = []
    for file in _affordable(it, files):
        for name, entry in _read_shard(it, it.directory / file).items():
            place = index.weight_map.get(name, file)
            if index.weight_map and name not in index.weight_map:
                unnamed.append(name)
            elif place != file or name in it.entries:
                twice.append(f"{entry.file}: {shown(name)}")
            else:
                it.entries[name] = entry
    if it.missing_files:
        it.problems.append(f"{_files(len(it.missing_files))} missing: {_some(it.missing_files)}")
    if twice:
        it.problems.append(f"tensors lie in several files or in the wrong one: {_some(twice)}")
    if unnamed:
        it.notes.append(f"the index does not name these, which are not used: {_some(unnamed)}")
    if index.total_size is not None:
        found = sum(entry.nbytes for entry in it.entries.values())
        it.missing_bytes += max(0, index.total_size - found)
    _check_places(it, index.weight_map)
    return index.weight_map


def _affordable(it: Inspection, files: Iterable[str]) -> Iterator[str]:
    """Yield the shards that are there and whose headers may be read."""
    budget = HeaderBudget()
    refused: list[str] = []
    for file in files:
        if not is_there(it.directory / file):
            it.missing_files.append(file)
            continue
        try:
            budget.take(it.directory / file)
        except WeightsError as error:
            refused.append(str(error))
        else:
            yield file
    if refused:
        others = f"; {len(refused) - 1:,} others likewise" if len(refused) > 1 else ""
        it.problems.append(refused[0] + others)


def _read_shard(it: Inspection, path: Path) -> dict[str, Entry]:
    """Return what a shard's header names, of a file that is cut short too."""
    try:
        return read_header(path)
    except WeightsError as error:
        it.problems.append(str(error))
    try:
        entries = read_header(path, check_size=False)
        end = max((entry.begin + entry.nbytes for entry in entries.values()), default=0)
        it.missing_bytes += max(0, end - path.stat().st_size)
    except (WeightsError, OSError):
        return {}
    return entries


def _index(it: Inspection) -> Index:
    if is_there(it.directory / INDEX_FILE):
        try:
            return read_index(it.directory)
        except WeightsError as error:
            it.problems.append(str(error))
    elif not is_there(it.directory / SINGLE_FILE):
        it.problems.append(without_weights(it.directory))
    return Index({}, None)


def _files_without_index(it: Inspection) -> list[str]:
    """Return the shards there are, and those that their numbering says are missing."""
    names = {name for name in listing(it.directory) if name.endswith(".safetensors")}
    if SINGLE_FILE in names:
        return [SINGLE_FILE]
    series = {match.group(1, 3) for name in names if (match := _SHARD.match(name))}
    for stem, total in series if len(series) == 1 else ():
        names |= {f"{stem}-{n:05d}-of-{total}.safetensors" for n in range(1, int(total) + 1)}
    return sorted(names)


def _check_places(it: Inspection, weight_map: Mapping[str, str]) -> None:
    missing_files = set(it.missing_files)
    absent = [
        f"{file}: {shown(name)}"
        for name, file in weight_map.items()
        if name not in it.entries and file not in missing_files
    ]
    if absent:
        it.problems.append(f"the index places tensors where they are not: {_some(absent)}")


def _compare(it: Inspection, shapes: Mapping[str, Shape], placed: Mapping[str, str]) -> set[str]:
    """Report what is missing and what has the wrong shape or type; return what is used."""
    used: set[str] = set()
    missing: list[str] = []
    faults: dict[str, str] = {}
    absent = placed.keys() - it.entries.keys()
    for name, shape in shapes.items():
        for part, expected in expected_parts(it.entries, name, shape).items():
            used.add(part)
            entry = it.entries.get(part)
            if entry is not None:
                if fault := expected.fault(part, entry):
                    faults[part] = fault
            # What lies in a missing file is reported with that file, once.
            elif not (expected.optional or part in absent or f"{part}_packed" in absent):
                missing.append(part)
    for label, names in grouped(missing).items():
        kept = "" if len(names) == 1 else f" ({_tensors(len(names))})"
        it.problems.append(f"{label} missing{kept}")
    for label, names in grouped(faults).items():
        kept = "" if len(names) == 1 else f"; {len(names) - 1:,} others of {label} likewise"
        it.problems.append(faults[names[0]] + kept)
    return used


def _estimate_missing(it: Inspection, shapes: Mapping[str, Shape]) -> int:
    """Return about how many bytes the absent weights have in the declared form."""
    total = 0
    for name, shape in shapes.items():
        if name in it.entries or f"{name}_packed" in it.entries:
            continue
        count = math.prod(shape)
        if it.declared == "INT4" and is_routed_expert(name):
            total += count // 2 + count // 16
        else:
            total += count if it.declared == "FP8" and is_linear(name) else 2 * count
    return total


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Group tensor names that differ in layer and expert only, by a label such as `layers 3-7 x`.

    At most `MOST_LINES` groups are told apart.
    """
    layers: dict[str, set[int]] = defaultdict(set)
    members: dict[str, list[str]] = defaultdict(list)
    for name in names:
        match = _LAYER.match(name)
        key = _EXPERT.sub(".experts.*.", match[2]) if match else name
        if key not in members and len(members) >= MOST_LINES:
            key = "other tensors"
        elif match:
            layers[key].add(int(match[1][:9]))
        members[key].append(name)
    return {
        f"{ranges(layers[key])} {_short(key)}" if key in layers else shown(key): found
        for key, found in members.items()
    }


def _short(key: str) -> str:
    return shown(key.removeprefix("mlp.").removesuffix(".weight"))


def ranges(layers: Iterable[int]) -> str:
    """Write layer numbers as `layer 3` or `layers 1-4, 6`."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    words = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:MOST_LINES]]
    more = ", ..." if len(runs) > MOST_LINES else ""
    is_one = len(runs) == 1 and runs[0][0] == runs[0][1]
    return f"layer{'' if is_one else 's'} {', '.join(words)}{more}"


def _list_unexpected(it: Inspection, used: set[str]) -> None:
    extra: list[str] = []
    predicting: list[str] = []
    for name in it.entries:
        match = _LAYER.match(name)
        if name in used or name.endswith("rotary_emb.inv_freq"):
            continue
        if match and match[1] == str(it.config.num_hidden_layers):
            predicting.append(name)
        else:
            extra.append(name)
    if predicting:
        it.notes.append(
            f"layer {it.config.num_hidden_layers} predicts a second token (MTP) and is not used: "
            f"{_tensors(len(predicting))}"
        )
    for label, names in grouped(extra).items():
        it.notes.append(f"unexpected and not used: {label} ({_tensors(len(names))})")


def _sum_bytes(it: Inspection) -> None:
    table: dict[str, Counter[str]] = {}
    for name, entry in it.entries.items():
        table.setdefault(component(name), Counter())[stored_form(name, entry)] += entry.nbytes
    order = [*COMPONENTS, "other"]
    it.bytes = {label: dict(table[label]) for label in order if label in table}


def component(name: str) -> str:
    """Return the part of a model that a stored tensor belongs to."""
    for label, part in COMPONENTS.items():
        if part in name:
            return label
    return "other"


def stored_form(name: str, entry: Entry) -> str:
    """Say what a stored tensor is: plain numbers of a type, or values or scales of a format."""
    if name.endswith("_packed"):
        return "INT4 packed"
    if name.endswith((".weight_scale", ".weight_shape")):
        return "INT4 scales and shapes"
    if name.endswith("_scale_inv"):
        return "FP8 scales"
    return "FP8 values" if entry.dtype == "F8_E4M3" else entry.dtype


def _compare_forms(it: Inspection) -> None:
    """Find out how the matrices that a format quantises are stored."""
    forms: Counter[str] = Counter()
    for name, entry in it.entries.items():
        if is_linear(name):
            forms["FP8" if entry.dtype == "F8_E4M3" else entry.dtype] += entry.nbytes
        elif name.endswith("_packed") and is_routed_expert(name.removesuffix("_packed")):
            forms["INT4"] += entry.nbytes
    if not forms:
        return
    it.found = forms.most_common(1)[0][0]
    quantised = {form for form in forms if form in ("FP8", "INT4")}
    wanted = {it.declared} - {"BF16"}
    if quantised != wanted:
        it.notes.append(
            f"config.json declares {it.declared}, but the tensors are "
            f"{' and '.join(sorted(forms))}: other programs may refuse this directory"
        )


def _compare_tokenizer(it: Inspection) -> None:
    if isinstance(it.tokenizer, str):
        it.problems.append(it.tokenizer)
    elif it.tokenizer is not None and it.tokenizer != it.config.vocab_size:
        it.problems.append(
            f"the tokenizer has {it.tokenizer:,} tokens, config.json's vocab_size is "
            f"{it.config.vocab_size:,}: they belong to different models"
        )


def _list_ignored(it: Inspection, settings: Mapping[str, Any]) -> None:
    names = listing(it.directory)
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
    code = [name for name in names if name.endswith(".py")]
    if pickles:
        it.ignored["pickle, which can run code when it is read"] = pickles
    if code:
        it.ignored["remote code"] = code
    if settings.get("auto_map"):
        it.notes.append("config.json names remote code (auto_map), which is never imported")


def _files(count: int) -> str:
    return "1 file is" if count == 1 else f"{count:,} files are"


def _tensors(count: int) -> str:
    return "1 tensor" if count == 1 else f"{count:,} tensors"


def _some(items: list[str], most: int = 5) -> str:
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(shown(item) for item in items[:most]) + more
