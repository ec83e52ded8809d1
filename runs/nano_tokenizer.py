"""Train nano's vocabulary and record why it has the size it has.

    python -m runs.nano_tokenizer --data data --size 8192

In: the data packs. Out: openk2/assets/nano/{tiktoken.model,tokenizer_config.json} and
bench/records/tokenizer-vocabulary.json (bytes per token on held-out text, cost of the head).
"""

from __future__ import annotations

import argparse
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from bench import record
from openk2.text.bpe import train_ranks
from openk2.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
SIZES = (8_192, 12_288, 16_384)
N_SPECIALS = 32
HIDDEN = 256
ACTIVE_ELSEWHERE = 4_000_000
HELD_OUT_EVERY = 40
HELD_OUT_BYTES = 250_000

WHY = (
    "active_weights_per_byte, what a CPU must read to generate one byte, is lowest at 8,192 "
    "entries: twice the entries shorten text by a tenth but make the head half of all active "
    "weights, and embedding plus head would take 17 instead of 8 of the 60 MB for weights"
)

Row = dict[str, Any]
CLASSICAL = frozenset({"古今对照", "诗词", "古籍"})


def dumps(value: object, number: int) -> str:
    """Write JSON compactly on even rows and as `json.dumps` does on odd ones: clients send both."""
    separators = (",", ":") if number % 2 == 0 else None
    return json.dumps(value, ensure_ascii=False, separators=separators)


def prose(row: Row, number: int) -> list[str]:
    """Give the document's text."""
    return [row["text"]]


def kid_book(row: Row, number: int) -> list[str]:
    """Give the text of books that children read."""
    return [row["text"]] if row["tier"] == "kid" else []


def modern_chinese(row: Row, number: int) -> list[str]:
    """Give the text unless it is classical."""
    return [] if row["src"] in CLASSICAL else [row["text"]]


def classical_chinese(row: Row, number: int) -> list[str]:
    """Give the text if it is classical."""
    return [row["text"]] if row["src"] in CLASSICAL else []


def reading(row: Row, number: int) -> list[str]:
    """Give a question on a passage and its answer."""
    return [row["question"], row["answer"]]


def dialogue(row: Row, number: int) -> list[str]:
    """Give a conversation as the chat template spells it, cut where special tokens stand."""
    pieces = ["system"]
    if row.get("tools"):
        wrapped = [{"type": "function", "function": tool} for tool in row["tools"]]
        pieces += ["tool_declare", dumps(wrapped, number)]
    for message in row["messages"]:
        content = message["content"]
        text = content if isinstance(content, str) else dumps(content, number)
        returned = "## Return of functions.tool:0\n" if message["role"] == "tool" else ""
        pieces += [message["role"], returned + text]
        for call in message.get("tool_calls") or ():
            arguments = call["arguments"]
            text = arguments if isinstance(arguments, str) else dumps(arguments, number)
            pieces += [f"functions.{call['name']}:0", text]
    return [piece for piece in pieces if piece]


def utterance(row: Row, number: int) -> list[str]:
    """Give a request and the call that it asks for."""
    return [row["query"], dumps(row["call"], number)]


def schema(row: Row, number: int) -> list[str]:
    """Give one tool as a chat request declares it."""
    function = {key: row[key] for key in ("name", "description", "parameters")}
    return [dumps({"type": "function", "function": function}, number)]


@dataclass(frozen=True)
class Source:
    """A pack, the category it stands for and how much of it is sampled."""

    category: str
    pack: str
    kilobytes: int
    render: Callable[[Row, int], list[str]]
    even_over: str | None = None
    """A field whose values share the sample equally."""


SOURCES = (
    Source("english", "pretrain/stories_en", 2_000, prose),
    Source("english", "pretrain/simple_en_extra", 1_500, prose),
    Source("english", "pretrain/books_en_pd", 2_750, kid_book),
    Source("english", "pretrain/wordnet_definitions", 1_000, prose),
    Source("english", "pretrain/docs_en", 1_500, prose),
    Source("chinese", "pretrain/zh_mix", 4_000, modern_chinese, "src"),
    Source("chinese", "pretrain/zh_mix", 400, classical_chinese),
    Source("chinese", "instruct/kdconv_zh_chat", 500, dialogue),
    Source("chinese", "instruct/crosswoz_zh_tooluse", 300, dialogue),
    Source("chinese", "instruct/zh_reading_qa", 300, reading),
    Source("python", "pretrain/python_code", 2_500, prose),
    Source("tools", "instruct/sgd_tooluse_train", 2_500, dialogue),
    Source("tools", "instruct/nlu_function_calls_train", 750, utterance),
    Source("tools", "instruct/glaive_demo_tooluse", 750, dialogue),
    Source("tools", "instruct/tm4_coffee_tooluse", 750, dialogue),
    Source("tools", "tools/tool_catalogue", 2_000, schema),
    Source("chat", "instruct/open_chat_en", 1_500, dialogue),
    Source("chat", "instruct/general_seed_instructions", 500, dialogue),
)


def read_rows(path: Path) -> Iterator[Row]:
    """Stream the rows of one pack."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            yield json.loads(line)


def spread(documents: Sequence[list[str]], budget: int) -> Iterator[list[str]]:
    """Take documents at even distances until about `budget` bytes are taken."""
    sizes = [sum(len(piece.encode()) for piece in pieces) for pieces in documents]
    share = min(1.0, budget / max(1, sum(sizes)))
    owed = 0.0
    for pieces, size in zip(documents, sizes, strict=True):
        owed += size * share
        if owed >= size / 2:
            owed -= size
            yield pieces


def sample(source: Source, path: Path) -> tuple[list[str], list[str]]:
    """Split a pack's sample into texts to train on and held-out texts."""
    train: dict[str, list[list[str]]] = defaultdict(list)
    held: list[list[str]] = []
    for number, row in enumerate(read_rows(path)):
        pieces = source.render(row, number)
        if number % HELD_OUT_EVERY == 7:
            held.append(pieces)
        elif pieces:
            group = str(row.get(source.even_over, "")) if source.even_over else ""
            train[group].append(pieces)
    each = source.kilobytes * 1000 // len(train)
    taken = [p for group in train.values() for pieces in spread(group, each) for p in pieces]
    return taken, [piece for pieces in spread(held, HELD_OUT_BYTES) for piece in pieces]


def gather(data: Path) -> tuple[list[str], dict[str, list[str]], dict[str, int]]:
    """Read every pack that is there: training texts, held-out texts, bytes by category."""
    texts: list[str] = []
    held: dict[str, list[str]] = defaultdict(list)
    trained_on: dict[str, int] = defaultdict(int)
    for source in SOURCES:
        path = data / f"{source.pack}.jsonl.zst"
        if not path.exists():
            raise SystemExit(f"{path} is missing: point --data at the data packs")
        train, rest = sample(source, path)
        texts += train
        held[source.category] += rest
        trained_on[source.category] += n_bytes(train)
        print(f"{source.pack:40} {n_bytes(train) / 1e6:6.2f} MB", flush=True)
    return texts, dict(held), dict(trained_on)


def n_bytes(texts: Iterable[str]) -> int:
    """Count UTF-8 bytes."""
    return sum(len(text.encode()) for text in texts)


def measure(tokenizer: Tokenizer, held: dict[str, list[str]]) -> dict[str, Any]:
    """Measure bytes per token by category and what the head costs."""
    totals = {
        category: (n_bytes(texts), sum(len(tokenizer.encode(text)) for text in texts))
        for category, texts in held.items()
    }
    head = tokenizer.vocab_size * HIDDEN
    # The mean over categories of tokens per byte: what one byte of mixed text costs to generate.
    tokens_per_byte = sum(tokens / size for size, tokens in totals.values()) / len(totals)
    return {
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": {c: round(size / tokens, 3) for c, (size, tokens) in totals.items()},
        "mean_bytes_per_token": round(1 / tokens_per_byte, 3),
        "head_share_of_active_weights": round(head / (head + ACTIVE_ELSEWHERE), 3),
        "active_weights_per_byte": round((head + ACTIVE_ELSEWHERE) * tokens_per_byte),
        "embedding_and_head_megabytes_bf16": round(2 * head * 2 / 1e6, 1),
    }


def main() -> None:
    """Train the largest vocabulary, measure its prefixes, save the chosen one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("--size", type=int, choices=SIZES, default=SIZES[0])
    parser.add_argument("--out", type=Path, default=ROOT / "openk2/assets/nano")
    arguments = parser.parse_args()
    texts, held, trained_on = gather(arguments.data)
    ranks = train_ranks(texts, max(SIZES) - N_SPECIALS)
    measured = []
    for size in SIZES:
        prefix = {token: rank for token, rank in ranks.items() if rank < size - N_SPECIALS}
        tokenizer = Tokenizer.from_ranks(prefix, N_SPECIALS)
        measured.append(measure(tokenizer, held))
        print(json.dumps(measured[-1]), flush=True)
        if size == arguments.size:
            tokenizer.save(arguments.out)
    result = {
        "trained_on_bytes": trained_on,
        "held_out_bytes": {category: n_bytes(texts) for category, texts in held.items()},
        "sizes": measured,
        "chosen": arguments.size,
        "why": WHY,
    }
    command = f"python -m runs.nano_tokenizer --size {arguments.size}"
    print(record.write("tokenizer-vocabulary", command, result))


if __name__ == "__main__":
    main()
