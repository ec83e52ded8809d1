"""The verifier of the monthly report: gold passes, work that was not done or is wrong does not."""

import importlib
import json

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

pytest.importorskip("matplotlib", reason="pip install 'openk2[examples]'")
pytest.importorskip("pandas", reason="pip install 'openk2[examples]'")
verify = importlib.import_module("examples.01-operations-report.verify")
SCENARIO = find("01")
ROWS, GAPS = verify.every_bad_row_is_left_out_and_no_other, verify.the_missing_days_are_found
ONE_GAP = [{"date": "2025-10-17", "channel": "store"}]


@pytest.fixture(scope="module")
def gold(tmp_path_factory):
    return make_gold("01", tmp_path_factory.mktemp("report"))


@needs_browser
def test_gold_holds(gold):
    assert_all_hold(SCENARIO, gold)


def test_nothing_holds_without_work(tmp_path):
    assert_nothing_holds_without_work(SCENARIO, tmp_path)


def tamper(workspace, **values):
    path = workspace / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "check", "says"),
    [
        ({"revenue": 2328643.4}, verify.the_figures_are_those_of_the_sales, "revenue is 2328643"),
        ({"orders": None}, verify.the_figures_are_those_of_the_sales, "orders is None"),
        ({"refund_rate": 2.657}, verify.the_figures_are_those_of_the_sales, "refund_rate"),
        ({"revenue_by_channel": {}}, verify.the_figures_are_those_of_the_sales, "by_channel"),
        ({"dropped_lines": [312, 403]}, ROWS, "403"),
        ({"dropped_lines": [312, 403, 400]}, ROWS, "expected"),
        ({"anomalies": []}, verify.the_anomalies_are_found_and_nothing_else, "expected"),
        ({"missing": ONE_GAP}, GAPS, "missing is"),
        ({"trend": {"web": -19, "app": 220, "store": -120}}, verify.the_trends_are_right, "app"),
    ],
)
def test_a_wrong_figure_is_seen(gold, tmp_path, values, check, says):
    workspace = copy(gold, tmp_path)
    assert verdict(workspace, check).ok
    tamper(workspace, **values)
    refuses(workspace, check, says)


def test_an_anomaly_too_many_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    told = json.loads((workspace / "metrics.json").read_text())["anomalies"]
    weekend = {"date": "2025-10-04", "channel": "store", "direction": "high"}
    tamper(workspace, anomalies=[*told, weekend])
    refuses(workspace, verify.the_anomalies_are_found_and_nothing_else, "2025-10-04")


def test_edited_sales_are_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    edit(workspace, "sales.csv", "2025-10-11,web", "2025-10-12,web")
    refuses(workspace, verify.the_sales_are_as_given, "edited")


def test_a_report_with_another_number_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    edit(workspace, "report.md", "2,320,380", "2,420,380")
    refuses(workspace, verify.the_report_says_the_figures, "the revenue")


def test_a_report_without_what_happened_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    edit(workspace, "report.md", "2025-10-23", "one day")
    refuses(workspace, verify.the_report_names_what_happened, "2025-10-23")


def test_a_chart_that_was_not_drawn_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    (workspace / "charts" / "channels.png").unlink()
    refuses(workspace, verify.the_charts_show_something, "channels.png")


@needs_browser
@pytest.mark.slow
def test_a_page_that_needs_the_network_or_hides_its_charts_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    page = workspace / "report.html"
    whole = page.read_text()
    page.write_text(whole + "<script src='https://cdn.example/x.js'></script>")
    refuses(workspace, verify.the_page_shows_figures_and_charts_in_a_browser, "cdn.example")
    page.write_text(whole.replace("data:image/png;base64,", "data:image/png;base64,x"))
    refuses(workspace, verify.the_page_shows_figures_and_charts_in_a_browser, "pictures")
