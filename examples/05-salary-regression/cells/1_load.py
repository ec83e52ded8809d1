import pandas as pd
import statsmodels.formula.api as smf

data = pd.read_csv("salaries.csv")
print(len(data), "rows,", int(data.isna().sum().sum()), "values missing")
print(data.groupby("remote_share")["salary_usd"].describe().round(0).to_string())
print(smf.ols("log(salary_usd) ~ C(remote_share)", data).fit(cov_type="HC1").summary())
