"""Short Python functions, tested in a sandbox on inputs that the prompt does not show.

An answer and its tests run in two sandboxes between which only plain data goes
(`openk2.evals.code_tests`), so that an answer can neither end its tests, read them, nor return what
equals everything. One example is shown. The hidden tests are the other examples and inputs drawn
from all examples, for which the reference solution, which only the tests' sandbox holds, says what
is right: whoever answers the example by heart fails.

In: a seed. Out: functions to write; whether the hidden tests pass.
Must not know: how a sandbox isolates. Where there is none, nothing is run, and the error says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from openk2.evals.code_tests import (
    CodeSettings,
    CodeTask,
    CodeVerdict,
    code_sandbox,
    program_of,
    run_tests,
)
from openk2.gym.answers import final_text
from openk2.gym.code_hidden import Example, examples, hidden_test, recombined
from openk2.gym.code_small import draw_small
from openk2.gym.problem import Family, Problem
from openk2.gym.split import on_side
from openk2.text.corpus import read_rows
from openk2.types import Message

_TOKENS = {"small": 96, "mbpp": 320}
BROKEN = {
    "MBPP/596": "asks for the bytes of a tuple, which depend on the version of Python",
    "MBPP/607": "the reference ignores its arguments",
    "MBPP/631": "the reference ignores its argument",
    "MBPP/642": "the reference depends on the order of sets",
}
"""Rows whose own reference does not pass their tests, left out."""
_QUESTION = (
    "{sentence}\nThe function is named `{name}`. Answer with the whole function in one ```python"
    " block.\n\n```python\n{prompt}\n```"
)


@dataclass(frozen=True)
class Code(Family):
    """Write a function that passes tests it has not seen."""

    data: Path = Path("data")
    """The folder of data packs."""
    small: float = 0.5
    """Share of functions of one line, made up; the others are MBPP's training part. 1 reads
    nothing from disk."""
    settings: CodeSettings = field(default_factory=CodeSettings)
    """What a program may use."""
    name: str = "code"
    about: str = "Short Python functions, tested in a sandbox on inputs that are not shown."
    about_zh: str = "简短的 Python 函数，在沙箱中用未展示的输入测试。"

    def problems(self, seed: int, *, held_out: bool = False) -> Iterator[Problem]:
        """Yield problems without end; a split keeps an MBPP task, or a made-up body, together.

        Raises:
            SandboxMissing: Nothing isolates programs here; the message says what to install.
        """
        code_sandbox()  # first: what cannot be tested need not be asked
        number = 0
        while True:
            number += 1
            name = f"{self.name}/{seed}/{number}"
            rng = Random(name)
            problem = self._small(rng, name) if rng.random() < self.small else self._mbpp(rng, name)
            if on_side(problem.key, held_out):
                yield problem

    def score(self, problem: Problem, messages: Sequence[Message]) -> Mapping[str, float]:
        """Run the hidden tests; `runs` says whether the answer is a program at all.

        This takes about a second, in which sandboxes start: call it in a thread of its own where
        something else is to go on.

        Raises:
            SandboxMissing: Nothing isolates programs here.
            SandboxFailed: A sandbox did not start.
        """
        text = final_text(messages)
        if not text.strip():
            return {"reward": 0.0, "runs": 0.0}
        verdict = self.verdict(problem, text)
        return {"reward": float(verdict.passed), "runs": float(verdict.runs)}

    def verdict(self, problem: Problem, text: str) -> CodeVerdict:
        """Run an answer's hidden tests and say what failed."""
        meta = problem.meta
        task = CodeTask(meta["prompt"], meta["entry_point"], meta["test"])
        trial = run_tests(code_sandbox(), task, program_of(text, task), self.settings)
        # A thread of its own: the caller may be inside an event loop, which cannot be nested.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, trial).result()

    def gold(self, problem: Problem) -> tuple[Message, ...]:
        """Return the reference solution."""
        return (Message("assistant", f"```python\n{problem.meta['gold']}\n```"),)

    def hacks(self, problem: Problem) -> Sequence[str]:
        """Return programs that end, redefine, read or know the tests by heart, and empty ones."""
        head, name = problem.meta["head"], problem.meta["entry_point"]
        shown, answer = problem.meta["shown"]
        return tuple(
            f"```python\n{program}\n```"
            for program in (
                f"import sys\nsys.exit(0)\n{head}\n    return None",
                f"{head}\n    import os\n    os._exit(0)",
                f"{head}\n    return {answer}",
                f"def {name}(*args):\n    return {answer} if args == ({shown},) else None",
                _EQUAL.format(name=name),
                _READS.format(name=name),
                f"{head}\n    pass",
            )
        )

    def _small(self, rng: Random, name: str) -> Problem:
        one = draw_small(rng)
        head = f"def f({one.head}):"
        first, *rest = one.inputs
        gold = f"{head}\n    return {one.body}"
        shown = ", ".join(map(repr, first))
        answer = _evaluated(one.body, one.head, first)
        test = hidden_test("f", gold, [], [repr(values) for values in rest])
        prompt = f'{head}\n    """{one.sentence}\n\n    >>> f({shown})\n    {answer!r}\n    """\n'
        return self._problem(
            name, f"small/{one.name}", one.sentence, prompt, "f", gold, test,
            (shown, repr(answer)), head, "small",
        )  # fmt: skip

    def _mbpp(self, rng: Random, name: str) -> Problem:
        row, asserts = rng.choice(_mbpp_rows(self.data))
        entry = row["entry_point"]
        header = re.search(rf"^def {entry}\b.*:[ \t]*$", row["prompt"], re.MULTILINE)
        assert header is not None, "`_mbpp_rows` keeps only rows that have one"
        before = row["prompt"][: header.start()].strip("\n")
        first, *rest = asserts
        gold = f"{before}\n{header.group()}\n{row['canonical_solution']}".strip("\n")
        test = hidden_test(entry, gold, [one.source for one in rest], recombined(asserts))
        sentence = row["description"].strip()
        prompt = (
            f'{before}\n{header.group()}\n    """{sentence}\n\n    >>> {entry}({first.shown})\n'
            f'    {first.answer}\n    """\n'
        ).lstrip("\n")
        return self._problem(
            name, f"mbpp/{row['task_id']}", sentence, prompt, entry, gold, test,
            (first.shown, first.answer), header.group(), "mbpp",
        )  # fmt: skip

    def _problem(
        self,
        name: str,
        key: str,
        sentence: str,
        prompt: str,
        entry: str,
        gold: str,
        test: str,
        shown: tuple[str, str],
        head: str,
        kind: str,
    ) -> Problem:
        text = _QUESTION.format(sentence=sentence, name=entry, prompt=prompt.rstrip())
        meta: dict[str, Any] = {
            "prompt": prompt,
            "entry_point": entry,
            "test": test,
            "gold": gold,
            "shown": list(shown),
            "head": head.strip(),
            "level": 1 if kind == "small" else 2,
        }
        return Problem(name, self.name, key, (Message("user", text),), (), _TOKENS[kind], meta)


_EQUAL = """class Same:
    def __eq__(self, other):
        return True
def {name}(*args):
    return Same()"""
_READS = """def {name}(*args):
    import gc
    for found in gc.get_objects():
        if isinstance(found, dict) and '_reference' in found:
            return found['_reference'](*args)
    raise SystemExit(0)"""


def _evaluated(body: str, head: str, values: tuple[Any, ...]) -> Any:
    """Compute the example that is shown; the expression is this package's own."""
    return eval(f"lambda {head}: {body}", {})(*values)


@cache
def _mbpp_rows(data: Path) -> tuple[tuple[Mapping[str, Any], list[Example]], ...]:
    """Return the tasks with a plain head and at least two examples of plain values."""
    found: list[tuple[Mapping[str, Any], list[Example]]] = []
    for row in read_rows(data / "instruct" / "mbpp_train.jsonl.zst"):
        header = re.search(rf"^def {row['entry_point']}\b.*:[ \t]*$", row["prompt"], re.MULTILINE)
        asserts = examples(row["test"])
        sound = row["task_id"] not in BROKEN
        if sound and header is not None and len(asserts) > 1:
            found.append((row, asserts))
    return tuple(found)
