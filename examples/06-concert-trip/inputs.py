"""A made-up band's concerts, with connections and hotels, across the end of summer time in Europe.

In: a folder and a seed. Out: `tour.json`, `connections.csv`, `hotels.csv`, `wishes.json`.
Must not know: how a plan is found or checked.
"""

from __future__ import annotations

import csv
import json
import random
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

FILES = ("tour.json", "connections.csv", "hotels.csv", "wishes.json")
SEED = 20
"""Of the connections and prices that are drawn."""
BAND = "The Paper Lanterns"
ZONES = {
    "Shanghai": "Asia/Shanghai",
    "Paris": "Europe/Paris",
    "London": "Europe/London",
    "Berlin": "Europe/Berlin",
}
CONCERTS = (
    ("Paris", "Salle des Arcades", "2026-10-22T20:00", "2026-10-22T22:30", 78),
    ("London", "Rotherhithe Hall", "2026-10-24T19:30", "2026-10-24T22:00", 85),
    ("Berlin", "Spreehalle", "2026-10-26T20:00", "2026-10-26T22:30", 69),
)
"""City, hall, local begin and end, price in EUR. Summer time ends on the 25th in Europe."""
HOTELS = ("Linden Hotel", "Harbour Inn", "Station Hotel", "Garden House", "Gallery Hotel")
LEGS = (
    ("Shanghai", "Paris", 13.2, 560, "2026-10-20T08:00", 56),
    ("Paris", "London", 2.4, 90, "2026-10-23T06:00", 32),
    ("London", "Berlin", 1.9, 110, "2026-10-25T06:00", 32),
    ("Berlin", "Shanghai", 12.1, 540, "2026-10-27T06:00", 44),
)
"""From, to, hours under way, usual price, first departure, hours in which they depart."""
RECIPIENTS = ("mei@friends.example",)
"""To whom the run may write."""
WISHES = {
    "home": "Shanghai",
    "name": "Mei",
    "email": RECIPIENTS[0],
    "leave_home_not_before": "2026-10-20T10:00",
    "be_home_by": "2026-10-29T22:00",
    "hours_in_town_before_a_concert": 5,
    "leave_a_city_not_before": "09:00 on the day after its concert",
    "lowest_hotel_rating": 8.0,
    "budget_eur": 2400,
}


def make(workspace: Path, seed: int = SEED) -> None:
    """Write the tour, the wishes, and what can be booked."""
    concerts = [
        {
            "city": city,
            "venue": venue,
            "timezone": ZONES[city],
            "starts_local": starts,
            "ends_local": ends,
            "ticket_eur": price,
        }
        for city, venue, starts, ends, price in CONCERTS
    ]
    write_json(workspace / "tour.json", {"band": BAND, "concerts": concerts})
    write_json(workspace / "wishes.json", {**WISHES, "timezone": ZONES["Shanghai"]})
    write_csv(workspace / "connections.csv", connections(seed))
    write_csv(workspace / "hotels.csv", hotels(seed))


def connections(seed: int = SEED) -> list[dict[str, object]]:
    """Draw nine connections for each leg; some come too late, some leave too early."""
    draw = random.Random(f"connections {seed}")
    rows: list[dict[str, object]] = []
    for origin, goal, hours, price, first, span in LEGS:
        for number in range(9):
            departs = waking_hour(draw, datetime.fromisoformat(first), span)
            start = departs.replace(tzinfo=ZoneInfo(ZONES[origin]))
            minutes = round(hours * 60 * draw.uniform(0.92, 1.15) / 5) * 5
            # Across zones and the clock change, only UTC says how long something takes.
            ends = (start.astimezone(ZoneInfo("UTC")) + timedelta(minutes=minutes)).astimezone(
                ZoneInfo(ZONES[goal])
            )
            train = {origin, goal} == {"Paris", "London"} and number % 2 == 0
            rows.append(
                {
                    "id": f"{origin[0]}{goal[0]}{number + 1}",
                    "mode": "train" if train else "flight",
                    "from": origin,
                    "to": goal,
                    "departs_local": departs.isoformat(timespec="minutes"),
                    "arrives_local": ends.replace(tzinfo=None).isoformat(timespec="minutes"),
                    "price_eur": round(price * draw.uniform(0.7, 1.5)),
                }
            )
    return rows


def waking_hour(draw: random.Random, first: datetime, span: int) -> datetime:
    """Draw a departure that is not in the middle of the night."""
    while True:
        departs = first + timedelta(minutes=5 * draw.randrange(span * 12))
        if 6 <= departs.hour <= 20:
            return departs


def hotels(seed: int = SEED) -> list[dict[str, object]]:
    """Draw five hotels for each city; the cheapest are not good enough."""
    draw = random.Random(f"hotels {seed}")
    rows: list[dict[str, object]] = []
    for city, base in (("Paris", 104), ("London", 118), ("Berlin", 79)):
        for number in range(5):
            rating = 7.1 + 0.45 * number
            rows.append(
                {
                    "id": f"{city[0]}H{number + 1}",
                    "city": city,
                    "name": f"{HOTELS[number]} {city}",
                    "rating": round(rating, 1),
                    "eur_per_night": round(base * (0.7 + 0.14 * number) * draw.uniform(0.9, 1.1)),
                }
            )
    draw.shuffle(rows)
    return rows


def write_json(path: Path, value: object) -> None:
    """Write JSON that people can read."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows under a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
