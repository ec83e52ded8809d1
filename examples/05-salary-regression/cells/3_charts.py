import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

PALETTE = ["#9ccfc8", "#2a9d8f", "#1d5c63"]
ACCENT = "#e9a03b"
Path("palette.json").write_text(json.dumps([*PALETTE, ACCENT]), encoding="utf-8")
Path("charts").mkdir(exist_ok=True)
plt.rcParams.update(
    {
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#ebebeb",
        "axes.axisbelow": True,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "figure.dpi": 130,
        "axes.edgecolor": "#888888",
    }
)
thousands = FuncFormatter(lambda value, _: f"{value / 1000:,.0f}k")
shares = [0, 50, 100]
pay = [data.loc[data["remote_share"] == share, "salary_usd"].to_numpy() for share in shares]
labels = [f"{share} %\nn = {len(values):,}" for share, values in zip(shares, pay)]
limit = float(np.percentile(data["salary_usd"], 99.5))


def finish_axes(axes, title):
    axes.set_title(title)
    axes.set_xlabel("share of remote work")
    axes.set_ylabel("salary, USD")
    axes.yaxis.set_major_formatter(thousands)
    axes.set_ylim(0, limit)


figure, axes = plt.subplots(figsize=(8.5, 5), layout="constrained")
parts = axes.violinplot(
    [values[values < limit] for values in pay], showmedians=True, showextrema=False, widths=0.85
)
for body, colour in zip(parts["bodies"], PALETTE):
    body.set(facecolor=colour, edgecolor=colour, alpha=0.9)
parts["cmedians"].set(color=ACCENT, linewidth=2.5)
for place, values in enumerate(pay, 1):
    axes.text(
        place + 0.04,
        np.median(values) * 1.04,
        f"{np.median(values) / 1000:,.0f}k",
        size=10,
        color="white" if place == 3 else "black",
    )
axes.set_xticks([1, 2, 3], labels)
finish_axes(axes, "Distribution of salaries by remote share (line: median)")
figure.savefig("charts/violin.png")

levels = ["entry", "mid", "senior", "executive"]
figure, axes = plt.subplots(figsize=(9.5, 5), layout="constrained")
for offset, share, colour in zip((-0.26, 0, 0.26), shares, PALETTE):
    chosen = data[data["remote_share"] == share]
    boxes = axes.boxplot(
        [chosen.loc[chosen["experience"] == level, "salary_usd"] for level in levels],
        positions=np.arange(len(levels)) + offset,
        widths=0.22,
        showfliers=False,
        patch_artist=True,
        medianprops={"color": ACCENT, "linewidth": 2},
        whiskerprops={"color": "#888888"},
        capprops={"color": "#888888"},
    )
    for box in boxes["boxes"]:
        box.set(facecolor=colour, edgecolor=colour)
    boxes["boxes"][0].set_label(f"{share} % remote")
axes.set_xticks(range(len(levels)), levels)
finish_axes(axes, "Within a level of experience, remote share matters little")
axes.set_xlabel("experience")
axes.legend(frameon=False, loc="upper left")
figure.savefig("charts/box.png")

figure, axes = plt.subplots(figsize=(9.5, 5), layout="constrained")
draw = np.random.default_rng(0)
for place, (values, colour) in enumerate(zip(pay, PALETTE)):
    some = draw.choice(values, 4000, replace=False)
    axes.scatter(place + draw.uniform(-0.36, 0.36, some.size), some, s=5, color=colour, alpha=0.35)
means = [values.mean() for values in pay]
axes.plot(range(3), means, color=ACCENT, linewidth=2, marker="D", markersize=8)
for place, value in enumerate(means):
    axes.annotate(
        f"mean {value / 1000:,.0f}k",
        (place, value),
        xytext=(10, 12),
        textcoords="offset points",
        weight="bold",
        bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )
axes.set_xticks(range(3), labels)
finish_axes(axes, "Salaries, 4,000 people drawn from each group")
figure.savefig("charts/scatter.png")
plt.close("all")
print(sorted(path.name for path in Path("charts").iterdir()))
