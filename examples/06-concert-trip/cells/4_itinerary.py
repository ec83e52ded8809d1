import html

happenings = []
for one in best:
    here = f"{one['end']:%H:%M}"
    if one["end"].date() != one["start"].date():
        here += f" on {one['end']:%d %b}"
    text = f"{one['from']} to {one['to']}, {one['mode']} {one['id']}, arrives {here} local time"
    happenings.append((one["start"].date(), f"{one['start']:%H:%M}", one["mode"], text))
for concert in concerts:
    start = moment(concert["starts_local"], concert["city"])
    text = f"{tour['band']} at {concert['venue']}, {concert['city']}"
    happenings.append((start.date(), f"{start:%H:%M}", "concert", text))
for city, (first, _) in stays.items():
    hotel, count = hotels[city], nights(best)[city]
    text = f"Check in: {hotel['name']}, {count} night{'s' if count > 1 else ''} (rated {hotel['rating']})"
    happenings.append((first, "~", "hotel", text))

days = ""
for day in sorted({happening[0] for happening in happenings}):
    items = "".join(
        f'<li class="{kind}"><time>{"" if at == "~" else at}</time><span>{html.escape(text)}</span></li>'
        for _, at, kind, text in sorted(h for h in happenings if h[0] == day)
    )
    note = "<p class=note>Clocks go back an hour in Europe.</p>" if f"{day}" == "2026-10-25" else ""
    days += f"<section><h2>{day:%A, %d %B %Y}</h2>{note}<ul>{items}</ul></section>"

costs = [(f"{one['mode']} {one['id']}: {one['from']} to {one['to']}", one["price"]) for one in best]
costs += [
    (
        f"{hotels[city]['name']}: {n} x {hotels[city]['eur_per_night']}",
        n * int(hotels[city]["eur_per_night"]),
    )
    for city, n in nights(best).items()
]
costs += [(f"ticket, {concert['city']}", concert["ticket_eur"]) for concert in concerts]
table = "".join(
    f"<tr><td>{html.escape(name)}</td><td>{value:,} EUR</td></tr>" for name, value in costs
)
style = """
:root{--ink:#264653;--teal:#2a9d8f;--sand:#e9a03b;--red:#d1495b}
body{margin:0;background:#f3f1ec;color:#22313a;font:17px/1.55 "DejaVu Sans",system-ui,sans-serif}
header{background:linear-gradient(135deg,#264653,#2a9d8f);color:#fff;padding:36px 24px;text-align:center}
header h1{margin:0;font-size:1.7em}main{max-width:720px;margin:0 auto;padding:16px}
section{background:#fff;border-radius:12px;padding:14px 20px;margin:14px 0;box-shadow:0 1px 8px #0001}
h2{font-size:1.05em;margin:.2em 0 .6em;color:var(--ink)}ul{list-style:none;margin:0;padding:0}
li{display:grid;grid-template-columns:4em 1fr;gap:8px;padding:8px 0 8px 12px;border-left:5px solid var(--teal);margin:6px 0}
li.concert{border-color:var(--red);font-weight:bold}li.hotel{border-color:var(--sand)}li.train{border-color:var(--ink)}
time{font-variant-numeric:tabular-nums;color:#56666d}.note{color:var(--red);margin:.2em 0}
table{width:100%;border-collapse:collapse}td{padding:.35em 0;border-bottom:1px solid #e5e5e0}
td:last-child{text-align:right;white-space:nowrap}tr.total td{font-weight:bold;border:0}
"""
page = f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{tour["band"]}: the trip</title>
<style>{style}</style><header><h1>{tour["band"]}</h1><p>{len(concerts)} concerts,
{best[0]["start"]:%d %B} to {best[-1]["end"]:%d %B %Y}, for {html.escape(wishes["name"])}</p></header>
<main>{days}<section><h2>Costs</h2><table>{table}<tr class=total><td>total</td>
<td>{total:,} EUR</td></tr></table></section><p>All times are local.</p></main></html>"""
Path("itinerary.html").write_text(page, encoding="utf-8")
letter = (
    f"Hello {wishes['name']},\n\nyour trip to {len(concerts)} concerts of {tour['band']}: it begins in "
    f"{best[0]['from']} on {best[0]['start']:%Y-%m-%d at %H:%M} and ends there on "
    f"{best[-1]['end']:%Y-%m-%d at %H:%M}, local times. It costs {total:,} EUR in total, of a budget of "
    f"{wishes['budget_eur']:,} EUR.\n\nThe calendar and the itinerary are attached.\n"
)
print(letter)
