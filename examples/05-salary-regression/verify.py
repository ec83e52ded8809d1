"""Checks groups, regressions, charts and report against 130,000 salaries.

In: the workspace after the run. Out: checks; both models are solved again, by linear algebra.
Must not know: which library the agent used.
"""

from __future__ import annotations

import csv
import importlib
import json
import math
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from examples.browser import opened, require_fits, require_quiet, shown_pictures
from examples.checks import (
    Check,
    hues,
    judge,
    picture,
    read_json,
    read_text,
    require,
    require_close,
    require_number,
    require_words,
    unchanged,
)

inputs = importlib.import_module("examples.05-salary-regression.inputs")
CHARTS = ("charts/violin.png", "charts/box.png", "charts/scatter.png")
TERMS = ("remote_50", "remote_100")


def verify(workspace: Path) -> list[Check]:
    """Check every artefact of the scenario."""
    return judge(workspace, CHECKS)


@cache
def people() -> dict[str, np.ndarray]:
    """Read a fresh copy of the salaries, by column."""
    with tempfile.TemporaryDirectory() as folder:
        inputs.make(Path(folder))
        lines = (Path(folder) / "salaries.csv").read_text("utf-8").splitlines()
    columns = zip(*(line.split(",") for line in lines[1:]), strict=True)
    return {
        name: np.array(column) for name, column in zip(lines[0].split(","), columns, strict=True)
    }


@cache
def models() -> dict[tuple[str, str], tuple[float, float]]:
    """Solve both regressions: coefficient and HC1 error of each remote share."""
    data = people()
    log_pay = np.log(data["salary_usd"].astype(float))
    remote = [(data["remote_share"] == share).astype(float) for share in ("50", "100")]
    others = [data["year"].astype(float) - 2021] + [
        (data[name] == level).astype(float)
        for name in ("experience", "job_family", "region", "company_size")
        for level in sorted(set(data[name]))[1:]
    ]
    fits: dict[tuple[str, str], tuple[float, float]] = {}
    for model, columns in (("unadjusted", remote), ("adjusted", remote + others)):
        design = np.column_stack([np.ones(len(log_pay)), *columns])
        inverse = np.linalg.inv(design.T @ design)
        coefficients = inverse @ (design.T @ log_pay)
        rest = log_pay - design @ coefficients
        people_over_freedom = len(log_pay) / (len(log_pay) - design.shape[1])
        meat = design.T @ (design * (rest**2)[:, None])
        errors = np.sqrt(np.diag(inverse @ meat @ inverse) * people_over_freedom)
        for place, term in enumerate(TERMS, 1):
            fits[model, term] = float(coefficients[place]), float(errors[place])
    return fits


def the_salaries_are_as_given(workspace: Path) -> str:
    return unchanged(workspace, inputs.FILES, inputs.make)


def the_groups_are_described_rightly(workspace: Path) -> str:
    told, data = read_json(workspace, "summary.json"), people()
    require(told.get("rows") == inputs.ROWS, f"rows: {told.get('rows')}")
    groups: Any = told.get("groups")
    for share in ("0", "50", "100"):
        pay = data["salary_usd"][data["remote_share"] == share].astype(float)
        quartiles = np.percentile(pay, [25, 50, 75])
        true = {"count": len(pay), "mean": pay.mean(), "median": quartiles[1]}
        for name, value in (true | {"q1": quartiles[0], "q3": quartiles[2]}).items():
            require_close(f"{name} of {share} %", groups[share][name], float(value), 0.001)
    return f"{inputs.ROWS:,} people in three groups"


def the_groups_are_tested_without_a_normal_distribution(workspace: Path) -> str:
    from scipy import stats

    told: Any = read_json(workspace, "summary.json").get("kruskal")
    data = people()
    pay = data["salary_usd"].astype(float)
    true = stats.kruskal(*(pay[data["remote_share"] == share] for share in ("0", "50", "100")))
    require_close("H", told["h"], float(true.statistic), 0.001)
    require(0 <= told["p"] < 1e-10, f"p is {told['p']}, expected {true.pvalue}")
    return f"H = {true.statistic:,.1f}"


def regressions(workspace: Path) -> dict[tuple[str, str], dict[str, float]]:
    rows = csv.DictReader(read_text(workspace, "regression.csv").splitlines())
    return {
        (row.pop("model"), row.pop("term")): {name: float(value) for name, value in row.items()}
        for row in rows
    }


def both_models_have_the_right_coefficients_and_robust_errors(workspace: Path) -> str:
    told = regressions(workspace)
    for key, (coefficient, error) in models().items():
        require(key in told, f"there is no row for {' '.join(key)}")
        row, name = told[key], " ".join(key)
        off = abs(row["coefficient"] - coefficient)
        require(off < 2e-4, f"{name} is {row['coefficient']}, expected {coefficient:.5f}")
        require_close(f"error of {name}", row["std_error"], error, 0.005)
        require_close(f"t of {name}", row["t"], coefficient / error, 0.01)
        for side, sign in (("ci_low", -1), ("ci_high", 1)):
            off = abs(row[side] - (coefficient + sign * 1.96 * error))
            require(off < 5e-4, f"{side} of {name} is {row[side]}")
        require(0 <= row["p"] < 0.001, f"p of {name} is {row['p']}")
    return ", ".join(
        f"{' '.join(key)}: {100 * math.expm1(b):+.2f} %" for key, (b, _) in models().items()
    )


def palette(workspace: Path) -> np.ndarray:
    colours = json.loads(read_text(workspace, "palette.json"))
    require(isinstance(colours, list) and 2 <= len(colours) <= 8, f"palette: {colours}")
    require(all(re.fullmatch("#[0-9a-fA-F]{6}", colour) for colour in colours), f"{colours}")
    return np.array([[int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)] for colour in colours])


def the_three_charts_share_one_palette(workspace: Path) -> str:
    allowed = hues(palette(workspace), chroma=0.02)
    require(len(allowed) > 0, "the palette has no colour")
    spread = len({round(hue / 30) % 12 for hue in allowed})
    require(spread <= 5, f"colours of {spread} families are no palette")
    for name in CHARTS:
        pixels = picture(workspace, name)
        found = hues(pixels)
        share = len(found) / (pixels.shape[0] * pixels.shape[1])
        require(share > 0.003, f"{name} has no colour")
        apart = np.abs(found[:, None] - allowed[None, :])
        outside = float((np.minimum(apart, 360 - apart).min(axis=1) > 14).mean())
        require(outside < 0.05, f"{outside:.1%} of the colour in {name} is not of the palette")
    return f"{len(allowed)} colours in {len(CHARTS)} charts"


def the_scatter_plot_is_no_blob(workspace: Path) -> str:
    pixels = picture(workspace, "charts/scatter.png")
    flat = np.ptp(pixels.reshape(-1, 3), axis=1) > 0.25
    require(float(flat.mean()) < 0.2, f"{flat.mean():.0%} of it is solid colour")
    return f"{flat.mean():.0%} of it is solid colour"


def says_the_effects(text: str) -> None:
    for (model, term), (coefficient, _) in models().items():
        percent = 100 * math.expm1(coefficient)
        require_number(text, f"the {model} effect of {term} in percent", percent, 0.011)


def the_report_says_the_effects_and_their_limits(workspace: Path) -> str:
    text = read_text(workspace, "report.md")
    says_the_effects(text)
    require_number(text, "the number of rows", inputs.ROWS, 0.5)
    require_words(text, "report.md", "confound", "混淆")
    require_words(text, "report.md", "robust", "HC1", "稳健")
    require_words(text, "report.md", "kruskal")
    require_words(text, "report.md", "experience", "资历", "经验")
    shown = [name for name in CHARTS if f"]({name})" in text or f"](./{name})" in text]
    require(len(shown) == len(CHARTS), f"report.md shows only {shown}")
    return "both models, robust errors, confounding, three charts"


def the_page_shows_effects_and_charts_in_a_browser(workspace: Path) -> str:
    with opened(workspace / "report.html") as look:
        says_the_effects(look.page.inner_text("body"))
        pictures = shown_pictures(look.page)
        require(pictures >= len(CHARTS), f"the page shows {pictures} pictures")
        require_fits(look.page)
        require_quiet(look)
    return f"{pictures} charts, no error, nothing loaded from elsewhere, fits a phone"


CHECKS = (
    the_salaries_are_as_given,
    the_groups_are_described_rightly,
    the_groups_are_tested_without_a_normal_distribution,
    both_models_have_the_right_coefficients_and_robust_errors,
    the_three_charts_share_one_palette,
    the_scatter_plot_is_no_blob,
    the_report_says_the_effects_and_their_limits,
    the_page_shows_effects_and_charts_in_a_browser,
)
