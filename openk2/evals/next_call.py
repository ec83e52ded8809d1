"""The next turn of a dialogue: whether to call, what, and with what.

In: the held-out dialogues and utterances of the data packs. Out: cases and scores.
Must not know: how answers are asked for, how the dialogues are stored.

A case is a turn of the assistant with the dialogue's own history, so mistakes of the model do
not pile up. Turns with calls and turns without are groups of their own: right is, in the one, all
calls with all arguments and no other; in the other, no call. `tool_call_f1` and `schema_accuracy`
are the two numbers of K2's vendor verifier, and stand in the row over both groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from openk2.evals.benchmark import Answer, Benchmark, Case, Scores, ask_once
from openk2.evals.decisions import DERIVED, FAILED, decision_scores, decoded_all
from openk2.evals.exact_match import same_calls
from openk2.text.packs import conversations
from openk2.types import ToolCall

_PACKS: Mapping[str, tuple[str, ...]] = {
    "sgd_test": ("eval/sgd_test_dialogues.jsonl.zst",),
    "nlu_calls_test": (
        "eval/nlu_function_calls_test.jsonl.zst",
        "instruct/nlu_function_calls_train.jsonl.zst",
        "tools/nlu_functions.jsonl.zst",
    ),
}
_SGD = "google-research-datasets/dstc8-schema-guided-dialogue@e852981ae349"
_NLU = "SNIPS, HWU64, CLINC150 and Banking77"


def turns(data: Path, pack: str) -> Iterator[Case]:
    """Yield a case for every turn of the assistant; `gold` is its calls, as messages hold them."""
    for talk in conversations(data, pack):
        for place, message in enumerate(talk.messages):
            if message.role == "assistant":
                kind = "call" if message.tool_calls else "no call"
                yield Case(
                    id=f"{talk.key}#{place}",
                    group=f"{pack} {kind}",
                    messages=talk.messages[:place],
                    tools=talk.tools,
                    gold=[[call.name, call.arguments] for call in message.tool_calls],
                )


def score(case: Case, answer: Answer) -> Scores:
    """Score the decision, and the calls where there should be some."""
    gold = decoded_all([ToolCall("", name, arguments) for name, arguments in case.gold]) or []
    decision = decision_scores(case, answer, should_call=bool(gold))
    if not gold:
        return {"accuracy": float(not answer.calls), **decision}
    calls = decoded_all(answer.calls)
    names = sorted(call.name for call in answer.calls)
    return {
        "accuracy": float(calls is not None and same_calls(calls, gold)),
        "name_accuracy": float(names == sorted(name for name, _ in gold)),
        **decision,
    }


def sgd(data: Path) -> Iterator[Case]:
    """Yield the turns of SGD's test dialogues."""
    return turns(data, "sgd_test")


def nlu(data: Path) -> Iterator[Case]:
    """Yield the utterances of four intent corpora, each with the functions to choose from."""
    return turns(data, "nlu_calls_test")


def both(data: Path) -> Iterator[Case]:
    """Yield all of them, turns with and without calls together: F1 is of the decision."""
    for pack in _PACKS:
        for case in turns(data, pack):
            yield replace(case, group=pack)


BENCHMARKS = (
    Benchmark(
        name="sgd",
        about="Next call in human dialogues with tools; most use a service that no training pack "
        "of ours has.",
        about_zh="人类任务对话中的下一次调用；多数对话用到训练数据中没有的服务。",
        licence="CC-BY-SA-4.0",
        source=f"{_SGD}, 398 test dialogues",
        packs=_PACKS["sgd_test"],
        headline="accuracy",
        cases=sgd,
        score=score,
        answer=ask_once(),
        failed={"accuracy": 0.0, **FAILED},
        derived=DERIVED,
    ),
    Benchmark(
        name="nlu",
        about="One utterance, three to six functions or none that fits: the call.",
        about_zh="单句请求与三到六个函数（可能都不合适）：给出调用。",
        licence="CC0-1.0, CC-BY-4.0, CC-BY-3.0",
        source=f"{_NLU}, a sample of the test parts",
        packs=_PACKS["nlu_calls_test"],
        headline="accuracy",
        cases=nlu,
        score=score,
        answer=ask_once(),
        failed={"accuracy": 0.0, **FAILED},
        derived=DERIVED,
    ),
    Benchmark(
        name="k2_verifier",
        about="K2's vendor verifier over the cases of sgd and nlu: is a tool called when one "
        "should be, and do calls obey their schemas?",
        about_zh="K2 供应商验证器的指标（sgd 与 nlu 的题目）：该调用时是否调用，是否符合模式。",
        licence="CC-BY-SA-4.0, CC0-1.0, CC-BY-4.0, CC-BY-3.0",
        source=f"{_SGD}; {_NLU}; metrics of MoonshotAI/K2-Vendor-Verifier",
        packs=(*_PACKS["sgd_test"], *_PACKS["nlu_calls_test"]),
        headline="tool_call_f1",
        cases=both,
        score=score,
        answer=ask_once(),
        failed=FAILED,
        derived=DERIVED,
    ),
)
