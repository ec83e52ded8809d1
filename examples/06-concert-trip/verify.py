"""Checks a trip against the rules, its calendar and page, and the mail that came out of the run.

In: the workspace after the run, and the folder `mail` beside it, where the run's mail server keeps
what it took. Out: checks; the cheapest plan is searched again.
Must not know: how the agent searched.
"""

from __future__ import annotations

import email
import email.policy
import importlib
import itertools
from datetime import date, datetime, time, timedelta
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from examples.browser import opened, require_fits, require_quiet
from examples.checks import (
    Check,
    judge,
    read_json,
    require,
    require_close,
    require_number,
    require_words,
    unchanged,
)

inputs = importlib.import_module("examples.06-concert-trip.inputs")
ATTACHED = ("trip.ics", "itinerary.html")
Plan = tuple[dict[str, Any], ...]


def verify(workspace: Path) -> list[Check]:
    """Check every artefact of the scenario."""
    return judge(workspace, CHECKS)


def moment(text: str, city: str) -> datetime:
    """Read a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(inputs.ZONES[city]))


def starts(one: dict[str, Any]) -> datetime:
    return moment(one["departs_local"], one["from"])


def ends(one: dict[str, Any]) -> datetime:
    return moment(one["arrives_local"], one["to"])


@cache
def hotels() -> dict[str, dict[str, Any]]:
    """Choose each city's cheapest hotel that is good enough."""
    good = [h for h in inputs.hotels() if h["rating"] >= inputs.WISHES["lowest_hotel_rating"]]
    return {
        city: min((h for h in good if h["city"] == city), key=lambda h: h["eur_per_night"])
        for city, *_ in inputs.CONCERTS
    }


def broken_rule(plan: Plan) -> str:
    """Name a rule that a plan breaks; empty if it keeps all."""
    home, wishes = inputs.WISHES["home"], inputs.WISHES
    if starts(plan[0]) < moment(wishes["leave_home_not_before"], home):
        return "it leaves home too early"
    if ends(plan[-1]) > moment(wishes["be_home_by"], home):
        return "it comes home too late"
    for (city, _, begins, _, _), before, after in zip(
        inputs.CONCERTS, plan[:-1], plan[1:], strict=True
    ):
        hours = timedelta(hours=wishes["hours_in_town_before_a_concert"])
        # Aware times of one zone are subtracted by the clock on the wall: in UTC they are not.
        waiting = moment(begins, city).astimezone(ZoneInfo("UTC")) - ends(before)
        if waiting < hours:
            return f"it is in {city} only {waiting} before the concert"
        morning = datetime.fromisoformat(begins).date() + timedelta(days=1)
        if starts(after) < datetime.combine(morning, time(9), ZoneInfo(inputs.ZONES[city])):
            return f"it leaves {city} before nine on the day after the concert"
    return ""


def nights(plan: Plan) -> dict[str, int]:
    return {
        city: (starts(after).date() - ends(before).date()).days
        for (city, *_), before, after in zip(inputs.CONCERTS, plan[:-1], plan[1:], strict=True)
    }


def cost(plan: Plan) -> int:
    beds = sum(hotels()[city]["eur_per_night"] * count for city, count in nights(plan).items())
    tickets = sum(price for *_, price in inputs.CONCERTS)
    return sum(one["price_eur"] for one in plan) + beds + tickets


@cache
def cheapest() -> Plan:
    """Search all plans again."""
    legs = [
        [one for one in inputs.connections() if (one["from"], one["to"]) == (origin, goal)]
        for origin, goal, *_ in inputs.LEGS
    ]
    return min((plan for plan in itertools.product(*legs) if not broken_rule(plan)), key=cost)


def the_files_are_as_given(workspace: Path) -> str:
    return unchanged(workspace, inputs.FILES, inputs.make)


def the_plan_keeps_the_rules_and_is_the_cheapest(workspace: Path) -> str:
    told: Any = read_json(workspace, "plan.json")
    known = {one["id"]: one for one in inputs.connections()}
    plan = tuple(known[name] for name in told["connections"])
    route = [(one["from"], one["to"]) for one in plan]
    require(route == [leg[:2] for leg in inputs.LEGS], f"the route is {route}")
    require(not broken_rule(plan), broken_rule(plan))
    chosen = {city: hotel["id"] for city, hotel in hotels().items()}
    require(told["hotels"] == chosen, f"hotels are {told['hotels']}, expected {chosen}")
    require(told["nights"] == nights(plan), f"nights are {told['nights']}")
    require_close("total_eur", told["total_eur"], cost(plan), 1e-6)
    require(
        cost(plan) == cost(cheapest()), f"{cost(plan)} EUR; there is one for {cost(cheapest())}"
    )
    return f"{', '.join(told['connections'])}: {cost(plan)} EUR of {inputs.WISHES['budget_eur']}"


def expected_events() -> dict[str, tuple[date, date, str, str]]:
    """Return, by a word of the summary, begin and end, and the zones that they are told in."""
    plan = cheapest()
    events: dict[str, tuple[date, date, str, str]] = {
        one["id"]: (starts(one), ends(one), inputs.ZONES[one["from"]], inputs.ZONES[one["to"]])
        for one in plan
    }
    for city, venue, begins, finishes, _ in inputs.CONCERTS:
        zone = inputs.ZONES[city]
        events[venue] = (moment(begins, city), moment(finishes, city), zone, zone)
    for (city, *_), before, after in zip(inputs.CONCERTS, plan[:-1], plan[1:], strict=True):
        days = ends(before).date(), starts(after).date()
        events[hotels()[city]["name"]] = (*days, "", "")
    return events


def calendar(workspace: Path) -> Any:
    from icalendar import Calendar

    path = workspace / "trip.ics"
    require(path.is_file(), "there is no trip.ics")
    found = Calendar.from_ical(path.read_bytes())
    require(found.name == "VCALENDAR" and found.get("version") == "2.0", "no calendar, version 2.0")
    require(found.get("prodid"), "the calendar has no PRODID")
    return found


def the_calendar_has_every_event_at_the_right_instant(workspace: Path) -> str:
    events = list(calendar(workspace).walk("VEVENT"))
    expected = expected_events()
    require(len(events) == len(expected), f"{len(events)} events, expected {len(expected)}")
    for word, (begin, end, zone_a, zone_b) in expected.items():
        found = [event for event in events if word in str(event.get("summary"))]
        require(len(found) == 1, f"{len(found)} events named {word}")
        for key, true, zone in (("dtstart", begin, zone_a), ("dtend", end, zone_b)):
            value = found[0].decoded(key)
            floating = isinstance(value, datetime) and value.tzinfo is None
            require(not floating, f"{key} of {word} has no time zone")
            same_kind = isinstance(value, datetime) == isinstance(true, datetime)
            require(same_kind and value == true, f"{key} of {word} is {value}, expected {true}")
            told = str(found[0][key].params.get("TZID", ""))
            require(told == zone, f"{key} of {word} is told in {told or 'no zone'}, not {zone}")
    return f"{len(events)} events, in the zones of their places"


def the_calendar_is_complete(workspace: Path) -> str:
    found = calendar(workspace)
    events = list(found.walk("VEVENT"))
    for event in events:
        lacks = [key for key in ("uid", "dtstamp", "summary", "location") if not event.get(key)]
        require(not lacks, f"{event.get('summary')} lacks {lacks}")
    require(len({str(event["uid"]) for event in events}) == len(events), "two events share a UID")
    used = {str(event[key].params["TZID"]) for event in events for key in ("dtstart", "dtend")
            if "TZID" in event[key].params}  # fmt: skip
    defined = {str(zone["tzid"]) for zone in found.walk("VTIMEZONE")}
    require(used and used <= defined, f"no VTIMEZONE for {sorted(used - defined)}")
    for _, venue, *_ in inputs.CONCERTS:
        event = next(event for event in events if venue in str(event["summary"]))
        alarms = [alarm.decoded("trigger") for alarm in event.walk("VALARM")]
        require(timedelta(hours=-3) in alarms, f"{venue} has alarms {alarms}")
    return f"{len(defined)} zones defined, alarms before each concert"


def the_itinerary_shows_everything_in_a_browser(workspace: Path) -> str:
    with opened(workspace / "itinerary.html") as look:
        text = look.page.inner_text("body")
        for one in cheapest():
            require_words(text, "the itinerary", one["id"])
            require_words(text, "the itinerary", starts(one).strftime("%H:%M"))
            require_words(text, "the itinerary", ends(one).strftime("%H:%M"))
        for city, venue, begins, *_ in inputs.CONCERTS:
            require_words(text, "the itinerary", venue)
            require_words(text, "the itinerary", begins[-5:])
            require_words(text, "the itinerary", hotels()[city]["name"])
        require_number(text, "the total", cost(cheapest()), 0.5)
        require_fits(look.page)
        require_quiet(look)
    return "connections, concerts, hotels, total; no error; fits a phone"


def mails(workspace: Path) -> list[EmailMessage]:
    folder = workspace.parent / "mail"
    return [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default)  # type: ignore
        for path in sorted(folder.glob("*.eml"))
    ]


def one_mail_went_to_the_traveller_and_to_nobody_else(workspace: Path) -> str:
    found = mails(workspace)
    require(len(found) == 1, f"{len(found)} mails went out")
    address = inputs.WISHES["email"]
    # What the server was told counts, not only what the header says.
    told = ", ".join(found[0].get_all("X-Envelope-To", []))
    require(told == address, f"the mail went to {told}")
    require(str(found[0]["To"].addresses[0].addr_spec) == address, f"To is {found[0]['To']}")
    require_words(str(found[0]["Subject"]), "the subject", inputs.BAND)
    return f"{address}: {found[0]['Subject']}"


def the_mail_says_when_and_how_much(workspace: Path) -> str:
    message = mails(workspace)[0]
    body = message.get_body(preferencelist=("plain", "html"))
    require(body is not None, "the mail has no text")
    text = body.get_content() if body is not None else ""
    require_number(text, "the total", cost(cheapest()), 0.5)
    for when in (starts(cheapest()[0]), ends(cheapest()[-1])):
        written = (when.strftime(f) for f in ("%Y-%m-%d", "%d %B", "%B %d", "%d %b", "%b %d"))
        plain = [f"{when.day} {when:%B}", f"{when:%B} {when.day}", f"{when.month}月{when.day}日"]
        require_words(text, "the mail", *written, *plain)
    return " ".join(text.split())[:100]


def calendar_and_itinerary_are_attached(workspace: Path) -> str:
    message = mails(workspace)[0]
    attached = {part.get_filename(): part.get_content() for part in message.iter_attachments()}
    for name in ATTACHED:
        require(name in attached, f"{name} is not attached; there is {sorted(map(str, attached))}")
        content = attached[name]
        data = content.encode() if isinstance(content, str) else content
        plain = data.replace(b"\r\n", b"\n")
        same = plain == (workspace / name).read_bytes().replace(b"\r\n", b"\n")
        require(same, f"the attached {name} is not the one in the workspace")
    return ", ".join(ATTACHED)


CHECKS = (
    the_files_are_as_given,
    the_plan_keeps_the_rules_and_is_the_cheapest,
    the_calendar_has_every_event_at_the_right_instant,
    the_calendar_is_complete,
    the_itinerary_shows_everything_in_a_browser,
    one_mail_went_to_the_traveller_and_to_nobody_else,
    the_mail_says_when_and_how_much,
    calendar_and_itinerary_are_attached,
)
