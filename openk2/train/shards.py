"""From data packs to what a run reads: training and held-out shards, packed and mixed.

In: pack names with weights, and a tokenizer. Out: shards on disk, a mixture of rows, held-out
shards. Must not know: models, losses, schedules.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from openk2.text.arithmetic import arithmetic_conversations
from openk2.text.conversations import Conversation, in_declared_order, problem, windows
from openk2.text.copy_documents import copy_documents
from openk2.text.copy_spelling import CopySpelling
from openk2.text.copy_tasks import copy_conversations
from openk2.text.copy_tokens import repeated_tokens
from openk2.text.copy_values import load_word_bank
from openk2.text.corpus import TEXT_PACKS, documents, held_out, held_out_keys
from openk2.text.packing import Document, Mixture, PackedRows, Shard, write_shard
from openk2.text.packs import (
    HELD_OUT_PACKS,
    PACK_FILES,
    TRAINING_PACKS,
    WORD_BANK_FILES,
    conversations,
)
from openk2.text.recorded import recorded_conversations
from openk2.text.sessions import sessions
from openk2.text.template import render_training
from openk2.text.tokenizer import Tokenizer
from openk2.train import made_from
from openk2.types import Message, ToolSpec

RULES = 4
"""Raise this when the same settings and files give other shards than before."""
MADE_FROM: Mapping[str, tuple[str, ...]] = {
    "arithmetic": (),
    "repeats": (),
    "nlu_sessions": PACK_FILES["nlu_calls"],
}
"""The files under made conversations; all others come from the word bank."""
MADE_TEXTS = "copy_documents"
MADE_CONVERSATIONS = ("copy_tasks", "copy_calls", "nlu_sessions", "arithmetic", "repeats")


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What a run learns from and is measured on."""

    texts: dict[str, float] = field(default_factory=dict)
    """Pre-training pack → weight: the share of rows, in proportion. `copy_documents` is made."""
    conversations: dict[str, float] = field(default_factory=dict)
    """Instruction pack → weight. Made are `repeats` (random tokens twice), `copy_calls` (short),
    `copy_tasks`, `nlu_sessions` and `arithmetic`."""
    files: dict[str, float] = field(default_factory=dict)
    """Path of your own conversations → weight: JSON Lines, plain or `.zst`, a row as
    `openk2 synth` writes it."""
    seq_len: int = 1024
    """Tokens per row; longer texts are cut, longer conversations come in windows that repeat the
    tools. Too short a row therefore drops whatever does not fit beside its tools."""
    prompt_weight: float = 0.0
    """Loss weight of what the assistant does not say in a conversation: 0 to 1."""
    held_out_share: float = 0.01
    """Part of every pack that is measured on instead."""
    read_share: float = 1.0
    """Part of every pack that is tokenised; a short run does not read everything. Files of your
    own are read whole."""
    made: int = 20000
    """Texts or conversations to make for each source that is made."""
    measured: tuple[str, ...] = ()
    """Conversation packs, or paths of your own `.jsonl` files, that are only measured on."""
    packs: Path = Path("data")
    """Folder of the packs, laid out as the repository's `data/`."""
    shards: Path = Path("out/shards")
    """Where tokenised packs are kept. What was made with another tokenizer, other shares, another
    `made` or other packs is refused: delete it or name another folder."""
    tokenizer: Path = Path("openk2/assets/nano")
    """Directory with `tiktoken.model` and `tokenizer_config.json`."""

    def __post_init__(self) -> None:
        """Refuse packs that do not exist, and to train on what is only for measuring."""
        for name in self.conversations:
            if name in (*HELD_OUT_PACKS, *self.measured):
                raise ValueError(f"{name!r} is for measuring: take it out of `conversations`")
        known = (*TRAINING_PACKS, *HELD_OUT_PACKS, *MADE_CONVERSATIONS)
        for name in (*self.conversations, *self.measured):
            if name not in known and name not in self.own:
                raise _no_pack("conversation", name, known)
        for name in self.texts:
            own = self.packs / "pretrain" / f"{name}.jsonl.zst"
            if name not in (*TEXT_PACKS, MADE_TEXTS) and not own.is_file():
                raise _no_pack("text", name, (*TEXT_PACKS, MADE_TEXTS))

    @property
    def own(self) -> set[str]:
        """Return the files of your own that are trained or measured on."""
        endings = (".jsonl", ".jsonl.zst")
        return {*self.files, *(name for name in self.measured if name.endswith(endings))}

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of every source that is trained on."""
        return {**self.texts, **self.conversations, **self.files}


def with_files(config: DataConfig, given: Iterable[str]) -> DataConfig:
    """Return the same settings with files of conversations added.

    Args:
        config: The settings.
        given: `FILE` or `FILE=WEIGHT`; files without a weight share half of all rows.

    Raises:
        ValueError: A weight is not a positive number.
    """
    named = [text.rpartition("=") if "=" in text else (text, "", "") for text in given]
    half = sum(config.weights.values()) / max(1, sum(not weight for _, _, weight in named))
    files = dict(config.files)
    for name, _, weight in named:
        try:
            files[name] = float(weight) if weight else half or 1.0
        except ValueError:
            files[name] = -1.0
        if not files[name] > 0:
            raise ValueError(f"{name}={weight}: the weight is not a number greater than 0")
    return replace(config, files=files)


def _no_pack(kind: str, name: str, known: Sequence[str]) -> ValueError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    return ValueError(f"there is no {kind} pack {name!r}: did you mean {near!r}?")


def prepare(config: DataConfig, report: Callable[[str], None] = print) -> None:
    """Tokenise every pack into a training and a held-out shard; existing shards are kept.

    Raises:
        OtherShardError: An existing one was made with other settings or from other packs.
        FileNotFoundError: A pack or the tokenizer is missing.
    """
    tokenizer = Tokenizer.load(config.tokenizer)
    made: dict[str, Callable[[bool], Iterator[Document]]] = {
        name: partial(_texts, config, name, tokenizer) for name in config.texts
    }
    for name in (*config.conversations, *config.files, *config.measured):
        made[name] = partial(_conversations, config, name, tokenizer)
    if "repeats" in made:
        made["repeats"] = partial(_repeats, config, tokenizer)
    records = {name: _settings(config, name) | _sources(config, name) for name in made}
    missing: list[tuple[Path, str, bool]] = []
    for name, record in records.items():
        for held in (True,) if name in config.measured else (True, False):
            directory = _directory(config, name, held)
            if directory.exists():
                made_from.check(directory, record)
            else:
                missing.append((directory, name, held))
    for directory, name, held in missing:
        # The shard appears together with its record or not at all.
        fresh = directory.with_name(f".{directory.name}.{os.getpid()}.new")
        tokens = write_shard(fresh, made[name](held), tokenizer.vocab_size)
        made_from.write(fresh, records[name])
        fresh.rename(directory)
        report(f"{directory}: {tokens:,} tokens")


def _settings(config: DataConfig, name: str) -> dict[str, Any]:
    """What shapes the shards of one pack, except for the files it is read from."""
    vocabulary = [config.tokenizer / file for file in ("tiktoken.model", "tokenizer_config.json")]
    settings: dict[str, Any] = {
        "rules": RULES,
        "tokenizer": made_from.digest(vocabulary),
        "held_out_share": 1.0 if name in config.measured else config.held_out_share,
    }
    if name == MADE_TEXTS or name in MADE_CONVERSATIONS:
        settings["made"] = config.made
    elif name not in config.own:
        settings["read_share"] = config.read_share
    if name not in config.texts:
        settings["seq_len"] = config.seq_len
    return settings


def _sources(config: DataConfig, name: str) -> dict[str, Any]:
    if name in config.own:
        return {"packs": made_from.digest([Path(name)])}
    if name in (MADE_TEXTS, *MADE_CONVERSATIONS):
        files = MADE_FROM.get(name, WORD_BANK_FILES)
    else:
        files = PACK_FILES.get(name, (f"pretrain/{name}.jsonl.zst",))
    return {"packs": made_from.digest(config.packs / file for file in files)}


def open_mixture(config: DataConfig, seed: int) -> Mixture:
    """Open the training shards as an endless stream of rows.

    Raises:
        FileNotFoundError: A shard is missing: call `prepare` first.
    """
    sources = {
        name: (PackedRows(open_shard(config, name), config.seq_len, seed), weight)
        for name, weight in config.weights.items()
        if weight > 0
    }
    return Mixture(sources, seed=seed, prompt_weight=config.prompt_weight)


def open_held_out(config: DataConfig, names: Iterable[str]) -> dict[str, Shard]:
    """Open the held-out shards of the named packs; empty ones are left out."""
    opened = {name: open_shard(config, name, held=True) for name in names}
    return {name: shard for name, shard in opened.items() if len(shard)}


def open_shard(config: DataConfig, name: str, *, held: bool = False) -> Shard:
    """Open one shard.

    Raises:
        FileNotFoundError: It is missing: call `prepare` first.
        OtherShardError: It was made with other settings.
    """
    directory = _directory(config, name, held)
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no shard {directory}: prepare the data first")
    # The packs themselves are not needed any more, so only `prepare` compares them.
    made_from.check(directory, _settings(config, name))
    return Shard(directory)


def _directory(config: DataConfig, name: str, held: bool) -> Path:
    # Texts are cut into rows when they are packed; only conversations depend on the length.
    own = hashlib.sha256(name.encode()).hexdigest()[:8]  # two folders may have a train.jsonl
    folder = f"{Path(name).name}-{own}" if name in config.own else name
    if name not in config.texts:
        folder = f"{folder}-{config.seq_len}"
    return config.shards / ("held_out" if held else "train") / folder


def _texts(config: DataConfig, name: str, tokenizer: Tokenizer, held: bool) -> Iterator[Document]:
    """Yield `[BOS] text [EOS]`, so that the first token is predicted too."""
    for text in (
        _made_texts(config, held) if name == MADE_TEXTS else _pack_texts(config, name, held)
    ):
        ids = [tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]
        yield Document(ids, n_bytes=len(text.encode()))


def _pack_texts(config: DataConfig, name: str, held: bool) -> Iterator[str]:
    """Yield one side's texts; works are held out whole, but thinned out row by row."""
    path = config.packs / "pretrain" / f"{name}.jsonl.zst"
    chosen = held_out_keys((key for key, _ in documents(path)), config.held_out_share)
    for key, text in documents(path):
        if (key in chosen) == held and (held or _read(config, text)):
            yield text


def _read(config: DataConfig, item: str) -> bool:
    """Whether training reads an item; held-out ones are never thinned out."""
    return held_out(f"read/{item}", config.read_share)


def _made_texts(config: DataConfig, held: bool) -> Iterator[str]:
    """Make texts; the held-out ones are of words that the others never use."""
    bank = load_word_bank(config.packs, unseen=held)
    return islice(copy_documents(bank, seed=int(held)), _made_count(config, held))


def _made_conversations(config: DataConfig, name: str, held: bool) -> Iterator[Conversation]:
    if name == "nlu_sessions":
        singles = _pack_conversations(replace(config, read_share=1.0), "nlu_calls", held)
        joined = sessions(singles, seed=int(held))
        made = (session for session in joined if problem(session) is None)
    elif name == "arithmetic":
        made = arithmetic_conversations(seed=int(held), unseen=held)
    else:
        bank = load_word_bank(config.packs, unseen=held)
        made = copy_conversations(bank, seed=int(held), short=name == "copy_calls")
    return islice(made, _made_count(config, held))


def _repeats(config: DataConfig, tokenizer: Tokenizer, held: bool) -> Iterator[Document]:
    return islice(repeated_tokens(len(tokenizer.ranks), int(held)), _made_count(config, held))


def _made_count(config: DataConfig, held: bool) -> int:
    return round(config.made * config.held_out_share) if held else config.made


def _pack_conversations(config: DataConfig, name: str, held: bool) -> Iterator[Conversation]:
    def read() -> Iterator[Conversation]:
        if name in config.own:
            return recorded_conversations(Path(name))
        return conversations(config.packs, name)

    if name in config.measured:
        return read()
    chosen = held_out_keys((conversation.key for conversation in read()), config.held_out_share)
    return (
        conversation
        for conversation in read()
        if (conversation.key in chosen) == held
        and (held or name in config.files or _read(config, conversation.key))
    )


def _conversations(
    config: DataConfig, name: str, tokenizer: Tokenizer, held: bool
) -> Iterator[Document]:
    spelling = CopySpelling(tokenizer)

    def count_tokens(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> int:
        return len(spelling.respell(*_rendered(messages, tools, tokenizer))[0])

    source = _made_conversations if name in MADE_CONVERSATIONS else _pack_conversations
    for conversation in map(in_declared_order, source(config, name, held)):
        for piece in windows(conversation, count_tokens, config.seq_len + 1):
            yield _conversation_document(piece, tokenizer, spelling)


def _conversation_document(
    piece: Conversation, tokenizer: Tokenizer, spelling: CopySpelling
) -> Document:
    """Render one window; what an earlier window trains on is context only."""
    ids, learn = _rendered(piece.messages, piece.tools, tokenizer)
    if piece.context_messages:
        context = piece.messages[: piece.context_messages]
        thinking = _thinks(piece.messages)
        known = len(render_training(context, piece.tools, tokenizer, thinking=thinking)[0])
        learn[:known] = [False] * known
    return Document(*spelling.respell(ids, learn))


def _rendered(
    messages: Sequence[Message], tools: Sequence[ToolSpec], tokenizer: Tokenizer
) -> tuple[list[int], list[bool]]:
    """Render with K2's Thinking template where somebody thought, else with Instruct's."""
    return render_training(messages, tools, tokenizer, thinking=_thinks(messages))


def _thinks(messages: Sequence[Message]) -> bool:
    return any(message.reasoning for message in messages)
