"""The instruction packs by name.

In: the folder `data/`. Out: sound conversations, to train on or, from the held-out packs, only to
measure on; and the files that each pack is read from.
Must not know: tokens, mixture weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from openk2.text.chat_packs import CHAT_PACKS
from openk2.text.conversations import Conversation, problem
from openk2.text.tool_packs import EVAL_PACKS, TOOL_PACKS

TRAINING_PACKS: tuple[str, ...] = (*TOOL_PACKS, *CHAT_PACKS)
HELD_OUT_PACKS: tuple[str, ...] = tuple(EVAL_PACKS)

_SGD_SCHEMAS = "tools/sgd_schemas_and_sgdx.jsonl.zst"
_NLU_TRAIN = "instruct/nlu_function_calls_train.jsonl.zst"
_NLU_FUNCTIONS = "tools/nlu_functions.jsonl.zst"
WORD_BANK_FILES: tuple[str, ...] = (
    "pretrain/wordnet_definitions.jsonl.zst", _NLU_TRAIN, "instruct/zh_reading_qa.jsonl.zst",
    "instruct/crosswoz_zh_tooluse.jsonl.zst", "tools/tool_catalogue.jsonl.zst",
    "tools/copy_phrases.jsonl",
)  # fmt: skip
"""What `load_word_bank` reads, relative to `data/`."""
PACK_FILES: Mapping[str, tuple[str, ...]] = {
    "sgd_train": ("instruct/sgd_tooluse_train.jsonl.zst", _SGD_SCHEMAS),
    "sgd_dev": ("instruct/sgd_tooluse_dev.jsonl.zst", _SGD_SCHEMAS),
    "sgd_test": ("eval/sgd_test_dialogues.jsonl.zst",),
    "tm4": ("instruct/tm4_coffee_tooluse.jsonl.zst",),
    "crosswoz": ("instruct/crosswoz_zh_tooluse.jsonl.zst",),
    "glaive": ("instruct/glaive_demo_tooluse.jsonl.zst",),
    "sealtools": ("instruct/sealtools_dev.jsonl.zst",),
    "nlu_calls": (_NLU_TRAIN, _NLU_FUNCTIONS),
    "nlu_calls_test": ("eval/nlu_function_calls_test.jsonl.zst", _NLU_TRAIN, _NLU_FUNCTIONS),
    "metatool": ("instruct/metatool_tool_choice.jsonl.zst",),
    "identity": ("instruct/identity.jsonl",),
    "general_seed": ("instruct/general_seed_instructions.jsonl.zst",),
    "open_chat": ("instruct/open_chat_en.jsonl.zst",),
    "kdconv": ("instruct/kdconv_zh_chat.jsonl.zst",),
    "fairytaleqa": ("instruct/fairytaleqa_train.jsonl.zst",),
    "zh_reading_qa": ("instruct/zh_reading_qa.jsonl.zst",),
    "math_word_problems": ("instruct/math_word_problems.jsonl.zst",),
    "tal_scq": ("instruct/tal_scq_math_en_zh.jsonl.zst",),
    "mbpp": ("instruct/mbpp_train.jsonl.zst",),
    "nl2command": ("instruct/nl2command_tldr.jsonl.zst",),
    "nl2sql": ("instruct/nl2sql_wikisql_20k.jsonl.zst",),
    "simplify_pairs": ("instruct/simplify_pairs_en.jsonl.zst",),
}
"""The files that each pack is read from, relative to `data/`."""


def conversations(data: Path, pack: str) -> Iterator[Conversation]:
    """Yield the sound conversations of one pack; rows that break a rule are left out.

    Args:
        data: The repository's `data/` folder.
        pack: One of `TRAINING_PACKS` or `HELD_OUT_PACKS`.

    Raises:
        KeyError: There is no pack of that name.
    """
    convert = {**TOOL_PACKS, **CHAT_PACKS, **EVAL_PACKS}[pack]
    for conversation in convert(data):
        if problem(conversation) is None:
            yield conversation
