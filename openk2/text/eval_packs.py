"""What the packs in `data/eval/` ask, so that nothing of it gets into training.

In: the folder of data packs. Out: the texts and the tool names of every evaluation pack.
Must not know: how a benchmark is scored, or what is done with a row that overlaps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from openk2.text.corpus import read_rows


@dataclass(frozen=True, slots=True)
class PackFields:
    """Where a pack keeps what must not be trained on.

    A path is keys with dots between; `*` is each item of a list and each value of an object; a
    string on the way is read as JSON. All strings below a path's end count.
    """

    texts: tuple[str, ...] = ("",)
    """Questions, dialogues, scenarios, answers, descriptions; "" is the whole row."""
    tools: tuple[str, ...] = ()
    """Tool names."""


_FUNCTIONS = ("function.*.name",)
_DESCRIBED = "function.*.description"

PACKS: Mapping[str, PackFields] = {
    "acebench": PackFields(("question", "profile", "possible_answer", _DESCRIBED), _FUNCTIONS),
    "acebench_phone": PackFields(("inbox.*.message", "reminders.*.description")),
    "apibank_lv12": PackFields(
        ("turns.*.text", "turns.*.param_dict"), ("turns.*.api_name",)
    ),
    "aqua_devtest": PackFields(("question", "options", "rationale")),
    "bbh": PackFields(("input", "target")),
    "bfcl_v4_multi_turn": PackFields(("question.*.*.content",)),
    "bfcl_v4_multi_turn_func_doc": PackFields(
        ("functions.*.description",), ("functions.*.name",)
    ),
    "bfcl_v4_single_turn": PackFields(("question.*.*.content", _DESCRIBED), _FUNCTIONS),
    "gsm8k_test": PackFields(("question", "answer")),
    "humaneval": PackFields(("prompt", "canonical_solution", "test")),
    "mbpp_test": PackFields(("prompt", "canonical_solution", "description", "test")),
    "nestful": PackFields(("input",), ("output.*.name",)),
    "nestful_specs": PackFields(("spec.*.description",), ("spec.*.name",)),
    "nlu_function_calls_test": PackFields(("query",), ("call.name",)),
    "sealtools_test": PackFields(("query",), ("calling.*.api",)),
    "sgd_test_dialogues": PackFields(
        ("messages.*.content", "tools.*.description"), ("tools.*.name",)
    ),
    "svamp_300": PackFields(("Body", "Question")),
    "tal_scq_test": PackFields(("problem", "options")),
    "tau2_policies": PackFields(("policy",)),
    "tau2_tasks": PackFields(
        ("user_scenario", "evaluation_criteria.nl_assertions"),
        ("evaluation_criteria.actions.*.name",),
    ),
    "when2call_judge": PackFields(
        ("question", "orig_question", "answers", "tools.*.description"), ("tools.*.name",)
    ),
    # Plain text for perplexity: no synthetic conversation is made of it.
    "wikitext2_valid_test": PackFields(()),
}  # fmt: skip
"""By the file's name without its ending. A pack without a row here gives all its strings as texts:
more than needed, never less."""


def eval_texts(data: Path) -> Iterator[str]:
    """Yield every text of every evaluation pack under `data/eval/`."""
    for row, fields in _rows(data):
        for path in fields.texts:
            yield from _strings_at(row, path)


def eval_tool_names(data: Path) -> Iterator[str]:
    """Yield the name of every tool of every evaluation pack, repeats included."""
    for row, fields in _rows(data):
        for path in fields.tools:
            yield from _strings_at(row, path)


def pack_name(path: Path) -> str:
    """Return a pack file's name without `.jsonl` or `.jsonl.zst`."""
    return path.name.partition(".jsonl")[0]


def _rows(data: Path) -> Iterator[tuple[dict[str, Any], PackFields]]:
    for path in sorted((data / "eval").glob("*.jsonl*")):
        fields = PACKS.get(pack_name(path), PackFields())
        for row in read_rows(path) if fields.texts or fields.tools else ():
            yield row, fields


def _strings_at(value: Any, path: str) -> Iterator[str]:
    if not path:
        yield from _strings(value)
        return
    if isinstance(value, str):  # some packs keep a tool as a string of JSON
        value = json.loads(value)
    step, _, rest = path.partition(".")
    match value:
        case dict():
            found = cast(dict[str, Any], value)
            below = found.values() if step == "*" else [found[step]] if step in found else []
        case list():
            below = cast(list[Any], value)
        case _:
            below = []
    for item in below:
        yield from _strings_at(item, rest)


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in cast(dict[str, Any], value).values():
                yield from _strings(item)
        case list():
            for item in cast(list[Any], value):
                yield from _strings(item)
        case _:  # a number or nothing
            pass
