from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.dates import DateFormatter
from matplotlib.ticker import FuncFormatter

COLOURS = {"web": "#264653", "app": "#2a9d8f", "store": "#e9a03b"}
QUIET, ALARM = "#c9d3d6", "#d1495b"
plt.rcParams.update(
    {
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e6eaec",
        "axes.edgecolor": "#8a979c",
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.axisbelow": True,
        "figure.dpi": 130,
    }
)
Path("charts").mkdir(exist_ok=True)
thousands = FuncFormatter(lambda value, _: f"{value / 1000:,.0f}k")

figure, axes = plt.subplots(figsize=(10, 4.6), layout="constrained")
label_at = -np.inf
for channel in daily.iloc[-1].sort_values().index:
    shown = daily[channel].where(~incomplete[channel])
    axes.plot(shown.index, shown, color=COLOURS[channel], linewidth=2, marker="o", markersize=3.5)
    label_at = max(shown.iloc[-1], label_at + 6500)  # lines that end close together
    axes.annotate(
        channel,
        (shown.index[-1], label_at),
        xytext=(8, 0),
        color=COLOURS[channel],
        textcoords="offset points",
        va="center",
        weight="bold",
    )
for event in anomalies:
    day = pd.Timestamp(event["date"])
    value = daily.loc[day, event["channel"]]
    axes.scatter([day], [value], s=110, facecolor="none", edgecolor=ALARM, linewidth=2, zorder=5)
    axes.annotate(
        f"{event['channel']} {day:%d %b}",
        (day, value),
        xytext=(10, -3),
        color=ALARM,
        textcoords="offset points",
        weight="bold",
    )
if missing:
    days = [pd.Timestamp(gap["date"]) for gap in missing]
    half = pd.Timedelta(hours=12)
    axes.axvspan(min(days) - half, max(days) + half, color=QUIET, alpha=0.45, zorder=0)
    axes.annotate(
        f"no {missing[0]['channel']} data",
        (min(days), axes.get_ylim()[1]),
        va="top",
        color="#5b686d",
        fontsize=9,
        xytext=(-8, -2),
        textcoords="offset points",
    )
axes.set(title="Daily revenue by channel, October 2025", ylabel="revenue, CNY", xlabel="day")
axes.xaxis.set_major_formatter(DateFormatter("%d %b"))
axes.yaxis.set_major_formatter(thousands)
axes.set_ylim(bottom=0)
figure.savefig("charts/daily_revenue.png")

figure, axes = plt.subplots(figsize=(8.5, 4.4), layout="constrained")
before = september.groupby("channel")["revenue"].sum()
after = october.groupby("channel")["revenue"].sum()
places = np.arange(len(COLOURS))
names = list(COLOURS)
axes.bar(places - 0.2, before[names], 0.38, color=QUIET, label="September")
axes.bar(places + 0.2, after[names], 0.38, color=[COLOURS[n] for n in names], label="October")
for place, name in zip(places, names):
    change = after[name] / before[name] - 1
    axes.text(
        place + 0.2,
        after[name],
        f"{change:+.1%}",
        ha="center",
        va="bottom",
        weight="bold",
        color=COLOURS[name],
    )
axes.set_xticks(places, names)
axes.yaxis.set_major_formatter(thousands)
axes.set(
    title="Revenue by channel: September (grey) and October",
    ylabel="revenue, CNY",
    xlabel="channel",
)
axes.grid(axis="x", visible=False)
figure.savefig("charts/channels.png")

figure, axes = plt.subplots(figsize=(8.5, 3.8), layout="constrained")
shares = october.groupby("category")["revenue"].sum().sort_values()
axes.barh(shares.index, shares, color=["#8ab8b2", "#2a9d8f", "#264653"][-len(shares) :], height=0.6)
for place, value in enumerate(shares):
    axes.text(value, place, f"  {value / shares.sum():.0%}", va="center", weight="bold")
axes.xaxis.set_major_formatter(thousands)
axes.set_xlim(0, shares.max() * 1.12)
axes.set(title="Revenue by category, October 2025", xlabel="revenue, CNY", ylabel="category")
axes.grid(axis="y", visible=False)
figure.savefig("charts/categories.png")
plt.close("all")
print(sorted(str(path) for path in Path("charts").iterdir()))
