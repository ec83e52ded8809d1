"""A tokenizer directory that other programs read: tokenizer.json and the chat template.

In: a directory with `tiktoken.model` and `tokenizer_config.json`. Out: the same vocabulary as
Hugging Face's `tokenizers` and `transformers` load it, without remote code.
Must not know: weights, model configs, GGUF.

The written tokenizer gives the ids of `openk2.text.tokenizer.Tokenizer.encode` with three
differences, all on the side that reads it:

* It looks for special tokens in text, so hostile text can spell them; ours never does. There,
  `apply_chat_template(..., sanitize_control_tokens=True)` reads what messages spell as text, and
  so does `tokenizer(text, split_special_tokens=True)`, except for the tokens published as
  `special: false` (tool calls, thinking): those it still finds.
* It does not cut runs of more than 25,000 characters, as K2's own tokenizer and ours do.
* It refuses lone surrogates, which are no Unicode text; ours encodes U+FFFD for one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from openk2.export.place import ExportError, as_json
from openk2.model.untrusted import MissingFileError, UntrustedFileError, open_regular
from openk2.text.tokenizer import CONFIG_FILE, PATTERN, RANKS_FILE, Tokenizer

TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
MAX_TEMPLATE_BYTES = 1 << 20
"""K2's own has 3 KB."""

_NAMED_ROLES = {
    "bos_token": "[BOS]",
    "eos_token": "[EOS]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
}


def load_tokenizer(source: Path, otherwise: str = "") -> Tokenizer:
    """Read the tokenizer that an export is to hold.

    Args:
        source: The model directory.
        otherwise: What else to do if it has none.

    Raises:
        ExportError: A file is missing.
        TokenizerFileError: A file is malformed.
    """
    for name in (RANKS_FILE, CONFIG_FILE):
        if not (source / name).is_file():
            raise ExportError(f"{source / name} is missing: add the tokenizer's files{otherwise}")
    return Tokenizer.load(source)


def tokenizer_settings(source: Path) -> dict[str, Any]:
    """Return tokenizer_config.json, whose size and form `load_tokenizer` has checked."""
    return json.loads((source / CONFIG_FILE).read_bytes())


def chat_template(source: Path, settings: Mapping[str, Any]) -> str:
    """Return the model's own template; ours, which is K2's format, where it brings none.

    Args:
        source: The model directory; its chat_template.jinja goes first, as in transformers.
        settings: Its tokenizer_config.json.

    Raises:
        ExportError: The file is too large or no text.
    """
    try:
        with open_regular(source / TEMPLATE_FILE) as file:
            data = file.read(MAX_TEMPLATE_BYTES + 1)
        if len(data) > MAX_TEMPLATE_BYTES:
            raise UntrustedFileError(f"it is larger than {MAX_TEMPLATE_BYTES:,} bytes")
        return data.decode("utf-8")
    except MissingFileError:
        inline = settings.get("chat_template")
        ours = Path(__file__).parent / TEMPLATE_FILE
        return inline if isinstance(inline, str) else ours.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ExportError(
            f"{source / TEMPLATE_FILE} is no chat template: {error}; mend or remove it"
        ) from None


def tokenizer_files(
    source: Path, tokenizer: Tokenizer, context_length: int | None
) -> dict[str, bytes]:
    """Return tokenizer.json, its config, the chat template and `tiktoken.model`.

    Args:
        source: The directory that `tokenizer` was loaded from.
        tokenizer: The vocabulary.
        context_length: What a text may have, if the source's tokenizer does not say.

    Raises:
        ExportError: The chat template cannot be read.
    """
    settings = tokenizer_settings(source)
    added = added_tokens(tokenizer, settings)
    config = _config(settings, tokenizer, added, context_length)
    return {
        TOKENIZER_FILE: as_json(tokenizer_json(tokenizer, added), indent=None),
        CONFIG_FILE: as_json(config),
        TEMPLATE_FILE: chat_template(source, settings).encode(),
        RANKS_FILE: (source / RANKS_FILE).read_bytes(),
    }


def byte_level(token: bytes) -> str:
    """Spell a token in GPT-2's byte-level alphabet: one printable character for each byte."""
    return token.decode("latin-1").translate(_PRINTABLE)


def merges(tokenizer: Tokenizer) -> list[tuple[bytes, bytes]]:
    """List every pair of tokens that joins to a token, first the pairs of the lowest rank.

    tiktoken joins the neighbours whose *joined* bytes rank lowest and has no list of merges, so
    each split of a token into two tokens is one. Linear in the bytes of the vocabulary.
    """
    ranks = tokenizer.ranks
    found: list[tuple[bytes, bytes]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ranks and right in ranks:
                found.append((left, right))
    return found


def added_tokens(tokenizer: Tokenizer, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the special tokens by id as tokenizer.json has them; reserved ones are `special`.

    Args:
        tokenizer: The vocabulary.
        config: Its tokenizer_config.json, which says of the named ones whether they are special.
    """
    named: Mapping[str, Mapping[str, Any]] = config["added_tokens_decoder"]
    return [
        {
            "id": id_,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": bool(named.get(str(id_), {}).get("special", True)),
        }
        for name, id_ in tokenizer.specials.items()
    ]


def tokenizer_json(tokenizer: Tokenizer, added: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Describe the vocabulary as Hugging Face's tokenizer.json does."""
    split = {
        "type": "Split",
        "pattern": {"Regex": PATTERN},
        "behavior": "Isolated",
        "invert": False,
    }
    bytes_to_text = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_to_text]},
        "post_processor": None,
        "decoder": bytes_to_text,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            # tiktoken looks the whole piece up before it merges.
            "ignore_merges": True,
            "vocab": {byte_level(token): rank for token, rank in tokenizer.ranks.items()},
            # Pairs, not "left right": that form drops merges of a token that begins "#version".
            "merges": [[byte_level(left), byte_level(right)] for left, right in merges(tokenizer)],
        },
    }


def _config(
    published: Mapping[str, Any],
    tokenizer: Tokenizer,
    added: Iterable[Mapping[str, Any]],
    context_length: int | None,
) -> dict[str, Any]:
    decoder = {
        str(entry["id"]): {key: entry[key] for key in entry if key != "id"}
        for entry in added
        if not entry["content"].startswith("<|reserved_token_")
    }
    roles = {role: _content(published.get(role, name)) for role, name in _NAMED_ROLES.items()}
    settings: dict[str, Any] = {
        "added_tokens_decoder": decoder,
        **{role: name for role, name in roles.items() if name in tokenizer.specials},
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        # Loads in transformers 4 and 5, whatever model_type config.json names.
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    length = published.get("model_max_length", context_length)
    return settings | ({"model_max_length": length} if isinstance(length, int) else {})


def _content(token: Any) -> str:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def _printable() -> dict[int, int]:
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: 0x100 + index for index, byte in enumerate(hidden)}


_PRINTABLE = _printable()
