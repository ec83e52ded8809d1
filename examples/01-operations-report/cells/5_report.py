import base64
import html

by_channel, growing = metrics["revenue_by_channel"], max(trend, key=trend.get)
shrinking = min(trend, key=trend.get)
high = next(event for event in anomalies if event["direction"] == "high")
low = next(event for event in anomalies if event["direction"] == "low")
usual = daily.median()
lost = usual[low["channel"]] - daily.loc[low["date"], low["channel"]]
won = daily.loc[high["date"], high["channel"]] - usual[high["channel"]]

blocks = [
    ("h1", "Operations report, October 2025"),
    (
        "p",
        f"Revenue was **{metrics['revenue']:,.0f} CNY** from {orders:,} orders, "
        f"**{metrics['revenue_change']:+.1%}** against September. The {growing} grows by "
        f"{trend[growing]:,.0f} CNY a day; the {shrinking} loses {-trend[shrinking]:,.0f} CNY a day. "
        "Two days stand out, and some of the data was missing or unusable.",
    ),
    ("h2", "Figures"),
    (
        "table",
        [
            ("figure", "October 2025"),
            ("revenue", f"{metrics['revenue']:,.0f} CNY"),
            ("against September", f"{metrics['revenue_change']:+.1%}"),
            ("orders", f"{orders:,}"),
            ("average order value", f"{metrics['average_order_value']:,.2f} CNY"),
            ("refund rate", f"{metrics['refund_rate']:.2%}"),
            *((f"revenue, {name}", f"{value:,.0f} CNY") for name, value in by_channel.items()),
        ],
    ),
    ("img", "charts/channels.png", "Revenue by channel in September and October"),
    ("img", "charts/categories.png", "Revenue by category in October"),
    ("h2", "Trends and anomalies"),
    ("img", "charts/daily_revenue.png", "Daily revenue by channel in October"),
    (
        "ul",
        [
            *(f"{name}: {slope:+,.0f} CNY per day" for name, slope in trend.items()),
            f"{high['date']}, {high['channel']}, high: {won:,.0f} CNY above its usual day; it looks like "
            "a campaign, and the days after it are normal",
            f"{low['date']}, {low['channel']}, low: {lost:,.0f} CNY below its usual day, back to normal "
            "the day after; it looks like an outage",
        ],
    ),
    ("h2", "Data quality"),
    (
        "ul",
        [
            *(
                f"no rows for the {gap['channel']} on {gap['date']}; not filled in"
                for gap in missing
            ),
            *(
                f"line {row.line} left out: {row.date}, {row.channel}, {row.category}, revenue "
                f"`{row.revenue}`"
                for row in dropped.itertuples()
            ),
        ],
    ),
    (
        "p",
        "Because of these gaps the month's true revenue is somewhat higher than the figure above; "
        f"per day with complete data the {shrinking} made {usual[shrinking]:,.0f} CNY on a usual day.",
    ),
    ("h2", "Recommendations"),
    (
        "ul",
        [
            f"Find out what happened to the {low['channel']} on {low['date']}, and set an alert on orders "
            "per hour: one such day costs more than a week of its growth.",
            f"Repeat what ran on the {high['channel']} on {high['date']}, and measure whether its buyers "
            "come back.",
            f"Shift effort towards the {growing}; decide whether the decline of the {shrinking} is the "
            "season or the offer.",
            "Ask for the missing days, and have the export refuse values that are not numbers.",
        ],
    ),
]


def bold(text, mark):
    parts = text.split("**")
    return "".join(mark.format(part) if i % 2 else part for i, part in enumerate(parts))


lines, body = [], []
for kind, *rest in blocks:
    if kind in ("h1", "h2"):
        lines += ["#" * int(kind[1]) + " " + rest[0], ""]
        body.append(f"<{kind}>{html.escape(rest[0])}</{kind}>")
    elif kind == "p":
        lines += [rest[0], ""]
        body.append(f"<p>{bold(html.escape(rest[0]), '<b>{}</b>')}</p>")
    elif kind == "ul":
        lines += [f"- {item}" for item in rest[0]] + [""]
        items = "".join(f"<li>{html.escape(item).replace('`', '')}</li>" for item in rest[0])
        body.append(f"<ul>{items}</ul>")
    elif kind == "table":
        head, *rows = rest[0]
        lines += [f"| {head[0]} | {head[1]} |", "| --- | ---: |"]
        lines += [f"| {name} | {value} |" for name, value in rows] + [""]
        cells = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
        body.append(f"<table><tr><th>{head[0]}</th><th>{head[1]}</th></tr>{cells}</table>")
    else:
        path, text = rest
        lines += [f"![{text}]({path})", ""]
        data = base64.b64encode(Path(path).read_bytes()).decode()
        body.append(f'<img alt="{text}" src="data:image/png;base64,{data}">')

style = """
body{margin:0;background:#f4f6f6;color:#22313a;font:17px/1.6 "DejaVu Sans",system-ui,sans-serif}
main{max-width:860px;margin:40px auto;background:#fff;padding:40px 56px;border-radius:10px;
box-shadow:0 1px 12px #0002}h1{margin:0 0 .6em;color:#264653;font-size:1.9em}
h2{margin:1.8em 0 .5em;color:#264653;border-bottom:3px solid #2a9d8f;padding-bottom:.2em}
img{width:100%;margin:12px 0}table{border-collapse:collapse;width:100%}
td,th{padding:.45em .6em;border-bottom:1px solid #e1e7e8;text-align:left}
td:last-child,th:last-child{text-align:right;font-variant-numeric:tabular-nums}
@media(max-width:700px){main{padding:20px;margin:0}}
"""
Path("report.md").write_text("\n".join(lines), encoding="utf-8")
Path("report.html").write_text(
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width">'
    f"<title>Operations report, October 2025</title><style>{style}</style>"
    f"<main>{''.join(body)}</main></html>",
    encoding="utf-8",
)
print(Path("report.md").read_text()[:1500])
