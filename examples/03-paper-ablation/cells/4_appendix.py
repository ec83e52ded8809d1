def number(value, digits=2):
    return f"${value:.{digits}f}$"


def p_value(p):
    return "$<0.001$" if p < 0.001 else f"${p:.3f}$"


def latex(text):
    return text


benchmarks = list(next(iter(main.values())))
best = {name: max(row[name][0] for row in main.values()) for name in benchmarks}


def result(mean, spread, is_best):
    shown = rf"{mean:.1f} \pm {spread:.1f}"
    return rf"$\mathbf{{{mean:.1f}}} \pm {spread:.1f}$" if is_best else f"${shown}$"


main_rows = "\n".join(
    " & ".join(
        [latex(method), *(result(*row[name], row[name][0] == best[name]) for name in benchmarks)]
    )
    + r" \\"
    for method, row in main.items()
)
test_rows = "\n".join(
    " & ".join(
        [
            latex(variant),
            str(test["n"]),
            number(test["mean_difference"]),
            number(test["t"]),
            p_value(test["p_paired"]),
            p_value(test["p_holm"]),
            number(test["cohens_dz"]),
            p_value(test["p_welch"]),
        ]
    )
    + r" \\"
    for variant, test in tests.items()
)
matter = ", ".join(latex(variant) for variant, test in tests.items() if test["significant"])
rest = ", ".join(latex(variant) for variant, test in tests.items() if not test["significant"])
unseen = ", ".join(
    latex(variant)
    for variant, test in tests.items()
    if test["significant"] and test["p_welch"] >= 0.05
)
lost = ", ".join(
    f"{latex(variant)} (seed {row.index(None) + 1})"
    for variant, row in ablation.items()
    if None in row
)
document = rf"""\documentclass[11pt]{{article}}
\usepackage[a4paper,margin=2.6cm]{{geometry}}
\usepackage[utf8]{{inputenc}}
\usepackage{{booktabs}}
\begin{{document}}
\appendix
\section{{Results and tests of the ablation}}

\begin{{table}}[h]
\centering
\caption{{Accuracy in percent, mean $\pm$ standard deviation over five seeds; the best mean is bold.}}
\begin{{tabular}}{{l{"r" * len(benchmarks)}}}
\toprule
Method & {" & ".join(benchmarks)} \\
\midrule
{main_rows}
\bottomrule
\end{{tabular}}
\end{{table}}

\begin{{table}}[h]
\centering\small
\caption{{Each variant against the full model, paired by seed. $\Delta$: mean difference in points.}}
\begin{{tabular}}{{lrrrrrrr}}
\toprule
Variant & $n$ & $\Delta$ & $t$ & paired $p$ & Holm $p$ & $d_z$ & Welch $p$ \\
\midrule
{test_rows}
\bottomrule
\end{{tabular}}
\end{{table}}

\paragraph{{What was done.}}
All variants of a seed share the initialisation and the order of the data, so runs are paired by seed:
two-sided paired $t$-tests, corrected for {len(tests)} comparisons after Holm, with Cohen's $d_z$ as the
size of the effect. Welch's test, which ignores the pairing, is given for comparison. A run that diverged
has no result, and its seed was left out of that comparison: {lost}.

\paragraph{{What matters.}}
At the level of 0.05, accuracy drops significantly for: {matter}. Not significant: {rest}. The luck of the
seed hides some of this from Welch's test, which does not see: {unseen}.

\paragraph{{The abstract's claim.}}
The abstract says that every component contributes significantly, the auxiliary loss included. The data do
not support this for the auxiliary loss: its difference of {number(tests["w/o auxiliary loss"]["mean_difference"])} points is not
significant (Holm $p = {tests["w/o auxiliary loss"]["p_holm"]:.3f}$). That is no proof of no effect: {tests["w/o auxiliary loss"]["n"]} seeds can miss a small one.
\end{{document}}
"""
Path("appendix.tex").write_text(document, encoding="utf-8")
