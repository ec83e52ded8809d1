"""Several runs of one goal: what agrees is found, one run reflects, one budget pays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.budget import Limits, Spent
from openk2.agent.errand import Errand, Report
from openk2.agent.heavy import HeavyReport, HeavySettings, agree, reflection, run_heavy, same
from openk2.agent.model import ModelError
from openk2.agent.swarm import SwarmSettings

GOAL = "What is the answer?"


class Minds:
    """Trajectories with given answers; the run that reflects sees their files."""

    def __init__(self, answers: list[str], final: str | Exception = "42, checked") -> None:
        self.answers = answers
        self.final = final
        self.errands: list[Errand] = []

    async def __call__(self, errand: Errand) -> Report:
        self.errands.append(errand)
        spent = Spent(tokens=100, cost=10)
        if errand.id.startswith("reflect"):
            if isinstance(self.final, Exception):
                raise self.final
            files = sorted(p.name for p in (errand.workspace / "attempts").iterdir())
            (errand.workspace / "final.txt").write_text(" ".join(files))
            return Report("complete", self.final, ("final.txt",), spent)
        answer = self.answers[int(errand.id) - 1]
        if not answer:
            raise ModelError("gone", "refused")
        if answer == "blocked":
            return Report("blocked", "no key", spent=spent)
        (errand.workspace / "notes.md").write_text(answer)
        return Report("complete", answer, ("notes.md", "missing.md"), spent)


def go(folder: Path, minds: Minds, limits: Limits = Limits(), **more: Any) -> HeavyReport:
    how = HeavySettings(runs=len(minds.answers), swarm=SwarmSettings(parallel=8, stagger=0.0))
    return asyncio.run(run_heavy(GOAL, minds, folder, limits=limits, settings=how, **more))


def test_the_run_that_reflects_sees_every_attempt_and_its_votes(tmp_path: Path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "data").write_text("d")
    minds = Minds(["Answer: 41", "Answer: 42", "answer: 42.", "", "blocked"])
    done = go(tmp_path / "heavy", minds, base=tmp_path / "base")
    assert done.report.summary == "42, checked"
    assert (done.workspace / "final.txt").read_text() == "1 2 3"
    assert (done.workspace / "attempts" / "2" / "notes.md").read_text() == "Answer: 42"
    assert (done.workspace / "attempts" / "2" / "ANSWER.md").read_text() == "Answer: 42"
    assert (done.workspace / "data").read_text() == "d"
    assert done.clusters == (("2", "3"), ("1",))
    assert list(done.problems) == ["4"]
    assert done.spent == Spent(tokens=500, cost=50)
    asked = minds.errands[-1].goal
    assert asked.startswith(GOAL) and '<attempt id="2" group="1" votes="2">' in asked
    assert "3 independent attempts" in asked and "2 groups" in asked


def test_nothing_is_paid_for_twice(tmp_path: Path):
    go(tmp_path, Minds(["a", "b", ""]))
    again = Minds(["a", "b", "b"])
    done = go(tmp_path, again)
    # The third attempt is new, so there is something new to reflect on.
    assert [errand.id.partition("-")[0] for errand in again.errands] == ["3", "reflect"]
    assert done.report.summary == "42, checked" and done.spent == Spent(tokens=500, cost=50)
    third = Minds(["a", "b", "b"])
    assert go(tmp_path, third).report == done.report and third.errands == []


def test_without_a_reflection_the_most_common_answer_stands(tmp_path: Path):
    for number, final in enumerate((ModelError("gone", "refused"), OSError("disk"))):
        done = go(tmp_path / str(number), Minds(["41", "42", "42"], final))
        assert done.report.summary == "42" and [key[:7] for key in done.problems] == ["reflect"]
        assert (done.workspace / "notes.md").read_text() == "42"


def test_a_single_answer_needs_no_reflection_and_none_is_said(tmp_path: Path):
    minds = Minds(["", "42"])
    assert go(tmp_path / "one", minds).report.summary == "42"
    assert sorted(errand.id for errand in minds.errands) == ["1", "2"]
    done = go(tmp_path / "none", Minds(["", "blocked"]))
    assert done.report.status == "blocked"
    assert "2: blocked: no key" in done.report.summary and "1: ModelError: gone" in (
        done.report.summary
    )


def test_what_was_used_before_an_interruption_is_used(tmp_path: Path):
    go(tmp_path, Minds(["a", ""]), Limits(tokens=1_000))
    later = Minds(["a", "b"])
    go(tmp_path, later, Limits(tokens=1_000))
    assert [errand.limits.tokens for errand in later.errands] == [700, 800]


def test_one_budget_pays_for_all(tmp_path: Path):
    minds = Minds(["a", "b"])
    go(tmp_path, minds, Limits(tokens=1_000, cost=100))
    assert [errand.limits.tokens for errand in minds.errands] == [400, 400, 800]
    assert minds.errands[-1].limits.cost == 80


@pytest.mark.parametrize(
    ("one", "other", "agrees"),
    [
        ("1,024 km", "1024 km.", True),
        ("Paris", "paris", True),
        ("Paris", "London", False),
        ("It is \\boxed{\\frac{1}{2}}", "So \\boxed{\\frac{1}{2}}.", True),
        ("It is \\boxed{1}", "So \\boxed{2}.", False),
        ("I looked.\nFinal answer: **Bonn**", "Answer: Bonn", True),
        ("最终答案：北京。", "答案: 北京", True),
        ("答案：北京", "答案：南京", False),
        ("", "", True),
        (
            "The report shows that sales rose in March because of the new shop in Bonn, and fell "
            "in April when it closed again.",
            "Sales rose in March because of the new shop in Bonn and fell in April when it "
            "closed, as the report shows.",
            True,
        ),
        (
            "The report shows that sales rose in March because of the new shop in Bonn, and fell "
            "in April when it closed again.",
            "Nothing can be said about the sales: the file has a hole from January to December, "
            "and the shop keeps no other books.",
            False,
        ),
        (
            "报告显示三月份销售额上升，原因是波恩新店开业；四月份该店关闭后销售额下降，"
            "全年总体持平，建议保留线上渠道并继续观察下一季度的数据变化情况，同时考虑在科隆再开一家店。",
            "报告显示，三月份销售额上升的原因是波恩新店开业，四月份该店关闭后销售额下降。"
            "全年总体持平；建议保留线上渠道，并继续观察下一季度的数据变化情况，考虑在科隆再开一家店。",
            True,
        ),
    ],
)
def test_answers_agree_when_they_say_the_same(one: str, other: str, agrees: bool):
    assert same(one, other) is same(other, one) is agrees


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.text(max_size=200), max_size=10))
def test_every_answer_is_in_one_group_and_equal_ones_share_it(answers: dict[str, str]):
    groups = agree(answers)
    assert sorted(key for group in groups for key in group) == sorted(answers)
    assert [len(group) for group in groups] == sorted(map(len, groups), reverse=True)
    home = {key: number for number, group in enumerate(groups) for key in group}
    for key, answer in answers.items():
        for other, text in answers.items():
            if answer == text:
                assert home[key] == home[other]


def test_a_long_answer_is_shortened_for_the_reflection():
    reports = {"1": Report("complete", "x " * 50_000), "2": Report("complete", "y")}
    assert len(reflection(GOAL, [["1"], ["2"]], reports)) < 9_000


@pytest.mark.parametrize("wrong", [{"runs": 1}, {"reserve": 0.0}, {"reserve": 1.0}])
def test_settings_that_are_no_vote_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="heavy mode needs"):
        HeavySettings(**wrong)
