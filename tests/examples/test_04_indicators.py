"""The verifier of the indicators: every day is computed again, the chart is moved with a mouse."""

import importlib

import pytest

from examples.scenario import find
from tests.examples.gold import (
    assert_all_hold,
    assert_nothing_holds_without_work,
    copy,
    edit,
    make_gold,
    needs_browser,
    refuses,
    verdict,
)

for package in ("pandas", "plotly"):
    pytest.importorskip(package, reason="pip install 'openk2[examples]'")
verify = importlib.import_module("examples.04-price-indicators.verify")
SCENARIO = find("04")
CITES = verify.the_summary_cites_the_news_and_warns
NAMES = verify.the_summary_names_crossings_and_extremes


@pytest.fixture(scope="module")
def gold(tmp_path_factory):
    return make_gold("04", tmp_path_factory.mktemp("indicators"))


@needs_browser
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_gold_holds(gold):
    assert_all_hold(SCENARIO, gold)


def test_all_but_the_chart_hold(gold):
    others = [check for check in verify.CHECKS if "chart" not in check.__name__]
    assert len(others) == 5
    assert [found for check in others if not (found := verdict(gold, check)).ok] == []


def test_nothing_holds_without_work(tmp_path):
    assert_nothing_holds_without_work(SCENARIO, tmp_path)


def test_indicators_agree_with_a_straight_line():
    rising = [float(n) for n in range(1, 60)]
    assert verify.wilder(rising)[-1] == 100
    assert verify.average([2.0] * 30, 12) == [2.0] * 30
    # An average of a line lags by (span - 1) / 2 once it has forgotten where it began.
    assert verify.average([float(n) for n in range(400)], 9)[-1] == pytest.approx(399 - 4)


def test_a_shifted_indicator_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    path = workspace / "indicators.csv"
    lines = path.read_text().splitlines()
    day, close, macd, *rest = lines[15].split(",")
    path.write_text("\n".join([*lines[:15], ",".join([day, close, f"{float(macd) + 0.01}", *rest]),
                               *lines[16:]]))  # fmt: skip
    refuses(workspace, verify.the_indicators_are_right_on_every_day, f"macd on {day}")
    path.write_text("\n".join(lines[:-1]))
    refuses(workspace, verify.the_indicators_are_right_on_every_day, "29 rows")


@pytest.mark.parametrize(
    ("old", "new", "check", "says"),
    [
        ("+12.16 %", "+14.16 %", verify.the_summary_says_the_numbers, "change"),
        ("2025-10-30", "2025-10-29", NAMES, "2025-10-30"),
        ("lumen-bank-buyback", "lumen-lighting-recall", CITES, "nothing to do"),
        ("not investment advice", "advice", CITES, "advice"),
    ],
)
def test_a_summary_that_says_otherwise_is_seen(gold, tmp_path, old, new, check, says):
    workspace = copy(gold, tmp_path)
    assert verdict(workspace, check).ok
    edit(workspace, "summary.md", old, new)
    refuses(workspace, check, says)


@needs_browser
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_chart_of_other_numbers_or_none_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    page = (workspace / "chart.html").read_text("utf-8")
    last = f"{verify.facts()[-1]['close']:.2f}"
    assert f"{last}]" in page
    (workspace / "chart.html").write_text(page.replace(f"{last}]", "99.0]"), "utf-8")
    refuses(workspace, verify.the_chart_draws_the_same_numbers, "candlestick")
    (workspace / "chart.html").write_text("<img src=chart.png>")
    refuses(workspace, verify.the_chart_answers_to_the_mouse, "Timeout|asks for")
