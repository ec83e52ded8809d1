import pandas as pd

sales = pd.read_csv("sales.csv")
print(sales.head(3).to_string(), len(sales), "rows")
sales["revenue"] = sales["revenue"].astype(float)
print(sales.groupby("channel")["revenue"].sum())
