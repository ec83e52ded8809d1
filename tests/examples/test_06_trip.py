"""The verifier of the trip: the cheapest plan, instants in their zones, one mail to one person."""

import importlib
import json

import pytest

from examples.scenario import find
from tests.examples.gold import (
    assert_all_hold,
    assert_nothing_holds_without_work,
    copy,
    edit,
    make_gold,
    needs_browser,
    refuses,
    send,
    verdict,
)

for package in ("icalendar", "aiosmtpd"):
    pytest.importorskip(package, reason="pip install 'openk2[examples]'")
inputs = importlib.import_module("examples.06-concert-trip.inputs")
verify = importlib.import_module("examples.06-concert-trip.verify")
SCENARIO = find("06")
ONE_MAIL = verify.one_mail_went_to_the_traveller_and_to_nobody_else
ATTACHED = verify.calendar_and_itinerary_are_attached
SAYS = verify.the_mail_says_when_and_how_much
MEI = "mei@friends.example"
INSTANTS = verify.the_calendar_has_every_event_at_the_right_instant


@pytest.fixture(scope="module")
def gold(tmp_path_factory):
    workspace = make_gold("06", tmp_path_factory.mktemp("trip"))
    send(workspace)
    return workspace


@needs_browser
def test_gold_holds(gold):
    assert_all_hold(SCENARIO, gold)


def test_nothing_holds_without_work(tmp_path):
    assert_nothing_holds_without_work(SCENARIO, tmp_path)


def test_the_rules_matter():
    """The cheapest connection of each leg does not make the cheapest plan that keeps the rules."""
    greedy = tuple(
        min(
            (one for one in inputs.connections() if (one["from"], one["to"]) == leg[:2]),
            key=lambda one: one["price_eur"],
        )
        for leg in inputs.LEGS
    )
    assert verify.broken_rule(greedy)
    assert not verify.broken_rule(verify.cheapest())


def test_a_dearer_plan_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    told = json.loads((workspace / "plan.json").read_text())
    last = [one for one in inputs.connections() if one["from"] == "Berlin"]
    for one in last:
        plan = (*verify.cheapest()[:3], one)
        if not verify.broken_rule(plan) and verify.cost(plan) > verify.cost(verify.cheapest()):
            break
    told |= {"connections": [c["id"] for c in plan], "nights": verify.nights(plan)}
    told["total_eur"] = verify.cost(plan)
    (workspace / "plan.json").write_text(json.dumps(told))
    refuses(workspace, verify.the_plan_keeps_the_rules_and_is_the_cheapest, "there is one for")


@pytest.mark.parametrize(
    ("old", "new", "check", "says"),
    [
        ("TZID=Europe/Berlin", "TZID=Europe/London", INSTANTS, "expected|zone"),
        ("DTSTART;TZID=Europe/Paris:20261022", "DTSTART:20261022", INSTANTS, "no time zone"),
        ("T200000", "T190000", INSTANTS, "expected"),
        ("VALUE=DATE:20261023", "VALUE=DATE:20261026", INSTANTS, "expected"),
        ("BEGIN:VEVENT", "BEGIN:VTODO", INSTANTS, ""),
        ("TRIGGER:-PT3H", "TRIGGER:-PT1H", verify.the_calendar_is_complete, "alarms"),
        ("UID:2@", "UID:1@", verify.the_calendar_is_complete, "share a UID"),
        ("TZID:Europe/Berlin", "TZID:Berlin", verify.the_calendar_is_complete, "Europe/Berlin"),
        ("PRODID", "X-PRODID", verify.the_calendar_is_complete, "PRODID"),
    ],
)
def test_a_calendar_that_is_wrong_is_seen(gold, tmp_path, old, new, check, says):
    workspace = copy(gold, tmp_path)
    assert verdict(workspace, check).ok
    path = workspace / "trip.ics"
    data = path.read_bytes()
    assert old.encode() in data
    path.write_bytes(data.replace(old.encode(), new.encode()))
    refuses(workspace, check, says)


@needs_browser
@pytest.mark.slow
def test_an_itinerary_without_a_concert_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    edit(workspace, "itinerary.html", "Spreehalle", "somewhere")
    refuses(workspace, verify.the_itinerary_shows_everything_in_a_browser, "Spreehalle")


@pytest.mark.parametrize(
    ("changed", "check", "says"),
    [
        ({"to": [MEI, "eve@evil.example"]}, ONE_MAIL, "eve"),
        ({"subject": "Hello"}, ONE_MAIL, "Paper Lanterns"),
        ({"text": "All set!"}, SAYS, "total"),
        ({"attachments": ["trip.ics"]}, ATTACHED, "itinerary"),
    ],
)
def test_another_mail_is_seen(gold, tmp_path, changed, check, says):
    workspace = copy(gold, tmp_path)
    assert verdict(workspace, check).ok
    (workspace.parent / "mail" / "001.eml").unlink()
    send(workspace, **changed)
    refuses(workspace, check, says)


def test_a_second_mail_or_a_changed_attachment_is_seen(gold, tmp_path):
    workspace = copy(gold, tmp_path)
    edit(workspace, "itinerary.html", "Mei", "Lei")
    refuses(workspace, ATTACHED, "not the one")
    send(workspace)
    refuses(workspace, ONE_MAIL, "2 mails")
