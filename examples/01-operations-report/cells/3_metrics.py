import json
from pathlib import Path

revenue, orders = october["revenue"].sum(), int(october["orders"].sum())
metrics = {
    "revenue": round(revenue, 2),
    "orders": orders,
    "average_order_value": round(revenue / orders, 2),
    "refund_rate": round(october["refunds"].sum() / revenue, 5),
    "revenue_change": round(revenue / september["revenue"].sum() - 1, 5),
    "revenue_by_channel": october.groupby("channel")["revenue"].sum().round(2).to_dict(),
    "revenue_by_category": october.groupby("category")["revenue"].sum().round(2).to_dict(),
    "trend": {channel: round(slope, 2) for channel, slope in trend.items()},
    "anomalies": anomalies,
    "missing": missing,
    "dropped_lines": [int(line) for line in dropped["line"]],
}
Path("metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
print(json.dumps(metrics, indent=1))
