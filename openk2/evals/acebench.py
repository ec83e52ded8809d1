"""ACEBench in English and Chinese: calls in dialogues, and saying what is wrong with a request.

In: the pack. Out: cases and scores.
Must not know: how answers are asked for. The agent questions need the benchmark's own worlds and a
language model as user: they are left out.

A dialogue's turns become messages, so tools are called as tools. A model that writes calls as the
public prompt asks for, `[Name(key='value')]`, is read too. Dialogues of several questions are
scored per question, as half of each pack cuts them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from openk2.evals.ace_match import Gold, calls_match, exactly, parameters_of
from openk2.evals.ast_match import Call, tool_name
from openk2.evals.benchmark import Answer, Benchmark, Case, Scores, ask_once
from openk2.evals.decisions import DERIVED, FAILED, decision_scores, decoded_all
from openk2.evals.tool_docs import tool_of
from openk2.text.corpus import read_rows
from openk2.types import Message, Role

PACK = "eval/acebench.jsonl.zst"

_RULES: Mapping[str, str] = {
    "en": "Call the functions that the user's request needs. Give a parameter that may be left out "
    "only if the conversation or the profile mentions it, in the user's own words unless the "
    "description asks for another form.",
    "zh": "请调用满足用户请求所需的函数。可选参数只有在对话或用户画像中提到时才填写；"
    "除非参数说明另有格式要求，取值使用用户的原话。",
}
# What the scorer looks for in an answer without calls is fixed English in both languages.
_SAYING: Mapping[str, str] = {
    "en": "If a value in the request does not have the type or form that its parameter needs, call "
    "nothing and answer: There is incorrect value (VALUE) for the parameters (KEY) in the "
    "conversation history. Else, if a required parameter is missing, answer: Missing necessary "
    "parameters (KEY1, KEY2) for the api (NAME). Else, if no function can do it, answer: "
    "Due to the limitations of the function, I cannot solve this problem.",
    "zh": "如果请求中某个取值的类型或形式不符合参数要求，不要调用函数，并回答：There is incorrect "
    "value (取值) for the parameters (参数名) in the conversation history. 否则，如果缺少必填参数，"
    "回答：Missing necessary parameters (参数名1, 参数名2) for the api (函数名). 否则，如果没有函数"
    "能完成请求，回答：Due to the limitations of the function, I cannot solve this problem.",
}
_PROFILE: Mapping[str, str] = {"en": "The user's profile: ", "zh": "用户画像："}


def cases(data: Path) -> Iterator[Case]:
    """Read the questions that need no world; their group is language and category."""
    for row in read_rows(data / PACK):
        lang, category = row["lang"], row["category"]
        if category.startswith("agent"):
            continue
        functions: list[dict[str, Any]] = row["function"]
        gold: Any = row["possible_answer"]["ground_truth"]
        golds: list[Any] = [gold]
        if isinstance(gold, list):  # several are right
            golds = cast(list[Any], gold)
        yield Case(
            id=f"{lang}-{row['id']}",
            group=f"{lang} {category}",
            messages=(Message("system", _system(row)), *turns(row["question"])),
            tools=tuple(tool_of({**one, "parameters": parameters_of(one)}) for one in functions),
            gold=gold,
            meta={"functions": functions, "category": category, "golds": golds},
        )


def _system(row: Mapping[str, Any]) -> str:
    lang: str = row["lang"]
    parts = [_RULES[lang]]
    if row["category"].startswith("special"):
        parts.append(_SAYING[lang])
    if row.get("profile"):
        parts.append(_PROFILE[lang] + str(row["profile"]))
    if row.get("time"):
        parts.append(str(row["time"]))
    return "\n".join(parts)


_SPEAKER = re.compile(r"^\s*(user|system)\s*[:：]", re.MULTILINE)
_ROLES: Mapping[str, Role] = {"user": "user", "system": "assistant"}


def turns(dialogue: str) -> tuple[Message, ...]:
    """Read a dialogue whose lines begin with `user:` and `system:`; several lines may be a turn."""
    parts = _SPEAKER.split(dialogue)
    found = [Message("user", parts[0].strip())] if parts[0].strip() else []
    for speaker, text in zip(parts[1::2], parts[2::2], strict=True):
        if text.strip():
            found.append(Message(_ROLES[speaker], text.strip()))
    return tuple(found)


def score(case: Case, answer: Answer) -> Scores:
    """Score as the public scorer does; `exact` is the strict match of calls."""
    category: str = case.meta["category"]
    if category.startswith("special"):
        right = not answer.calls and says(category, answer.text, case.gold)
        return {"accuracy": float(right), **decision_scores(case, answer, should_call=False)}
    calls = decoded_all(answer.calls) if answer.calls else written_calls(answer.text)
    golds: list[Gold] = case.meta["golds"]
    functions: Sequence[Mapping[str, Any]] = case.meta["functions"]
    right = calls is not None and any(not calls_match(functions, calls, gold) for gold in golds)
    exact = calls is not None and any(exactly(calls, gold) for gold in golds)
    return {
        "accuracy": float(right),
        "exact": float(exact),
        **decision_scores(case, answer, should_call=True),
    }


def says(category: str, text: str, gold: Any) -> bool:
    """Tell whether an answer without calls says what is wrong with the request."""
    if category == "special_irrelevant":
        return "the limitations of the function" in text
    wanted = cast(Mapping[str, list[str]], gold)
    if category == "special_incomplete":
        return "Missing necessary parameters" in text and all(
            name in text and all(value in text for value in values)
            for name, values in wanted.items()
        )
    return "There is incorrect value" in text and all(
        value in text for values in wanted.values() for value in values
    )


def written_calls(text: str) -> list[Call] | None:
    """Read calls written as `[Name(key='value'), …]` somewhere in a text; None if there are none.

    A value that is no literal, such as `true` or a variable, is read as its own text.
    """
    start, end = text.find("["), text.rfind("]")
    if start < 0 or end < start:
        return None
    try:
        body = ast.parse(text[start : end + 1].strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    calls = [_written(node) for node in body.elts] if isinstance(body, ast.List) else []
    whole = [call for call in calls if call is not None]
    return whole if whole and len(whole) == len(calls) else None


def _written(node: ast.expr) -> Call | None:
    if not isinstance(node, ast.Call) or node.args:
        return None
    arguments = {
        keyword.arg: _literal(keyword.value) for keyword in node.keywords if keyword.arg is not None
    }
    return tool_name(ast.unparse(node.func)), arguments


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


BENCHMARKS = (
    Benchmark(
        name="acebench",
        about="ACEBench, normal and special questions, English and Chinese: calls in dialogues, "
        "and saying what a request lacks.",
        about_zh="ACEBench 的普通题与特殊题（中英文）：对话中的调用，以及指出请求的缺失与错误。",
        licence="MIT",
        source="chenchen0103/ACEBench@56dd66cf6439, one half of it by hash of the id",
        packs=(PACK,),
        headline="accuracy",
        cases=cases,
        score=score,
        answer=ask_once(),
        failed={"accuracy": 0.0, **FAILED},
        derived=DERIVED,
    ),
)
