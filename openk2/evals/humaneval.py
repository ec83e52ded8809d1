"""HumanEval: write the body of a documented Python function; hidden tests decide.

In: a function's head and documentation. Out: whether the tests pass, for pass@k.
Must not know: how programs are isolated, or how pass@k is made of samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from openk2.evals.benchmark import Benchmark, Case
from openk2.evals.code_tests import FAILED, answer_and_test, passed
from openk2.text.corpus import read_rows
from openk2.types import Message

_QUESTION = (
    "Complete this Python function. Answer with the whole function, with the imports that it"
    " needs, in one ```python block.\n\n```python\n{prompt}\n```"
)


def _cases(data: Path) -> Iterator[Case]:
    for row in read_rows(data / HUMANEVAL.packs[0]):
        words = Message("user", _QUESTION.format(prompt=row["prompt"].strip()))
        task = {key: row[key] for key in ("prompt", "entry_point", "test")}
        gold = row["prompt"] + row["canonical_solution"]
        yield Case(row["task_id"], "humaneval", (words,), gold=gold, meta=task)


HUMANEVAL = Benchmark(
    name="humaneval",
    about="Python functions from their documentation, tested in a sandbox.",
    about_zh="根据文档写 Python 函数，在沙箱中运行测试。",
    licence="MIT",
    source="openai/human-eval@6d43fb980f9f, half",
    packs=("eval/humaneval.jsonl.zst",),
    headline="pass",
    cases=_cases,
    score=passed,
    answer=answer_and_test(768),
    failed=FAILED,
)
BENCHMARKS = (HUMANEVAL,)
