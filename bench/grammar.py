"""Masks of JSON schemas: openk2's grammar beside llguidance, on the same schemas and vocabularies.

In: the data in this repository. Out: bench/records/grammar.json: compile, mask and accept times of
both, at nano's 8K and at byte-level vocabularies of 16K and 164K made of the repository's texts.
Must not know: models.

Each schema is compiled anew, then two documents are written token by token; tokens that have to
come are not jumped over. `first` is the first document of a schema, when its masks are not known
yet, `again` the second one. llguidance remembers no masks, so its two documents are one row. Set-up
and compiling are processor time, so that neighbours do not count; masks are elapsed time, since
asking for processor time takes longer than a mask.

    python -m bench.grammar
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import llguidance
import llguidance.numpy
import numpy as np
import zstandard

from bench import record
from bench.grammar_schemas import TOOLS
from openk2.grammar.answer import AnswerRule, compile_answer
from openk2.grammar.vocabulary import Vocabulary
from openk2.text.tokenizer import Tokenizer
from openk2.types import ToolSpec

ROOT = Path(__file__).resolve().parent.parent
SPECIALS = (
    *("<|im_end|>", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    *("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
    *("<think>", "</think>"),
)
_PIECES = re.compile(r" ?[^\W\d_]+|\d{1,3}| ?[^\w\s]+\n*|_+|\s+")
_TEXT_BYTES = 60_000_000


class Pieces:
    """A vocabulary of the most frequent pieces of some text, all single bytes, and specials."""

    def __init__(self, pieces: Sequence[bytes], size: int) -> None:
        """Take the pieces, most frequent first."""
        singles = [bytes((byte,)) for byte in range(256)]
        wanted = size - 256 - len(SPECIALS)
        longer = [piece for piece in pieces if 1 < len(piece) <= 32][:wanted]
        self.tokens = [*singles, *longer]
        self._ids = {token: id for id, token in enumerate(self.tokens)}
        self.specials = {name: len(self.tokens) + i for i, name in enumerate(SPECIALS)}

    def encode(self, data: bytes) -> list[int]:
        """Cut into pieces, and those that are no tokens into their longest beginnings."""
        found: list[int] = []
        for piece in _PIECES.findall(data.decode(errors="surrogateescape")):
            rest = piece.encode(errors="surrogateescape")
            while rest:
                n = next(n for n in range(min(len(rest), 32), 0, -1) if rest[:n] in self._ids)
                found.append(self._ids[rest[:n]])
                rest = rest[n:]
        return found


def texts() -> Iterator[str]:
    """Yield texts that the shipped model is trained on, and the package's own source."""
    for path in sorted((ROOT / "openk2").rglob("*.py")):
        yield path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "data").glob("*/*.zst")):
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            yield reader.read(6_000_000).decode(errors="ignore").replace('\\"', '"')


def pieces() -> list[bytes]:
    """Return all pieces of the texts, most frequent first, then the beginnings of long ones."""
    counts: Counter[str] = Counter()
    read = 0
    for text in texts():
        counts.update(_PIECES.findall(text))
        read += len(text)
        if read > _TEXT_BYTES:
            break
    words = [piece.encode() for piece, _ in counts.most_common()]
    beginnings = (word[:n] for word in words for n in range(2, len(word)))
    return list(dict.fromkeys((*words[:150_000], *beginnings, *words[150_000:])))


class Subject:
    """A vocabulary for both contenders."""

    def __init__(
        self,
        tokens: Sequence[bytes | None],
        specials: Mapping[str, int],
        encode: Callable[[bytes], list[int]],
    ) -> None:
        """Set both up, and time it."""
        self.size = len(tokens)
        self.encode = encode
        start = time.thread_time()
        self.vocabulary = Vocabulary(tokens, specials, encode)
        self.ours_ms = (time.thread_time() - start) * 1000
        names = {id: name.encode() for name, id in specials.items()}

        class Wrapped:
            eos_token_id = specials["<|im_end|>"]
            bos_token_id = None

            def __init__(self) -> None:
                self.special_token_ids = list(specials.values())
                self.tokens = [token or names[id] for id, token in enumerate(tokens)]

            def __call__(self, text: Any) -> list[int]:
                return encode(text if isinstance(text, bytes) else text.encode())

        start = time.thread_time()
        wrapper = llguidance.TokenizerWrapper(Wrapped())
        self.theirs = llguidance.LLTokenizer(cast(Any, wrapper), n_vocab=self.size)
        self.theirs_ms = (time.thread_time() - start) * 1000


def subjects() -> Iterator[tuple[str, Subject]]:
    """Make the vocabularies."""
    nano = Tokenizer.load(ROOT / "openk2" / "assets" / "nano")
    special = set(nano.specials.values())
    tokens = [None if v in special else nano.token_bytes(v) for v in range(nano.vocab_size)]
    yield "nano 8K", Subject(tokens, nano.specials, nano.encode_bytes)
    every = pieces()
    for name, size in (("made 16K", 16_384), ("made 164K", 163_840)):
        made = Pieces(every, size)
        yield name, Subject([*made.tokens, *[None] * len(SPECIALS)], made.specials, made.encode)


def measure(subject: Subject, rounds: int) -> dict[str, Any]:
    """Compile and write every document with both."""
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for tool, documents in TOOLS.items():
        for i in range(rounds):
            # Another description is another schema to whoever remembers schemas.
            schema = {**documents["schema"], "description": f"{tool} {i}"}
            run_ours(subject, schema, documents["documents"], ours)
            run_theirs(subject, schema, documents["documents"], theirs)
    section = [ToolSpec(name, "", tool["schema"]) for name, tool in TOOLS.items()]
    for i in range(rounds):
        tools = tuple(ToolSpec(f"{t.name}_{i}", "", t.parameters) for t in section)
        start = time.thread_time()
        compile_answer(AnswerRule(tools, "required"), subject.vocabulary).matcher(4096)
        ours.setdefault("section_ms", []).append((time.thread_time() - start) * 1000)
    return {
        "vocabulary": subject.size,
        "openk2": {"setup_ms": round(subject.ours_ms, 1)} | summary(ours),
        "llguidance": {"setup_ms": round(subject.theirs_ms, 1)} | summary(theirs),
    }


def run_ours(
    subject: Subject, schema: Mapping[str, Any], documents: Sequence[Any], times: dict[str, Any]
) -> None:
    """Time openk2 on one schema."""
    bits_W = np.zeros(subject.vocabulary.words, np.uint32)
    start = time.thread_time()
    grammar = compile_answer(AnswerRule(answer_schema=schema), subject.vocabulary)
    grammar.matcher(4096)
    times.setdefault("compile_ms", []).append((time.thread_time() - start) * 1000)
    for row, document in zip(("first", "again"), documents, strict=True):
        matcher = grammar.matcher(4096)
        for token in subject.encode(json.dumps(document, ensure_ascii=False).encode()):
            start = time.perf_counter()
            matcher.fill(bits_W)
            filled = time.perf_counter()
            allowed = bits_W[token >> 5] >> (token & 31) & 1
            assert allowed, (schema, document, subject.vocabulary.token_bytes[token])
            between = time.perf_counter()
            matcher.accept(token)
            times.setdefault("accept_us", []).append((time.perf_counter() - between) * 1e6)
            for name in (f"mask_{row}_us", "mask_us"):
                times.setdefault(name, []).append((filled - start) * 1e6)


def run_theirs(
    subject: Subject, schema: Mapping[str, Any], documents: Sequence[Any], times: dict[str, Any]
) -> None:
    """Time llguidance on one schema: compiling includes the first mask, which it puts off."""
    bits_1W = llguidance.numpy.allocate_token_bitmask(1, subject.size)
    options = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
    for document in documents:
        start = time.thread_time()
        text = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), cast(Any, options))
        matcher = llguidance.LLMatcher(subject.theirs, text)
        llguidance.numpy.fill_next_token_bitmask(matcher, bits_1W, 0)
        times.setdefault("compile_ms", []).append((time.thread_time() - start) * 1000)
        for token in subject.encode(json.dumps(document, ensure_ascii=False).encode()):
            start = time.perf_counter()
            llguidance.numpy.fill_next_token_bitmask(matcher, bits_1W, 0)
            times.setdefault("mask_us", []).append((time.perf_counter() - start) * 1e6)
            start = time.perf_counter()
            if not matcher.consume_token(token):
                break
            times.setdefault("accept_us", []).append((time.perf_counter() - start) * 1e6)


def summary(times: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Return median, 90th percentile and most of everything that was timed."""
    return {
        name: {
            "median": round(statistics.median(found), 2),
            "p90": round(float(np.percentile(found, 90)), 2),
            "max": round(max(found), 2),
            "count": len(found),
        }
        for name, found in sorted(times.items())
    }


def table(results: Mapping[str, Any]) -> str:
    """Write the medians and 90th percentiles for people."""
    lines = [
        f"{'':12} {'':12} {'set-up ms':>10} {'compile ms':>16} {'mask us':>18} {'accept us':>16}"
    ]
    for name, result in results.items():
        for who in ("openk2", "llguidance"):
            row = result[who]
            cells = (f"{row[k]['median']} / {row[k]['p90']}" for k in KEYS)
            lines.append(
                f"{name:12} {who:12} {row['setup_ms']:>10} " + "".join(f"{c:>18}" for c in cells)
            )
    return "\n".join(lines)


KEYS = ("compile_ms", "mask_us", "accept_us")


def main() -> None:
    """Measure everything and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=6, help="times that each schema is compiled")
    parser.add_argument("--dry", action="store_true", help="write no record")
    arguments = parser.parse_args()
    results = {name: measure(subject, arguments.rounds) for name, subject in subjects()}
    print(table(results))
    if not arguments.dry:
        versions = {"llguidance": llguidance.get_version()}
        print(record.write("grammar", "python -m bench.grammar", {**results, "versions": versions}))


if __name__ == "__main__":
    main()
