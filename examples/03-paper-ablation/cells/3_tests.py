from scipy import stats
from statsmodels.stats.multitest import multipletests

full = by_seed.loc["Full model"]
tests = {}
for variant in by_seed.index.drop("Full model"):
    pairs = pd.DataFrame({"full": full, "variant": by_seed.loc[variant]}).dropna()
    difference = pairs["variant"] - pairs["full"]
    paired = stats.ttest_rel(pairs["variant"], pairs["full"])
    welch = stats.ttest_ind(pairs["variant"], pairs["full"], equal_var=False)
    tests[variant] = {
        "n": len(pairs),
        "mean_difference": difference.mean(),
        "t": float(paired.statistic),
        "p_paired": float(paired.pvalue),
        "cohens_dz": difference.mean() / difference.std(ddof=1),
        "p_welch": float(welch.pvalue),
    }
corrected = multipletests([test["p_paired"] for test in tests.values()], method="holm")[1]
for test, p in zip(tests.values(), corrected):
    test["p_holm"] = float(p)
    test["significant"] = bool(p < 0.05)
Path("tests.json").write_text(json.dumps(tests, indent=2), encoding="utf-8")
print(pd.DataFrame(tests).T.to_string())
