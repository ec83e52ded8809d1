import csv
import itertools
import json
from datetime import datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

tour = json.loads(Path("tour.json").read_text())
wishes = json.loads(Path("wishes.json").read_text())
concerts = tour["concerts"]
zones = {concert["city"]: ZoneInfo(concert["timezone"]) for concert in concerts}
zones[wishes["home"]] = ZoneInfo(wishes["timezone"])


def rows(name):
    with Path(name).open(newline="") as file:
        return list(csv.DictReader(file))


def moment(text, city):
    return datetime.fromisoformat(text).replace(tzinfo=zones[city])


connections = rows("connections.csv")
for one in connections:
    one["start"] = moment(one["departs_local"], one["from"])
    one["end"] = moment(one["arrives_local"], one["to"])
    one["price"] = int(one["price_eur"])

good = [
    hotel for hotel in rows("hotels.csv") if float(hotel["rating"]) >= wishes["lowest_hotel_rating"]
]
hotels = {
    city: min((h for h in good if h["city"] == city), key=lambda h: int(h["eur_per_night"]))
    for city in (concert["city"] for concert in concerts)
}

route = [wishes["home"], *(concert["city"] for concert in concerts), wishes["home"]]
legs = [
    [one for one in connections if (one["from"], one["to"]) == leg]
    for leg in itertools.pairwise(route)
]
ahead = timedelta(hours=wishes["hours_in_town_before_a_concert"])


def keeps_the_rules(plan):
    if plan[0]["start"] < moment(wishes["leave_home_not_before"], wishes["home"]):
        return False
    if plan[-1]["end"] > moment(wishes["be_home_by"], wishes["home"]):
        return False
    for concert, before, after in zip(concerts, plan, plan[1:]):
        city = concert["city"]
        if before["end"] + ahead > moment(concert["starts_local"], city):
            return False
        day_after = moment(concert["starts_local"], city).date() + timedelta(days=1)
        if after["start"] < datetime.combine(day_after, time(9), zones[city]):
            return False
    return True


def nights(plan):
    return {
        concert["city"]: (after["start"].date() - before["end"].date()).days
        for concert, before, after in zip(concerts, plan, plan[1:])
    }


def cost(plan):
    beds = sum(n * int(hotels[city]["eur_per_night"]) for city, n in nights(plan).items())
    return sum(one["price"] for one in plan) + beds + sum(c["ticket_eur"] for c in concerts)


possible = [plan for plan in itertools.product(*legs) if keeps_the_rules(plan)]
best = min(possible, key=cost)
total = cost(best)
Path("plan.json").write_text(
    json.dumps(
        {
            "connections": [one["id"] for one in best],
            "hotels": {city: hotel["id"] for city, hotel in hotels.items()},
            "nights": nights(best),
            "total_eur": total,
        },
        indent=2,
    )
)
print(len(possible), "of", len(list(itertools.product(*legs))), "plans keep the rules")
for one in best:
    print(
        one["id"], one["from"], one["departs_local"], one["to"], one["arrives_local"], one["price"]
    )
print(nights(best), {city: hotel["name"] for city, hotel in hotels.items()}, total, "EUR")
