"""Checks indicators, an interactive chart and a summary against the prices.

In: the workspace after the run. Out: checks; the indicators are computed again, plainly.
Must not know: how the agent computed them, beyond the definitions in the goal.
"""

from __future__ import annotations

import csv
import importlib
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from examples.browser import opened, require_fits, require_quiet
from examples.checks import (
    Check,
    judge,
    read_text,
    require,
    require_close,
    require_number,
    require_words,
    unchanged,
)

inputs = importlib.import_module("examples.04-price-indicators.inputs")
HEADER = ("date", "open", "high", "low", "close", "volume")
COLUMNS = ["date", "close", "macd", "signal", "histogram", "rsi"]
READY = "() => document.querySelector('.js-plotly-plot')?._fullData?.length"
TRACES = """() => {
    const plot = document.querySelector(".js-plotly-plot");
    const list = values => Array.from(values ?? []).map(v => typeof v === "number" ? v : String(v));
    return plot._fullData.map(trace => ({ type: trace.type, ...Object.fromEntries(
        ["x", "y", "open", "high", "low", "close"].map(name => [name, list(trace[name])])) }));
}"""


def verify(workspace: Path) -> list[Check]:
    """Check every artefact of the scenario."""
    return judge(workspace, CHECKS)


@cache
def facts() -> list[dict[str, Any]]:
    """Compute the window's rows again."""
    rows = [dict(zip(HEADER, row, strict=True)) for row in inputs.prices(inputs.SEED)]
    days = [{name: float(row[name]) for name in HEADER[1:]} | {"date": row["date"]} for row in rows]
    closes = [day["close"] for day in days]
    fast, slow = average(closes, 12), average(closes, 26)
    macd = [a - b for a, b in zip(fast, slow, strict=True)]
    signal = average(macd, 9)
    rsi = wilder(closes)
    for place, day in enumerate(days):
        day |= {"macd": macd[place], "signal": signal[place], "rsi": rsi[place]}
        day["histogram"] = macd[place] - signal[place]
    for before, day in pairwise(days):
        ways = (before["histogram"] > 0, day["histogram"] > 0)
        day["crossed"] = {(False, True): "up", (True, False): "down"}.get(ways, "")
    return days[-inputs.WINDOW :]


def average(values: list[float], span: int) -> list[float]:
    """Average exponentially, beginning with the first value."""
    result = values[:1]
    for value in values[1:]:
        result.append(result[-1] + 2 / (span + 1) * (value - result[-1]))
    return result


def wilder(closes: list[float], span: int = 14) -> list[float | None]:
    """Compute the relative strength index; undefined for the first `span` days."""
    changes = [b - a for a, b in pairwise(closes)]
    gain = sum(max(change, 0) for change in changes[:span]) / span
    loss = sum(max(-change, 0) for change in changes[:span]) / span
    result: list[float | None] = [None] * span + [100 * gain / (gain + loss)]
    for change in changes[span:]:
        gain = (gain * (span - 1) + max(change, 0)) / span
        loss = (loss * (span - 1) + max(-change, 0)) / span
        result.append(100 * gain / (gain + loss))
    return result


def the_prices_are_as_given(workspace: Path) -> str:
    return unchanged(workspace, inputs.FILES, inputs.make)


def the_indicators_are_right_on_every_day(workspace: Path) -> str:
    rows = list(csv.DictReader(read_text(workspace, "indicators.csv").splitlines()))
    require(rows and list(rows[0]) == COLUMNS, f"columns: {list(rows[0]) if rows else 'none'}")
    require(len(rows) == len(facts()), f"{len(rows)} rows, expected {len(facts())}")
    for row, true in zip(rows, facts(), strict=True):
        require(row["date"][:10] == true["date"], f"{row['date']} stands for {true['date']}")
        require_close(f"close on {true['date']}", float(row["close"]), true["close"], 1e-5)
        for name in ("macd", "signal", "histogram"):
            off = abs(float(row[name]) - true[name])
            require(
                off < 2e-4, f"{name} on {true['date']} is {row[name]}, expected {true[name]:.5f}"
            )
        off = abs(float(row["rsi"]) - true["rsi"])
        require(off < 0.02, f"RSI on {true['date']} is {row['rsi']}, expected {true['rsi']:.3f}")
    return f"{len(rows)} days from {facts()[0]['date']} to {facts()[-1]['date']}"


def the_chart_draws_the_same_numbers(workspace: Path) -> str:
    with opened(workspace / "chart.html") as look:
        look.page.wait_for_function(READY)
        traces = look.page.evaluate(TRACES)
        require_quiet(look)
    candles = [trace for trace in traces if trace["type"] == "candlestick"]
    require(candles, f"no candlesticks among {[trace['type'] for trace in traces]}")
    require([day[:10] for day in candles[0]["x"]] == [day["date"] for day in facts()], "other days")
    for name in ("open", "high", "low", "close"):
        same(f"candlestick {name}", candles[0][name], [day[name] for day in facts()], 0.006)
    for name in ("macd", "signal", "histogram", "rsi"):
        true = [day[name] for day in facts()]
        scale = 0.05 if name == "rsi" else 1e-3
        drawn = any(agrees(trace["y"][-len(true) :], true, scale) for trace in traces)
        require(drawn, f"no trace draws {name}")
    return f"{len(traces)} traces: candlesticks, MACD, signal, histogram, RSI"


def agrees(found: list[Any], true: list[float], within: float) -> bool:
    """Tell whether two series are the same."""
    return len(found) == len(true) and all(
        isinstance(a, int | float) and abs(a - b) <= within
        for a, b in zip(found, true, strict=True)
    )


def same(what: str, found: list[Any], true: list[float], within: float) -> None:
    require(agrees(found, true, within), f"{what}: {found[:3]}..., expected {true[:3]}...")


def the_chart_answers_to_the_mouse(workspace: Path) -> str:
    with opened(workspace / "chart.html") as look:
        page = look.page
        page.wait_for_function(READY)
        box = page.locator(".js-plotly-plot").first.bounding_box()
        require(box and box["width"] > 600 and box["height"] > 400, f"the plot is {box}")
        assert box is not None
        middle = box["x"] + box["width"] / 2
        page.mouse.move(middle - 20, box["y"] + box["height"] * 0.3)
        page.mouse.move(middle, box["y"] + box["height"] * 0.3, steps=4)
        page.wait_for_selector(".hoverlayer text", state="attached", timeout=5_000)
        shown = page.locator(".hoverlayer").first.text_content() or ""
        before = page.evaluate("document.querySelector('.js-plotly-plot').layout.xaxis.range + ''")
        page.mouse.down()
        page.mouse.move(middle + 150, box["y"] + box["height"] * 0.3, steps=6)
        page.mouse.up()
        page.wait_for_timeout(500)
        after = page.evaluate("document.querySelector('.js-plotly-plot').layout.xaxis.range + ''")
        require(before != after, "dragging over the plot does not zoom")
        require_fits(page)
        require_quiet(look)
    return f"hover shows {' '.join(shown.split())[:60]!r}; dragging zooms; no request leaves it"


def the_summary_says_the_numbers(workspace: Path) -> str:
    text, days = read_text(workspace, "summary.md"), facts()
    closes = [day["close"] for day in days]
    change = 100 * (closes[-1] / closes[0] - 1)
    require_number(text, "the last close", closes[-1], 0.0051)
    require_number(text, "the change in percent", change, 0.051)
    require_number(text, "the last RSI", days[-1]["rsi"], 0.051)
    for pick in (max, min):
        day = pick(days, key=lambda day: day["close"])
        require_number(text, f"the {pick.__name__} close", day["close"], 0.0051)
        require_words(text, "summary.md", day["date"])
    return f"{closes[-1]:.2f}, {change:+.2f} %, RSI {days[-1]['rsi']:.1f}"


def the_summary_names_crossings_and_extremes(workspace: Path) -> str:
    text = read_text(workspace, "summary.md")
    crossed = [day["date"] for day in facts()[1:] if day["crossed"]]
    extreme = [day["date"] for day in facts() if not 30 <= day["rsi"] <= 70]
    for day in (*crossed, *extreme):
        require_words(text, "summary.md", day)
    return f"crossings {', '.join(crossed)}; {len(extreme)} days beyond 30 and 70"


def the_summary_cites_the_news_and_warns(workspace: Path) -> str:
    text = read_text(workspace, "summary.md")
    for name, _, title, _ in inputs.UNRELATED:
        unrelated = inputs.address(name) not in text
        require(unrelated, f"it cites {title!r}, which has nothing to do with the bank")
    cited = [name for name, *_ in inputs.NEWS if inputs.address(name) in text]
    require(len(cited) >= 2, f"it cites only {cited}")
    require_words(
        text, "summary.md", "not investment advice", "no investment advice", "不构成投资建议"
    )
    return ", ".join(cited)


CHECKS = (
    the_prices_are_as_given,
    the_indicators_are_right_on_every_day,
    the_chart_draws_the_same_numbers,
    the_chart_answers_to_the_mouse,
    the_summary_says_the_numbers,
    the_summary_names_crossings_and_extremes,
    the_summary_cites_the_news_and_warns,
)
