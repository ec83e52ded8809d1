import pandas as pd

prices = pd.read_csv("prices.csv", parse_dates=["date"])
twice = prices[prices["date"].duplicated(keep=False)]
print(len(prices), "rows,", prices["date"].nunique(), "days; listed twice:")
print(twice.to_string(index=False))
prices = prices.drop_duplicates("date", keep="last").set_index("date").sort_index()

window = prices.tail(30)
change = window["close"].diff()
gain, loss = change.clip(lower=0).rolling(14).mean(), -change.clip(upper=0).rolling(14).mean()
rsi = 100 - 100 / (1 + gain / loss)
print(f"RSI is undefined on {rsi.isna().sum()} of {len(rsi)} days")
