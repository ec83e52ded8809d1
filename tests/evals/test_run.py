"""A run resumes, keeps what failed, is scored again without a model, and compares with another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openk2.agent.model import ChatModel, ModelError, ModelRequest, Price
from openk2.agent.models.retry import Patience, ask_with_patience
from openk2.cli import app
from openk2.evals.answers import answers_file, read_answers
from openk2.evals.benchmark import Answer, AskSettings, Benchmark, Case, ask_within
from openk2.evals.report import rows_of
from openk2.evals.run import EndpointGoneError, choose, collect, score_all
from openk2.types import Event, Finish, Message, Sampling, TextDelta, Usage

DATA = Path(__file__).resolve().parents[2] / "data"


class Parrot:
    """Says the last message; fails as it is told."""

    name = "parrot"
    context_window = 4096
    price = Price()

    def __init__(self, fails: dict[str, ModelError] | None = None) -> None:
        self.asked: list[tuple[str, Sampling | None]] = []
        self.fails = fails or {}

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event]:
        said = request.messages[-1].content
        self.asked.append((said, request.sampling))
        await asyncio.sleep(0)
        if said in self.fails:
            raise self.fails[said]
        yield TextDelta(said)
        yield Finish("stop")
        yield Usage(len(said), len(said))

    async def count_tokens(self, request: ModelRequest) -> int:
        return 1

    async def close(self) -> None:
        pass


async def answer_once(case: Case, model: ChatModel, settings: AskSettings) -> Answer:
    request = ModelRequest(case.messages, sampling=settings.sampling(16))
    reply = await ask_with_patience(model, request, patience=Patience(attempts=1))
    return Answer((reply.message,), reply.finish, reply.usage, 0.1)


def numbers(data: Path) -> list[Case]:
    return [
        Case(str(n), "even" if n % 2 == 0 else "odd", (Message("user", str(n)),), gold=str(n))
        for n in range(12)
    ]


TOY = Benchmark(
    name="toy", about="", about_zh="", licence="", source="", packs=(), headline="right",
    cases=numbers, failed={"right": 0.0}, answer=answer_once,
    score=lambda case, answer: {"right": float(answer.text == case.gold and case.gold != "3")},
)  # fmt: skip


def ask(model: Parrot, folder: Path, *, samples: int = 1, limit: int | None = None) -> list[Case]:
    cases = choose(TOY, Path(), limit=limit, seed=0)
    asyncio.run(collect(TOY, cases, model, AskSettings(), folder, samples=samples))
    return cases


def test_what_failed_counts_as_wrong_and_is_named(tmp_path: Path):
    long, refused = ModelError("too long", "too_long"), ModelError("no", "refused")
    cases = ask(Parrot({"1": long, "4": refused}), tmp_path)
    scored = score_all(TOY, cases, read_answers(answers_file(tmp_path, "toy")))
    whole, even, odd = rows_of(TOY, scored)
    assert [one.case.id for one in scored] == [str(n) for n in range(12)]
    assert (whole.cases, whole.too_long, dict(whole.errors)) == (12, 1, {"refused": 1})
    assert whole.scores["right"].value == pytest.approx(9 / 12)
    assert whole.fitting == pytest.approx(9 / 10)
    assert (even.group, even.scores["right"].value) == ("even", pytest.approx(5 / 6))
    assert (odd.group, odd.scores["right"].value) == ("odd", pytest.approx(4 / 6))


def test_a_run_goes_on_with_what_is_not_answered_for_good(tmp_path: Path):
    away = {"5": ModelError("away", "network"), "6": ModelError("long", "too_long")}
    ask(Parrot(away), tmp_path, limit=4)
    path = answers_file(tmp_path, "toy")
    with path.open("a") as file:
        file.write('{"case": "cut short by a k')
    again = Parrot()
    cases = ask(again, tmp_path)
    first = {case.id for case in choose(TOY, Path(), limit=4, seed=0)}
    assert {said for said, _ in again.asked} == {c.id for c in cases} - first | (first & {"5"})
    records = read_answers(path)
    assert len(records) == 12
    assert [key for key, record in records.items() if record.answer is None] in ([], [("6", 0)])


def test_samples_are_asked_with_seeds_of_their_own(tmp_path: Path):
    model = Parrot()
    cases = ask(model, tmp_path, samples=3, limit=1)
    assert {s.seed for said, s in model.asked if said == cases[0].id and s} == {0, 1, 2}
    rows = rows_of(TOY, score_all(TOY, cases, read_answers(answers_file(tmp_path, "toy"))))
    assert rows[0].scores["pass@3"].value == 1.0 and rows[0].asked == 6 and rows[0].cases == 2


def test_an_endpoint_that_is_gone_ends_the_run(tmp_path: Path):
    model = Parrot({str(n): ModelError("refused to connect", "network") for n in range(12)})
    with pytest.raises(EndpointGoneError, match=r"5 times in a row.*goes on from here"):
        asyncio.run(collect(TOY, numbers(Path()), model, AskSettings(), tmp_path, give_up_after=5))
    assert len(model.asked) < 12


def test_a_smaller_sample_is_part_of_a_larger_one():
    small, large = ({c.id for c in choose(TOY, Path(), limit=n, seed=5)} for n in (2, 4))
    assert small < large and len(large) == 8
    assert small != {c.id for c in choose(TOY, Path(), limit=2, seed=6)}


class Narrow(Parrot):
    """Refuses what does not fit its window of 100 tokens; every prompt has as many as it says."""

    context_window = 100

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event]:
        assert request.sampling is not None and request.sampling.max_tokens is not None
        self.asked.append((request.messages[-1].content, request.sampling))
        if await self.count_tokens(request) + request.sampling.max_tokens > self.context_window:
            raise ModelError("too long", "too_long")
        yield Finish("stop")
        yield Usage(1, 1)

    async def count_tokens(self, request: ModelRequest) -> int:
        return int(request.messages[-1].content)


def test_an_answer_is_cut_before_a_question_is_given_up():
    def lengths(prompt: int) -> list[int | None]:
        model = Narrow()
        request = ModelRequest((Message("user", str(prompt)),), sampling=Sampling(max_tokens=60))
        asyncio.run(ask_within(model, request))
        return [sampling.max_tokens for _, sampling in model.asked if sampling]

    assert lengths(40) == [60]
    assert lengths(60) == [60, 40]
    with pytest.raises(ModelError, match="too long"):
        lengths(90)


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["eval", "--data", str(DATA), *words])
    return done.exit_code, done.output


def test_the_command_asks_reports_and_compares(tmp_path: Path):
    first, second = tmp_path / "a", tmp_path / "b"
    words = ("--benchmarks", "when2call", "--model", "echo", "--limit", "2")
    code, said = run(*words, "--out", str(first))
    assert code == 0 and "when2call: all" in said and "report.md" in said
    assert run(*words, "--seed", "1", "--out", str(second), "--against", str(first))[0] == 0
    report = json.loads((second / "report.json").read_text())
    assert report["model"] == "echo" and report["settings"] == {"seed": 1}
    whole = next(row for row in report["rows"] if row["group"] == "all")
    assert whole["cases"] == 8 and whole["scores"]["decision"]["value"] == 0.75
    assert (second / "report.png").stat().st_size > 5000
    assert "| when2call | all |" in (second / "report.md").read_text()
    before = (first / "report.json").read_bytes()
    (first / "report.json").unlink()
    assert run("--rescore", str(first))[0] == 0
    assert (first / "report.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "say what to measure and where"),
        (("--benchmarks", "nope", "--out", "x"), "there is no benchmark 'nope'"),
        (("--rescore", "/nowhere"), "is not the folder of an eval run"),
    ],
)
def test_a_wrong_command_is_told_so(words: tuple[str, ...], complaint: str):
    code, said = run(*words)
    assert code == 2 and complaint in said


def test_a_folder_keeps_to_one_model_and_settings(tmp_path: Path):
    words = ("--benchmarks", "apibank", "--model", "echo", "--limit", "1", "--out", str(tmp_path))
    assert run(*words)[0] == 0
    code, said = run(*words, "--temperature", "1")
    assert code == 2 and "name another --out" in said
    answers = answers_file(tmp_path, "apibank").read_text()
    assert run(*words)[0] == 0  # nothing is left to ask
    assert answers_file(tmp_path, "apibank").read_text() == answers


def test_a_damaged_file_of_answers_is_named(tmp_path: Path):
    words = ("--benchmarks", "apibank", "--model", "echo", "--limit", "1", "--out", str(tmp_path))
    run(*words)
    path = answers_file(tmp_path, "apibank")
    path.write_text('{"case": 1}\n' + path.read_text())
    code, said = run("--rescore", str(tmp_path))
    assert code == 2 and "answers-apibank.jsonl:1 is not an answer" in said


def test_the_benchmarks_are_listed_in_both_languages():
    code, said = run("--list", "--json")
    listed = [json.loads(line) for line in said.splitlines()]
    assert code == 0 and {"bfcl", "acebench", "gsm8k"} <= {one["name"] for one in listed}
    assert all(one["about"] and one["about_zh"] and one["licence"] for one in listed)
