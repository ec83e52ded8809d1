"""Checks the tables and tests of an ablation against the page they were read from.

In: the workspace after the run. Out: checks; the tests are computed again from the seeded numbers.
Must not know: how the agent read the page.
"""

from __future__ import annotations

import importlib
import math
import re
from functools import cache
from pathlib import Path
from statistics import mean, stdev

from examples.checks import (
    Check,
    close,
    judge,
    numbers,
    read_json,
    read_text,
    require,
    require_close,
    require_words,
    unchanged,
)
from examples.latex import compiled

inputs = importlib.import_module("examples.03-paper-ablation.inputs")
ALPHA = 0.05


def verify(workspace: Path) -> list[Check]:
    """Check every artefact of the scenario."""
    return judge(workspace, CHECKS)


@cache
def facts() -> dict[str, dict[str, float]]:
    """Compute every test again."""
    from scipy import stats

    table = inputs.ablation(inputs.SEED)
    tests: dict[str, dict[str, float]] = {}
    for variant in inputs.EFFECTS:
        pairs = [
            (b, a)
            for a, b in zip(table[inputs.FULL], table[variant], strict=True)
            if a is not None and b is not None
        ]
        differences = [b - a for b, a in pairs]
        t = mean(differences) / (stdev(differences) / math.sqrt(len(differences)))
        tests[variant] = {
            "n": len(pairs),
            "mean_difference": mean(differences),
            "t": t,
            "p_paired": float(2 * stats.t.sf(abs(t), len(differences) - 1)),
            "cohens_dz": mean(differences) / stdev(differences),
            "p_welch": float(
                stats.ttest_ind(*zip(*pairs, strict=True), equal_var=False).pvalue  # type: ignore
            ),
        }
    # Holm: the k-th smallest p of m times m - k + 1, never below the one before it.
    largest = 0.0
    for rank, test in enumerate(sorted(tests.values(), key=lambda test: test["p_paired"])):
        largest = max(largest, min(1.0, (len(tests) - rank) * test["p_paired"]))
        test["p_holm"] = largest
    return tests


def the_page_is_as_given(workspace: Path) -> str:
    return unchanged(workspace, inputs.FILES, inputs.make)


def the_tables_are_those_of_the_page(workspace: Path) -> str:
    told = read_json(workspace, "tables.json")
    main = {
        method: {name: list(cell) for name, cell in row.items()}
        for method, row in inputs.main_results(inputs.SEED).items()
    }
    require(told.get("main") == main, "the results by method differ from the page")
    found = told["ablation"]
    true = inputs.ablation(inputs.SEED)
    require(isinstance(found, dict) and set(found) == set(true), f"variants: {found}")
    for variant, row in true.items():
        require(found[variant] == row, f"{variant}: {found[variant]}, the page has {row}")
    return f"{len(main)} methods, {len(true)} variants x {inputs.SEEDS} seeds, one missing"


def the_tests_are_right(workspace: Path) -> str:
    told = read_json(workspace, "tests.json")
    require(set(told) == set(facts()), f"variants: {sorted(told)}")
    for variant, true in facts().items():
        for name, value in true.items():
            require_close(f"{variant}: {name}", told[variant].get(name), value, 0.01)
    return "; ".join(f"{name}: p = {test['p_holm']:.2g}" for name, test in facts().items())


def significance_follows_from_the_corrected_p(workspace: Path) -> str:
    told = read_json(workspace, "tests.json")
    for variant, true in facts().items():
        verdict = told[variant].get("significant")
        require(verdict is (true["p_holm"] < ALPHA), f"{variant}: significant is {verdict}")
    return ", ".join(name for name, test in facts().items() if test["p_holm"] < ALPHA)


def the_appendix_compiles_and_nothing_sticks_out(workspace: Path) -> str:
    text = read_text(workspace, "appendix.tex")
    require_words(text, "appendix.tex", r"\documentclass")
    pages, wide = compiled(workspace / "appendix.tex")
    require(wide <= 5, f"something is {wide} pt too wide")
    return f"{pages} page{'s' if pages > 1 else ''}, no error"


def the_pdf_is_there(workspace: Path) -> str:
    path = workspace / "appendix.pdf"
    require(path.is_file(), "there is no appendix.pdf")
    require(path.read_bytes()[:5] == b"%PDF-", "appendix.pdf is no PDF")
    return f"{path.stat().st_size} bytes"


def rows(text: str) -> list[str]:
    """Return the rows of all tables, with markup that hides numbers taken away."""
    plain = re.sub(r"\\(?:mathbf|textbf|num|makecell)\b|[{}$]|\\,|~", " ", text)
    plain = plain.replace(r"\&", "AND").replace("- ", "-")
    return [line for line in re.split(r"\\\\", plain) if "&" in line]


def the_tables_are_booktabs_with_the_right_numbers(workspace: Path) -> str:
    text = read_text(workspace, "appendix.tex")
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        require(text.count(rule) >= 2, f"fewer than two tables have {rule}")
    lines = rows(text)
    for method, row in inputs.main_results(inputs.SEED).items():
        found = [line for line in lines if method in line]
        wanted = [number for cell in row.values() for number in cell]
        near = any(has_all(line, wanted, 0.051) for line in found)
        require(near, f"no row of {method} has {wanted}")
    for variant, test in facts().items():
        named = variant.replace("&", "AND")
        found = [line for line in lines if named in line]
        wanted = [test["n"], test["mean_difference"], test["cohens_dz"]]
        near = any(
            has_all(line, wanted, 0.0051)
            and all(has_p(line, test[p]) for p in ("p_paired", "p_holm", "p_welch"))
            for line in found
        )
        require(near, f"no row of {variant} has its n, difference, d_z and p-values: {found}")
    return "a row per method and per variant"


def has_all(line: str, wanted: list[float], within: float) -> bool:
    """Tell whether a row has each of some numbers."""
    there = numbers(line)
    return all(any(abs(number - value) <= within for number in there) for value in wanted)


def has_p(line: str, p: float) -> bool:
    """Tell whether a row has a p-value, rounded to three places or as a bound."""
    if p < 0.001 and re.search(r"(?:<|\\lt)\s*0?\.001", line):
        return True
    return any(abs(number - p) <= 0.00051 or close(number, p, 0.05) for number in numbers(line))


def the_text_says_what_does_not_hold(workspace: Path) -> str:
    text = re.sub(r"\s+", " ", read_text(workspace, "appendix.tex")).lower()
    require_words(text, "appendix.tex", "holm")
    require_words(text, "appendix.tex", "diverged", "missing", "left out", "no result")
    claims = re.split(r"(?<=[.;:])\s", text)
    denial = re.compile(r"\bnot\b|no significant|insignificant|n't|unsupported|contradict")
    said = [claim for claim in claims if "auxiliary" in claim and denial.search(claim)]
    require(said, "it never says that the auxiliary loss makes no significant difference")
    return said[0][:120]


CHECKS = (
    the_page_is_as_given,
    the_tables_are_those_of_the_page,
    the_tests_are_right,
    significance_follows_from_the_corrected_p,
    the_tables_are_booktabs_with_the_right_numbers,
    the_text_says_what_does_not_hold,
    the_pdf_is_there,
    the_appendix_compiles_and_nothing_sticks_out,
)
