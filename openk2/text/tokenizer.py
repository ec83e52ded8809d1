"""Text to token ids and back, with Kimi K2's byte-level vocabulary format.

In: a directory with `tiktoken.model` (lines of `base64(bytes) rank`) and `tokenizer_config.json`
(Hugging Face `added_tokens_decoder`). Out: ids, strings and bytes.
Must not know: messages, chat templates, tensors.

Special tokens are found by name only, so a published 163,840-entry directory loads the same way
as the one that ships with openk2.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tiktoken

RANKS_FILE = "tiktoken.model"
CONFIG_FILE = "tokenizer_config.json"
_UNREAD_FILE = "tokenizer.json"

PATTERN = "|".join(
    (
        r"""[\p{Han}]+""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"""
        r"""[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"""
        r"""[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""",
        r""" ?[^\s\p{L}\p{N}]+[\r\n]*""",
        r"""\s*[\r\n]+""",
        r"""\s+(?!\S)""",
        r"""\s+""",
    )
)
"""K2's split pattern. `&&` is class intersection; Python's `regex` reads it only with V1."""

SPECIAL_OFFSETS: Mapping[str, int] = MappingProxyType(
    {
        "[BOS]": 0,
        "[EOS]": 1,
        "<|im_end|>": 2,
        "<|im_user|>": 3,
        "<|im_assistant|>": 4,
        "<|start_header_id|>": 6,
        "<|end_header_id|>": 7,
        "[EOT]": 9,
        "<|im_system|>": 10,
        "<|tool_calls_section_begin|>": 11,
        "<|tool_calls_section_end|>": 12,
        "<|tool_call_begin|>": 13,
        "<|tool_call_argument_begin|>": 14,
        "<|tool_call_end|>": 15,
        "<|im_middle|>": 17,
        "<think>": 22,
        "</think>": 23,
        "[UNK]": -2,
        "[PAD]": -1,
    }
)
"""Where K2 puts each special token after the base ranks; negative counts from the end."""

# Published as `special: false`: skip_special_tokens must not hide them from a tool parser.
_VISIBLE = frozenset(
    (
        "<|tool_calls_section_begin|>",
        "<|tool_calls_section_end|>",
        "<|tool_call_begin|>",
        "<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        "<think>",
        "</think>",
    )
)

# The published tokenizer's limits: tiktoken panics or crawls beyond them.
_MAX_CHUNK_CHARS = 400_000
_MAX_RUN_CHARS = 25_000
_RUN = re.compile(r"\s+|\S+")
_ESCAPED_BYTES = re.compile("([\udc80-\udcff]+)")

# Both files come from strangers. The published ones: 3 MB, 256 specials, tokens below 200 bytes.
_MAX_FILE_BYTES = 16 << 20
_MAX_TOKEN_BYTES = 1024
_MAX_SPECIALS = 1 << 14


class TokenizerFileError(ValueError):
    """A tokenizer directory cannot be used; the message says which file and why."""


class Tokenizer:
    """A byte-level BPE vocabulary plus named special tokens."""

    def __init__(self, ranks: Mapping[bytes, int], specials: Mapping[str, int]) -> None:
        """Build from base `ranks` (0..n-1, all 256 bytes) and the specials that follow them."""
        _check_ranks(ranks)
        vocab_size = max(specials.values(), default=len(ranks) - 1) + 1
        if vocab_size - len(ranks) > _MAX_SPECIALS:
            raise ValueError(
                f"special token {vocab_size - 1} in {CONFIG_FILE} is more than {_MAX_SPECIALS} ids "
                f"after the last of the {len(ranks)} ranks: the two files do not belong together"
            )
        named = {id_: name for name, id_ in specials.items()}
        clash = [name for name, id_ in specials.items() if id_ < len(ranks)]
        if clash or len(named) != len(specials):
            raise ValueError(
                f"special tokens need their own ids from {len(ranks)} on; "
                f"{clash[0] if clash else 'two of them'} shares one: fix {CONFIG_FILE}"
            )
        every = {
            named.get(id_, f"<|reserved_token_{id_}|>"): id_
            for id_ in range(len(ranks), vocab_size)
        }
        if len(every) != vocab_size - len(ranks):
            raise ValueError(f"{CONFIG_FILE} gives one id the reserved name of another")
        self.vocab_size = vocab_size
        self.specials: Mapping[str, int] = MappingProxyType(every)
        self._ranks = dict(ranks)
        self._encoding = tiktoken.Encoding(
            name="openk2", pat_str=PATTERN, mergeable_ranks=self._ranks, special_tokens=every
        )

    @classmethod
    def from_ranks(cls, ranks: Mapping[bytes, int], n_specials: int) -> Tokenizer:
        """Append K2's special tokens, `n_specials` ids in all, to freshly trained ranks."""
        start = len(ranks)
        specials = {
            name: start + (offset if offset >= 0 else n_specials + offset)
            for name, offset in SPECIAL_OFFSETS.items()
        }
        return cls(ranks, specials)

    @classmethod
    def load(cls, directory: Path) -> Tokenizer:
        """Read a tokenizer directory.

        Raises:
            TokenizerFileError: A file is missing or malformed.
        """
        ranks = _read_ranks(Path(directory) / RANKS_FILE)
        specials = _read_specials(Path(directory) / CONFIG_FILE)
        try:
            return cls(ranks, specials)
        except ValueError as error:
            raise TokenizerFileError(f"{directory}: {error}") from error

    def save(self, directory: Path) -> None:
        """Write `tiktoken.model` and `tokenizer_config.json` into `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        by_rank = sorted(self._ranks.items(), key=lambda item: item[1])
        lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in by_rank)
        (directory / RANKS_FILE).write_text("".join(lines), encoding="ascii")
        text = json.dumps(self._config(), indent=2, ensure_ascii=False)
        (directory / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")

    def _config(self) -> dict[str, object]:
        named = {
            str(id_): {
                "content": name,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": name not in _VISIBLE,
            }
            for name, id_ in self.specials.items()
            if not name.startswith("<|reserved_token_")
        }
        return {
            "added_tokens_decoder": named,
            "bos_token": "[BOS]",
            "eos_token": "[EOS]",
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "clean_up_tokenization_spaces": False,
            "tokenizer_class": "TikTokenTokenizer",
        }

    def encode(self, text: str) -> list[int]:
        """Encode ordinary text: never a special id, whatever the text spells."""
        if len(text) <= _MAX_RUN_CHARS:
            return self._encoding.encode_ordinary(text)
        ids: list[int] = []
        for piece in _bounded_pieces(text):
            ids.extend(self._encoding.encode_ordinary(piece))
        return ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """Encode any bytes so that `decode_bytes` gives them back exactly."""
        ids: list[int] = []
        # surrogateescape turns each byte that is not UTF-8 into one of U+DC80..U+DCFF.
        for part in _ESCAPED_BYTES.split(data.decode("utf-8", errors="surrogateescape")):
            if part and "\udc80" <= part[0] <= "\udcff":
                raw = part.encode("utf-8", errors="surrogateescape")
                ids.extend(self._ranks[bytes((byte,))] for byte in raw)
            else:
                ids.extend(self.encode(part))
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Join the bytes of `ids`; a special token gives its name."""
        return self._encoding.decode_bytes(list(ids))

    def decode(self, ids: Iterable[int]) -> str:
        """Decode to text; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of one token; a special token gives its name."""
        return self._encoding.decode_single_token_bytes(token)

    @property
    def ranks(self) -> Mapping[bytes, int]:
        """The ordinary tokens by their bytes; a token's id is its rank."""
        return MappingProxyType(self._ranks)

    @property
    def im_end(self) -> int:
        """Id that ends every turn: generation stops here."""
        return self._special("<|im_end|>")

    @property
    def bos(self) -> int:
        """Id that begins a pre-training document."""
        return self._special("[BOS]")

    @property
    def eos(self) -> int:
        """Id that ends a pre-training document."""
        return self._special("[EOS]")

    @property
    def pad(self) -> int:
        """Id that fills unused positions."""
        return self._special("[PAD]")

    def _special(self, name: str) -> int:
        if name not in self.specials:
            raise TokenizerFileError(
                f"the tokenizer names no {name} token in {CONFIG_FILE}: "
                "take the tokenizer that was published with the model"
            )
        return self.specials[name]


def _bounded_pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _MAX_CHUNK_CHARS):
        chunk = text[start : start + _MAX_CHUNK_CHARS]
        cut = 0
        for run in _RUN.finditer(chunk):
            for end in range(run.start() + _MAX_RUN_CHARS, run.end(), _MAX_RUN_CHARS):
                yield chunk[cut:end]
                cut = end
        yield chunk[cut:]


def _check_ranks(ranks: Mapping[bytes, int]) -> None:
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise ValueError(f"the ranks in {RANKS_FILE} are not 0..{len(ranks) - 1}, each once")
    missing = [byte for byte in range(256) if bytes((byte,)) not in ranks]
    if missing:
        raise ValueError(f"{RANKS_FILE} lacks the single byte 0x{missing[0]:02x}: it is incomplete")


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise TokenizerFileError(f"{path} is not a regular file")
        # Without waiting, should a pipe have taken its place in between.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise TokenizerFileError(_missing(path)) from None
    except OSError as error:
        raise TokenizerFileError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_FILE_BYTES:
        raise TokenizerFileError(
            f"{path}: larger than {_MAX_FILE_BYTES >> 20} MiB, so it is no tokenizer file"
        )
    return data


def _missing(path: Path) -> str:
    unread = (path.parent / _UNREAD_FILE).exists() and path.name == RANKS_FILE
    hint = f", and {_UNREAD_FILE} alone is not read" if unread else ""
    return f"{path.parent} has no {path.name}{hint}: add the one published with the model"


def _read_ranks(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    taken: set[int] = set()
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            token, rank = _rank(line)
            if token in ranks or rank in taken:
                what = f"token {token!r}" if token in ranks else f"rank {rank}"
                raise ValueError(f"{what} is on an earlier line too")
        except ValueError as error:
            raise TokenizerFileError(
                f"{path}, line {number}: expected `base64 rank`: {error}"
            ) from error
        ranks[token] = rank
        taken.add(rank)
    return ranks


def _rank(line: bytes) -> tuple[bytes, int]:
    fields = line.split()
    if len(fields) != 2 or not fields[1].isdigit():
        raise ValueError(f"found {line[:40]!r}")
    token = base64.b64decode(fields[0], validate=True)
    if len(token) > _MAX_TOKEN_BYTES:
        raise ValueError(f"a token of {len(token)} bytes; the limit is {_MAX_TOKEN_BYTES}")
    return token, int(fields[1])


def _read_specials(path: Path) -> dict[str, int]:
    try:
        added = json.loads(_read(path))["added_tokens_decoder"]
        specials = {_name(entry): int(id_) for id_, entry in added.items()}
    except TokenizerFileError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TokenizerFileError(
            f"{path}: expected an `added_tokens_decoder` of id to content: {error!r}"
        ) from error
    if len(specials) != len(added):
        raise TokenizerFileError(f"{path}: two ids in `added_tokens_decoder` have one content")
    return specials


def _name(entry: Any) -> str:
    content = entry["content"]
    if not isinstance(content, str) or not content:
        raise ValueError(f"a content is {content!r}, not a name")
    if len(content.encode()) > _MAX_TOKEN_BYTES:
        raise ValueError(f"a content of more than {_MAX_TOKEN_BYTES} bytes")
    return content
