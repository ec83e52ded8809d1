"""The verifier of the regression: 130,000 rows solved again; palette, charts, report."""

import importlib
import json
import math

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

for package in ("pandas", "scipy", "statsmodels", "matplotlib"):
    pytest.importorskip(package, reason="pip install 'openk2[examples]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
inputs = importlib.import_module("examples.05-salary-regression.inputs")
verify = importlib.import_module("examples.05-salary-regression.verify")
SCENARIO = find("05")


@pytest.fixture(scope="module")
def gold(tmp_path_factory):
    return make_gold("05", tmp_path_factory.mktemp("regression"))


@needs_browser
def test_gold_holds(gold):
    assert_all_hold(SCENARIO, gold)


def test_nothing_holds_without_work(tmp_path):
    assert_nothing_holds_without_work(SCENARIO, tmp_path)


def test_the_planted_effects_are_found_and_the_plain_comparison_overstates_them():
    models = verify.models()
    for share, effect in inputs.REMOTE.items():
        if share:
            found, error = models["adjusted", f"remote_{share}"]
            assert abs(found - effect) < 3 * error
    assert models["unadjusted", "remote_100"][0] > 4 * inputs.REMOTE[100]


def test_ordinary_errors_instead_of_robust_ones_are_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    check = verify.both_models_have_the_right_coefficients_and_robust_errors
    assert verdict(workspace, check).ok
    path = workspace / "regression.csv"
    header, *lines = path.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("adjusted,remote_100,"))
    cells = lines[place].split(",")
    cells[3] = str(float(cells[3]) * 0.98)
    lines[place] = ",".join(cells)
    path.write_text("\n".join([header, *lines]))
    refuses(workspace, check, "error of adjusted remote_100")


def test_rows_that_were_left_out_are_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    told = json.loads((workspace / "summary.json").read_text())
    told["groups"]["100"]["mean"] *= 0.99
    (workspace / "summary.json").write_text(json.dumps(told))
    refuses(workspace, verify.the_groups_are_described_rightly, "mean of 100")


def test_a_colour_outside_the_palette_is_seen(gold, tmp_path):
    import numpy as np
    from matplotlib.image import imread, imsave

    workspace = copy(gold, tmp_path)
    chart = workspace / "charts" / "box.png"
    pixels = np.array(imread(chart)[..., :3])
    teal = np.ptp(pixels, axis=-1) > 0.3
    pixels[teal] = [0.8, 0.1, 0.6]
    imsave(chart, pixels)
    refuses(workspace, verify.the_three_charts_share_one_palette, r"box\.png is not of the palette")


def test_a_palette_of_every_colour_is_none(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    rainbow = ["#ff0000", "#ffaa00", "#aaff00", "#00ff55", "#00aaff", "#0000ff", "#aa00ff"]
    (workspace / "palette.json").write_text(json.dumps(rainbow))
    refuses(workspace, verify.the_three_charts_share_one_palette, "families")


def test_all_points_at_once_are_a_blob(gold, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    workspace = copy(gold, tmp_path)
    figure, axes = plt.subplots(figsize=(9, 5), dpi=120)
    draw = np.random.default_rng(0)
    axes.scatter(draw.random(60_000), draw.random(60_000), color="#2a9d8f", s=9)
    figure.savefig(workspace / "charts" / "scatter.png")
    plt.close(figure)
    refuses(workspace, verify.the_scatter_plot_is_no_blob, "solid")


def test_a_report_with_another_effect_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    true = f"{100 * math.expm1(verify.models()['adjusted', 'remote_100'][0]):+.2f} %"
    edit(workspace, "report.md", true, "+9.99 %")
    refuses(workspace, verify.the_report_says_the_effects_and_their_limits, "adjusted effect")
