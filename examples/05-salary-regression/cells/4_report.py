import base64
import html

effects = {
    (row.model, row.term): row for row in regression.itertuples() if row.term.startswith("remote_")
}


def percent(value):
    return f"{100 * (np.exp(value) - 1):+.2f} %"


def p_value(p):
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


effect_rows = [["remote share", "model", "effect on pay", "95 % interval", "b (HC1 error)", "p"]]
for share in (50, 100):
    for model in formulas:
        row = effects[model, f"remote_{share}"]
        effect_rows.append(
            [
                f"{share} %",
                model,
                percent(row.coefficient),
                f"{percent(row.ci_low)} to {percent(row.ci_high)}",
                f"{row.coefficient:.4f} ({row.std_error:.4f})",
                p_value(row.p),
            ]
        )
group_rows = [["remote share", "people", "lower quartile", "median", "mean", "upper quartile"]]
for share, group in groups.items():
    amounts = [f"{group[name]:,.0f}" for name in ("q1", "median", "mean", "q3")]
    group_rows.append([f"{share} %", f"{group['count']:,}", *amounts])
senior = data["experience"].isin(["senior", "executive"]).groupby(data["remote_share"]).mean()
plain, held = effects["unadjusted", "remote_100"], effects["adjusted", "remote_100"]
half = effects["adjusted", "remote_50"]

blocks = [
    ("h1", "Remote work and pay"),
    (
        "p",
        f"People who work fully remotely earn {percent(plain.coefficient)} more than people on site. "
        f"Held equal in experience, job, region, company size and year, {percent(held.coefficient)} "
        f"is left; working half remotely goes with {percent(half.coefficient)}.",
    ),
    ("h2", "Data"),
    (
        "p",
        f"{len(data):,} salaries in USD, none missing; all rows are used in every figure and test.",
    ),
    ("table", group_rows),
    ("img", "charts/violin.png", "Violin plot of salaries by remote share"),
    ("img", "charts/scatter.png", "Scatter plot of salaries by remote share"),
    ("h2", "Tests"),
    (
        "p",
        f"The three groups differ: Kruskal-Wallis H = {summary['kruskal']['h']:,.1f}, "
        f"p {p_value(summary['kruskal']['p'])}. With so many rows even a tiny difference is "
        "significant, so the size of an effect says more than its p-value.",
    ),
    ("table", effect_rows),
    (
        "p",
        "Ordinary least squares on the natural logarithm of the salary; the reference is 0 % remote. "
        "Standard errors are robust (HC1), because pay varies more where it is higher.",
    ),
    ("h2", "What confounds the plain comparison"),
    (
        "p",
        f"Experience drives both: {senior[100]:.0%} of the fully remote are senior or executive, but "
        f"{senior[0]:.0%} of those on site. Within a level the boxes lie close together.",
    ),
    ("img", "charts/box.png", "Box plot of salaries by experience and remote share"),
    ("h2", "What the data cannot say"),
    (
        "p",
        "These are observations, not an experiment: people choose remote work, and employers choose "
        "people. What was not recorded (hours, skills, cost of living) can confound what is left. The "
        "numbers are made up for an exercise.",
    ),
]
lines, body = [], []
for kind, *rest in blocks:
    if kind == "table":
        head, *table_rows = rest[0]
        lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        lines += ["| " + " | ".join(row) + " |" for row in table_rows] + [""]
        cells = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in table_rows
        )
        header = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        body.append(f"<div class=wide><table><tr>{header}</tr>{cells}</table></div>")
    elif kind == "img":
        path, text = rest
        lines += [f"![{text}]({path})", ""]
        picture = base64.b64encode(Path(path).read_bytes()).decode()
        body.append(f'<img alt="{text}" src="data:image/png;base64,{picture}">')
    else:
        lines += [{"h1": "# ", "h2": "## ", "p": ""}[kind] + rest[0], ""]
        body.append(f"<{kind}>{html.escape(rest[0])}</{kind}>")
style = """
body{margin:0;background:#f1f5f5;color:#22313a;font:17px/1.6 "DejaVu Sans",system-ui,sans-serif}
main{max-width:900px;margin:40px auto;background:#fff;padding:40px 56px;border-radius:10px;
box-shadow:0 1px 12px #0002}h1{margin:0 0 .5em;color:#1d5c63}
h2{margin:1.7em 0 .4em;color:#1d5c63;border-bottom:3px solid #2a9d8f;padding-bottom:.2em}
img{width:100%;margin:10px 0}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;
font-size:15px}td,th{padding:.45em .6em;border-bottom:1px solid #dfe8e8;text-align:left}
@media(max-width:700px){main{padding:20px;margin:0}}
"""
Path("report.md").write_text("\n".join(lines), encoding="utf-8")
Path("report.html").write_text(
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><title>Remote work and pay</title>'
    f"<style>{style}</style><main>{''.join(body)}</main></html>",
    encoding="utf-8",
)
print("\n".join(lines)[:2500])
