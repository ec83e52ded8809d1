"""MBPP: write a short Python function from one sentence and three examples; hidden tests decide.

In: a sentence and examples. Out: whether the tests pass, for pass@k.
Must not know: how programs are isolated, or how pass@k is made of samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from openk2.evals.benchmark import Benchmark, Case
from openk2.evals.code_tests import FAILED, answer_and_test, passed
from openk2.text.corpus import read_rows
from openk2.types import Message

BROKEN = {
    "MBPP/64": "the prompt is no Python: its documentation is not indented",
    "MBPP/160": "the test asks for 'No candidate', which nobody could guess",
    "MBPP/367": "the test uses trees that are not defined",
}
"""Rows of the pack that no program passes, left out."""
_QUESTION = (
    "{description}\nThe function is named `{entry_point}`. Answer with the whole function, with"
    " the imports that it needs, in one ```python block.\n\n```python\n{prompt}\n```"
)


def _cases(data: Path) -> Iterator[Case]:
    for row in read_rows(data / MBPP.packs[0]):
        if row["task_id"] in BROKEN:
            continue
        row["prompt"] = row["prompt"].strip("\n") + "\n"
        question = _QUESTION.format(
            description=row["description"].strip(),
            entry_point=row["entry_point"],
            prompt=row["prompt"].rstrip(),
        )
        task = {key: row[key] for key in ("prompt", "entry_point", "test")}
        gold = row["prompt"] + row["canonical_solution"]
        yield Case(row["task_id"], "mbpp", (Message("user", question),), gold=gold, meta=task)


MBPP = Benchmark(
    name="mbpp",
    about="Short Python functions from a sentence and examples, tested in a sandbox.",
    about_zh="根据一句话和示例写简短的 Python 函数，在沙箱中运行测试。",
    licence="CC-BY-4.0",
    source="amazon-science/mxeval@e09974f990ee, half of test ids 11 to 510, but 3 broken",
    packs=("eval/mbpp_test.jsonl.zst",),
    headline="pass",
    cases=_cases,
    score=passed,
    answer=answer_and_test(512),
    failed=FAILED,
)
BENCHMARKS = (MBPP,)
