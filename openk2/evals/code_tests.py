"""Runs the tests of a programming task against an answer, each in a sandbox of its own.

In: the text of an answer, and a task with tests. Out: whether it passes, and why not.
Must not know: which benchmark the task is from, or who answered.

An answer that shares a process with its tests can end it with success, read it, or return
objects that equal everything. So the answer has one sandbox and the tests another, and only calls
and plain data go between them, through us.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import math
import re
import sys
import tempfile
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openk2.agent.model import ChatModel
from openk2.agent.sandbox.choose import choose_sandbox
from openk2.agent.sandbox.isolation import Limits, Program, SandboxMissing
from openk2.agent.sandbox.process import ProcessSandbox, SandboxFailed, Tree
from openk2.evals.benchmark import Answer, AskSettings, Case, Scores, ask_once
from openk2.types import Message

_HERE = Path(__file__).parent
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*\n(.*?)(?:^[ \t]*(?:```|~~~)|\Z)", re.M | re.S)
_AFTER_FUNCTION = re.compile(r"\n(?=[^\s#)\]}@]|#|@)")
"""Where a completion of a function's body ends: the first line that is not indented."""
_LONGEST = 60_000
"""Characters of an answer that are read; no function of these benchmarks is near it."""


@dataclass(frozen=True, slots=True)
class CodeTask:
    """A function to write, and what it must do."""

    prompt: str
    """Imports, the function's head and its documentation."""
    entry_point: str
    """Its name."""
    test: str
    """Defines `check(candidate)`, which raises where the function is wrong."""


@dataclass(frozen=True, slots=True)
class CodeSettings:
    """What an answer may use."""

    seconds: float = 10.0
    """For all calls together, once both sandboxes run; HumanEval's own harness gives 3 for the
    same on a machine that does nothing else."""
    start_seconds: float = 60.0
    """For the sandboxes to start: a busy machine is no fault of an answer."""
    memory_bytes: int = 512 << 20
    """Of the answer's processes; the tests have the same."""
    processes: int = 8
    """Processes and threads of the answer."""


@dataclass(frozen=True, slots=True)
class CodeVerdict:
    """How the tests went."""

    passed: bool
    why: str = ""
    """What failed; empty where nothing did."""
    runs: bool = True
    """Whether the program defined the function, right or wrong."""


class Broken(Exception):
    """The answer's process ended, or wrote what is no value."""


def program_of(answer: str, task: CodeTask) -> str:
    """Find the program in an answer: a fenced block, the whole text, or the rest of the prompt.

    Returns:
        The first reading that parses and defines the function; else the likeliest.
    """
    readings = list(_readings(answer[:_LONGEST], task))
    return next((text for text in readings if _defines(text, task.entry_point)), readings[0])


def _readings(answer: str, task: CodeTask) -> Iterator[str]:
    blocks = [block.group(1) for block in _FENCE.finditer(answer)]
    # Blocks may be parts; where they are attempts, the last definition holds anyway.
    for block in ["\n".join(blocks), *reversed(blocks)]:
        yield f"{_preamble(task)}\n{block}"
    for text in [*reversed(blocks), answer]:
        yield task.prompt + _body(text)
        yield task.prompt + _body(_indented(text))
    start = re.search(rf"^(?:async )?def {re.escape(task.entry_point)}\b", answer, re.M)
    if start:
        whole = answer[start.start() :]
        yield f"{_preamble(task)}\n{whole}"
        yield f"{_preamble(task)}\n{_body(whole)}"


def _preamble(task: CodeTask) -> str:
    """Return what comes before the function in the prompt: its imports, and what it may use."""
    before = re.split(rf"^def {re.escape(task.entry_point)}\b", task.prompt, maxsplit=1, flags=re.M)
    return before[0] if len(before) == 2 else ""


def _body(text: str) -> str:
    """Cut a completion where it goes on with something else than the function."""
    end = _AFTER_FUNCTION.search(text)
    return text[: end.start()] + "\n" if end else text


def _indented(text: str) -> str:
    return "".join(f"    {line}" for line in text.strip("\n").splitlines(keepends=True))


def _defines(program: str, name: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an answer's odd escapes
            tree = ast.parse(program)
            compile(tree, "<answer>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name == name
        and any(map(_does_something, node.body))
        for node in tree.body
    )


def _does_something(statement: ast.stmt) -> bool:
    """Tell a statement from words that happen to parse as one: `18`, `hello`."""
    return not (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant | ast.Name)
    )


Json = dict[str, Any]
FAILED: Scores = {"pass": 0.0, "runs": 0.0}


def answer_and_test(
    max_tokens: int, settings: CodeSettings | None = None
) -> Callable[[Case, ChatModel, AskSettings], Awaitable[Answer]]:
    """Make a benchmark's `answer` that asks for a program and runs the tests at once.

    The verdict is the answer's last message, from the tool `tests`: it is kept with the answer,
    and scores are made again without running what a model wrote.

    Args:
        max_tokens: Most tokens of an answer, unless the settings say otherwise.
        settings: What a program may use.
    """
    ask = ask_once(max_tokens)

    async def answer(case: Case, model: ChatModel, asked: AskSettings) -> Answer:
        sandbox = code_sandbox()  # first: an answer that cannot be tested need not be written
        said = await ask(case, model, asked)
        task = CodeTask(case.meta["prompt"], case.meta["entry_point"], case.meta["test"])
        verdict = await run_tests(sandbox, task, program_of(said.text, task), settings)
        told = json.dumps({"passed": verdict.passed, "why": verdict.why, "runs": verdict.runs})
        return replace(said, messages=(*said.messages, Message("tool", told, name="tests")))

    return answer


def passed(case: Case, answer: Answer) -> Scores:
    """Score an answer by the verdict that came with it: all tests pass, and it is a program."""
    del case
    told: Json = json.loads(answer.messages[-1].content)
    return {"pass": float(told["passed"]), "runs": float(told["runs"])}


def code_sandbox() -> ProcessSandbox:
    """Return what isolates answers here.

    Raises:
        SandboxMissing: Nothing does: answers are not run then.
    """
    sandbox = choose_sandbox()
    if not isinstance(sandbox, ProcessSandbox):
        raise SandboxMissing("answers need a sandbox that can be talked to: apt install bubblewrap")
    return sandbox


async def run_tests(
    sandbox: ProcessSandbox, task: CodeTask, program: str, settings: CodeSettings | None = None
) -> CodeVerdict:
    """Run a task's tests against a program.

    Args:
        sandbox: What isolates the two from us and from each other.
        task: Its tests.
        program: What defines the function.
        settings: What it may use.

    Raises:
        SandboxFailed: A sandbox could not be set up.
    """
    allowed = settings or CodeSettings()
    async with (
        _started(sandbox, "code_judge.py", allowed) as judge,
        _started(sandbox, "code_candidate.py", allowed) as candidate,
    ):
        try:
            async with asyncio.timeout(allowed.seconds):
                return await _trial(judge, candidate, task, program)
        except TimeoutError:
            return CodeVerdict(False, f"took more than {allowed.seconds:g} s")
        except Broken as error:
            return CodeVerdict(False, str(error))


async def _trial(judge: Tree, candidate: Tree, task: CodeTask, program: str) -> CodeVerdict:
    """Pass calls and values on until the tests have their verdict."""
    await _say(candidate, {"code": program, "entry_point": task.entry_point})
    defined = await _heard(candidate)
    if defined != "defined":
        return CodeVerdict(False, _failure(defined), runs=False)
    tests = {"prompt": task.prompt, "test": task.test, "entry_point": task.entry_point}
    await _say(judge, tests)
    while True:
        match await _heard(judge):
            case {"call": str(call)}:
                await _write(candidate, call.encode())
                await _write(judge, await _line(candidate))
            case {"passed": bool(passed), "why": str(why)}:
                return CodeVerdict(passed, why)
            case other:
                raise SandboxFailed(f"the tests' own process said {other!r}")


def _failure(said: object) -> str:
    match said:
        case {"error": str(kind), "text": str(text)}:
            return f"{kind}: {text}"
        case _:
            return "the program wrote where only values are written"


@contextlib.asynccontextmanager
async def _started(
    sandbox: ProcessSandbox, script: str, allowed: CodeSettings
) -> AsyncGenerator[Tree]:
    limits = Limits(
        memory_bytes=allowed.memory_bytes,
        cpu_seconds=math.ceil(allowed.seconds + allowed.start_seconds),
        processes=allowed.processes,
        file_bytes=1 << 20,
        scratch_bytes=16 << 20,
    )
    source = (_HERE / script).read_text("utf-8")
    with tempfile.TemporaryDirectory(prefix="openk2-eval-") as folder:
        argv = [sys.executable, "-I", "-S", "-c", source]
        tree = await sandbox.connect(Program(argv, Path(folder), limits=limits))
        try:
            try:
                async with asyncio.timeout(allowed.start_seconds):
                    ready = await tree.stdout.readline()
            except TimeoutError:
                raise SandboxFailed(
                    f"a sandbox did not start in {allowed.start_seconds:g} s; "
                    "try again when the machine is less busy"
                ) from None
            if ready != b'"ready"\n':
                raise SandboxFailed(f"{sandbox.mechanism} did not start Python; run it by hand")
            yield tree
        finally:
            await tree.kill()


async def _say(tree: Tree, value: object) -> None:
    await _write(tree, json.dumps(value).encode())


async def _write(tree: Tree, line: bytes) -> None:
    try:
        tree.stdin.write(line.rstrip(b"\n") + b"\n")
        await tree.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        raise Broken("the program ended before its tests did") from None


async def _line(tree: Tree) -> bytes:
    try:
        line = await tree.stdout.readline()
    except ValueError:
        raise Broken("a value is too large to compare") from None
    if not line.endswith(b"\n"):
        raise Broken("the program ended before its tests did")
    return line


async def _heard(tree: Tree) -> object:
    try:
        return json.loads(await _line(tree))
    except (ValueError, RecursionError):
        raise Broken("the program wrote where only values are written") from None
