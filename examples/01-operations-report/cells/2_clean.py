import numpy as np
import pandas as pd

raw = pd.read_csv("sales.csv", dtype=str, keep_default_na=False)
raw["line"] = raw.index + 2
amounts = ["orders", "revenue", "refunds", "new_customers"]
values = raw[amounts].apply(pd.to_numeric, errors="coerce")
bad = values.isna().any(axis=1) | (values < 0).any(axis=1)
repeated = raw.duplicated(subset=raw.columns.drop("line").tolist(), keep="first")
dropped = raw[bad | repeated]
print("left out:")
print(dropped.to_string(index=False))

sales = raw[~(bad | repeated)].copy()
sales[amounts] = values[~(bad | repeated)]
sales["date"] = pd.to_datetime(sales["date"])
october = sales[sales["date"].dt.strftime("%Y-%m") == "2025-10"]
september = sales[sales["date"].dt.strftime("%Y-%m") == "2025-09"]

# A channel's day counts for trends and anomalies only if all its categories reported.
daily = october.pivot_table(index="date", columns="channel", values="revenue", aggfunc="sum")
counts = october.pivot_table(index="date", columns="channel", values="revenue", aggfunc="count")
daily = daily.reindex(pd.date_range("2025-10-01", "2025-10-31"))
counts = counts.reindex(daily.index)
expected_rows = sales["category"].nunique()
missing = [
    {"date": day.strftime("%Y-%m-%d"), "channel": channel}
    for channel in daily
    for day in daily.index[daily[channel].isna()]
]
incomplete = counts.lt(expected_rows) | counts.isna()

# Robust distance from the channel's own usual level: weekends stay well inside.
anomalies, trend = [], {}
for channel in daily:
    series = daily[channel].where(~incomplete[channel])
    usual = series.median()
    spread = 1.4826 * (series - usual).abs().median()
    score = (series - usual) / spread
    odd = score.index[score.abs() > 5]
    anomalies += [
        {
            "date": day.strftime("%Y-%m-%d"),
            "channel": channel,
            "direction": "high" if score[day] > 0 else "low",
        }
        for day in odd
    ]
    usable = series.drop(odd).dropna()
    trend[channel] = float(np.polyfit(usable.index.day, usable, 1)[0])
print("anomalies:", anomalies)
print("missing:", missing)
print("trend, CNY per day:", {channel: round(slope) for channel, slope in trend.items()})
