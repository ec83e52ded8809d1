import json
from pathlib import Path

import numpy as np
from scipy import stats

data["log_salary"] = np.log(data["salary_usd"])
by_share = data.groupby("remote_share")["salary_usd"]
groups = {
    str(share): {
        "count": len(pay),
        "median": float(pay.median()),
        "mean": float(pay.mean()),
        "q1": float(pay.quantile(0.25)),
        "q3": float(pay.quantile(0.75)),
    }
    for share, pay in by_share
}
kruskal = stats.kruskal(*(pay for _, pay in by_share))
summary = {
    "rows": len(data),
    "groups": groups,
    "kruskal": {"h": float(kruskal.statistic), "p": float(kruskal.pvalue)},
}
Path("summary.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")

others = "C(experience) + C(job_family) + C(region) + C(company_size) + year"
formulas = {
    "unadjusted": "log_salary ~ C(remote_share)",
    "adjusted": f"log_salary ~ C(remote_share) + {others}",
}
rows = []
for model, formula in formulas.items():
    fit = smf.ols(formula, data).fit(cov_type="HC1")
    interval = fit.conf_int()
    for term in fit.params.index:
        name = term.replace("C(remote_share)[T.", "remote_").replace("]", "")
        rows.append(
            {
                "model": model,
                "term": name.replace("C(", "").replace(")[T.", ": "),
                "coefficient": fit.params[term],
                "std_error": fit.bse[term],
                "t": fit.tvalues[term],
                "p": fit.pvalues[term],
                "ci_low": interval.loc[term, 0],
                "ci_high": interval.loc[term, 1],
            }
        )
    print(model, "R2", round(fit.rsquared, 3))
regression = pd.DataFrame(rows)
regression.to_csv("regression.csv", index=False)
print(regression.round(4).to_string())
print(summary["kruskal"])
