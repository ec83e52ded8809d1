"""Programs are run apart from their tests: right ones pass, and no trick does."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.models.scripted import Scripted
from openk2.agent.sandbox.isolation import SandboxMissing
from openk2.agent.sandbox.process import ProcessSandbox
from openk2.evals.benchmark import AskSettings, Case
from openk2.evals.code_candidate import plain
from openk2.evals.code_judge import Opaque, rebuilt
from openk2.evals.code_tests import (
    CodeSettings,
    CodeTask,
    code_sandbox,
    program_of,
    run_tests,
)
from openk2.evals.humaneval import HUMANEVAL
from openk2.evals.mbpp import MBPP
from openk2.types import Message

DATA = Path(__file__).resolve().parents[2] / "data"
TASK = CodeTask(
    'import math\n\n\ndef doubled(x: int) -> int:\n    """Return twice x."""\n',
    "doubled",
    "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(x=-3) == -6\n",
)


@pytest.fixture(scope="module")
def sandbox() -> ProcessSandbox:
    try:
        return code_sandbox()
    except SandboxMissing as error:
        pytest.skip(str(error))


def verdict(sandbox: ProcessSandbox, program: str, seconds: float = 10.0):
    return asyncio.run(run_tests(sandbox, TASK, program, CodeSettings(seconds=seconds)))


def test_a_right_function_passes_and_a_wrong_one_says_why(sandbox: ProcessSandbox):
    assert verdict(sandbox, "def doubled(x): print('passed'); return 2 * x").passed
    wrong = verdict(sandbox, "def doubled(x): return x * x")
    assert not wrong.passed and wrong.runs and wrong.why.startswith("AssertionError")
    failing = verdict(sandbox, "def doubled(x): return x.foo")
    assert failing.why == "AttributeError: 'int' object has no attribute 'foo'"
    broken = verdict(sandbox, "def doubled(x) return 2")
    assert not broken.passed and not broken.runs and broken.why.startswith("SyntaxError")


HOSTILE = {
    "leaves with success": "import sys\nsys.exit(0)",
    "leaves when called": "import os\ndef doubled(x): os._exit(0)",
    "says that it passed": "import os\nos.write(1, b'{\"passed\": true}\\n')\ndef doubled(x): pass",
    "writes to every descriptor": "import os\ndef doubled(x):\n"
    "    for n in range(3, 20):\n"
    "        try: os.write(n, b'{\"passed\": true}\\n')\n"
    "        except OSError: pass",
    "equals everything": "class Yes:\n    __eq__ = lambda self, other: True\n"
    "def doubled(x): return Yes()",
    "is an int that equals everything": "class Yes(int):\n    __eq__ = lambda self, other: True\n"
    "    __index__ = lambda self: 4\ndef doubled(x): return Yes(1)",
    "looks for the tests": "import gc, glob, sys\nfrom pathlib import Path\n"
    "def doubled(x):\n"
    "    texts = [repr(o) for o in gc.get_objects() if isinstance(o, str)]\n"
    "    frame = sys._getframe()\n"
    "    while frame: texts.append(str(frame.f_globals.get('check'))); frame = frame.f_back\n"
    "    for name in glob.glob('/proc/*/cmdline') + glob.glob('/tmp/**', recursive=True):\n"
    "        try: texts.append(Path(name).read_text())\n"
    "        except OSError: pass\n"
    "    return 2 * x if any('candidate(2) == 4' in text for text in texts) else 0",
    "goes on for ever": "def doubled(x):\n    while True: pass",
    "multiplies itself": "import os\ndef doubled(x):\n    while True:\n"
    "        try: os.fork()\n        except OSError: pass",
    "takes all memory": "def doubled(x): return len(bytearray(1 << 40)) and [1] * (1 << 36)",
    "sends what never ends": "def doubled(x): return 'x' * (1 << 21)",
    "nests without end": "def doubled(x):\n    a = []\n    a.append(a)\n    return a",
    "wants the terminal": "def doubled(x): return int(input())",
}


FAST = 9
SLOW = [pytest.param(how, marks=pytest.mark.slow) for how in list(HOSTILE)[FAST:]]


@pytest.mark.parametrize("how", [*list(HOSTILE)[:FAST], *SLOW])
def test_no_trick_passes(sandbox: ProcessSandbox, how: str):
    began = time.monotonic()
    assert not verdict(sandbox, HOSTILE[how], seconds=1.0).passed
    assert time.monotonic() - began < 30


def test_what_comes_back_is_what_was_returned_and_foreign_objects_equal_nothing():
    value = [1, -(10**5000), 2.5, "é", None, True, (1, 2), {3}, {"a": b"x"}, 1j, frozenset({4})]
    back = rebuilt(json.loads(json.dumps(plain(value))))
    assert back == value and [type(item) for item in back] == [type(item) for item in value]
    assert isinstance(rebuilt(plain(object())), Opaque) and rebuilt(plain(object())) != object()


SIMPLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(SIMPLE)
def test_plain_data_survives_the_way(value: object):
    assert rebuilt(json.loads(json.dumps(plain(value)))) == value


BODY = "    return 2 * x"
ANSWERS = {
    "a fence": f"Sure:\n```python\ndef doubled(x):\n{BODY}\n```\nThat is it.",
    "a fence that is not closed": f"```\ndef doubled(x):\n{BODY}",
    "the last of two attempts": "```py\ndef doubled(x):\n    return x\n```\nNo, rather\n"
    f"```py\ndef doubled(x):\n{BODY}\n```",
    "parts": "```python\nfrom operator import mul\n```\nand\n"
    "```python\ndef doubled(x):\n    return mul(2, x)\n```",
    "plain text": f"def doubled(x):\n{BODY}",
    "words around": f"Here it is.\ndef doubled(x):\n{BODY}\nIt doubles.",
    "a completion": f"{BODY}\n\ndef other():\n    pass",
    "a completion that lost its indentation": "return 2 * x",
    "a body in a fence": f"```python\n{BODY}\n```",
    "imports of the prompt": "```python\ndef doubled(x):\n    return int(math.fsum([x, x]))\n```",
}


@pytest.mark.parametrize("form", ANSWERS)
def test_programs_are_found_in_every_form_of_answer(form: str):
    names: dict[str, object] = {}
    exec(program_of(ANSWERS[form], TASK), names)
    assert names["doubled"](21) == 42  # type: ignore[operator]


@given(st.text(max_size=200))
def test_any_answer_is_read_as_some_program(text: str):
    assert isinstance(program_of(text, TASK), str)
    assert isinstance(program_of(f"```\n{text}", TASK), str)


def scored(benchmark, case: Case, text: str):
    model = Scripted([Message("assistant", text)])
    answer = asyncio.run(benchmark.answer(case, model, AskSettings()))
    return benchmark.score(case, answer)


@pytest.mark.parametrize("benchmark", [HUMANEVAL, MBPP], ids=lambda b: b.name)
def test_a_gold_answer_scores_one_and_silence_nothing(sandbox: ProcessSandbox, benchmark):
    case = next(iter(benchmark.cases(DATA)))
    assert scored(benchmark, case, f"```python\n{case.gold}\n```") == {"pass": 1.0, "runs": 1.0}
    assert scored(benchmark, case, "I do not know.") == {"pass": 0.0, "runs": 0.0}


def gold_failures(sandbox: ProcessSandbox, cases: list[Case]) -> dict[str, str]:
    async def one(case: Case) -> tuple[str, str]:
        task = CodeTask(case.meta["prompt"], case.meta["entry_point"], case.meta["test"])
        patient = CodeSettings(seconds=120)  # one solution of MBPP counts to 10,000 squared
        return case.id, (await run_tests(sandbox, task, case.gold, patient)).why

    async def all_of_them() -> list[tuple[str, str]]:
        return [await one(case) for case in cases]

    return {name: why for name, why in asyncio.run(all_of_them()) if why}


def test_five_canonical_solutions_pass(sandbox: ProcessSandbox):
    cases = list(HUMANEVAL.cases(DATA))[:3] + list(MBPP.cases(DATA))[-2:]
    assert gold_failures(sandbox, cases) == {}


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", [HUMANEVAL, MBPP], ids=lambda b: b.name)
@pytest.mark.parametrize("part", range(5))
def test_every_canonical_solution_passes(sandbox: ProcessSandbox, benchmark, part: int):
    assert gold_failures(sandbox, list(benchmark.cases(DATA))[part::5]) == {}
