"""The verifier of the ablation: tables, tests and appendix as they should be, and tampered with."""

import importlib
import json
import subprocess

import pytest

from examples.scenario import find
from tests.examples.gold import (
    assert_all_hold,
    assert_nothing_holds_without_work,
    copy,
    edit,
    make_gold,
    needs_latex,
    refuses,
    verdict,
)

for package in ("pandas", "scipy", "statsmodels"):
    pytest.importorskip(package, reason="pip install 'openk2[examples]'")
verify = importlib.import_module("examples.03-paper-ablation.verify")
SCENARIO = find("03")


@pytest.fixture(scope="module")
def gold(tmp_path_factory):
    return make_gold("03", tmp_path_factory.mktemp("ablation"))


@needs_latex
def test_gold_holds(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "appendix.tex"]
    subprocess.run(command, cwd=workspace, check=True, capture_output=True)
    assert_all_hold(SCENARIO, workspace)


def test_nothing_holds_without_work(tmp_path):
    assert_nothing_holds_without_work(SCENARIO, tmp_path)


def test_the_planted_effects_are_what_the_tests_find():
    found = verify.facts()
    assert [name for name, test in found.items() if test["p_holm"] < 0.05] == [
        "w/o recycling", "w/o gate", "w/o warm-up & decay"
    ]  # fmt: skip
    hidden = found["w/o warm-up & decay"]
    assert hidden["p_welch"] > 0.05, "only pairing shows it"
    assert hidden["n"] == 7


def tamper(workspace, name, change):
    path = workspace / name
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def fill_the_gap(value):
    value["ablation"]["w/o warm-up & decay"][5] = 62.9


def shift_a_mean(value):
    value["main"]["Dense"]["LongQA"][0] += 0.1


@pytest.mark.parametrize("change", [fill_the_gap, shift_a_mean])
def test_a_table_that_is_not_the_page_s_is_seen(gold, tmp_path, change):
    workspace = copy(gold, tmp_path)
    assert verdict(workspace, verify.the_tables_are_those_of_the_page).ok
    tamper(workspace, "tables.json", change)
    refuses(workspace, verify.the_tables_are_those_of_the_page, "page")


@pytest.mark.parametrize(
    ("field", "value"),
    [("p_holm", 0.00094), ("n", 8), ("t", 6.02), ("cohens_dz", -0.61), ("p_welch", 0.05)],
)
def test_a_wrong_test_is_seen(gold, tmp_path, field, value):
    workspace = copy(gold, tmp_path)
    assert verdict(workspace, verify.the_tests_are_right).ok
    tamper(workspace, "tests.json", lambda t: t["w/o warm-up & decay"].update({field: value}))
    refuses(workspace, verify.the_tests_are_right, field)


def test_significance_that_does_not_follow_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    tamper(workspace, "tests.json", lambda t: t["w/o auxiliary loss"].update(significant=True))
    refuses(workspace, verify.significance_follows_from_the_corrected_p, "auxiliary")


@pytest.mark.parametrize(
    ("old", "new", "check", "says"),
    [
        ("$-0.61$", "$-0.91$", verify.the_tables_are_booktabs_with_the_right_numbers, "decay"),
        ("$0.193$", "$0.019$", verify.the_tables_are_booktabs_with_the_right_numbers, "decay"),
        (r"\toprule", r"\hline", verify.the_tables_are_booktabs_with_the_right_numbers, "toprule"),
        ("not support", "support", verify.the_text_says_what_does_not_hold, "auxiliary"),
    ],
)
def test_an_appendix_with_other_words_or_numbers_is_seen(gold, tmp_path, old, new, check, says):
    workspace = copy(gold, tmp_path)
    assert verdict(workspace, check).ok
    edit(workspace, "appendix.tex", old, new)
    if new == "support":
        edit(workspace, "appendix.tex", "is not\nsignificant", "is\nsignificant")
        edit(workspace, "appendix.tex", "Not significant: w/o auxiliary loss", "")
    refuses(workspace, check, says)


@needs_latex
def test_an_appendix_that_does_not_compile_or_sticks_out_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    check = verify.the_appendix_compiles_and_nothing_sticks_out
    edit(workspace, "appendix.tex", r"\end{document}", r"\hbox to 30cm{x\hfil y}\end{document}")
    refuses(workspace, check, "too wide")
    edit(workspace, "appendix.tex", r"\hbox to 30cm", r"\undefinedthing")
    refuses(workspace, check, "Undefined control sequence")


@needs_latex
def test_latex_reads_and_runs_nothing_of_this_machine(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    secret = tmp_path / "secret.tex"
    secret.write_text("TOP SECRET")
    edit(workspace, "appendix.tex", r"\end{document}", rf"\input{{{secret}}}\end{{document}}")
    refuses(workspace, verify.the_appendix_compiles_and_nothing_sticks_out, "secret")
