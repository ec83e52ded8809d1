"""How a model might plan the trip: zones that lack a definition, an address with a typing error."""

from __future__ import annotations

import re

from examples.turns import call, cell, done, finish, plan, reacting, run, turn
from openk2.agent.models.scripted import Turn
from openk2.types import ToolCall


def turns() -> list[Turn]:
    """Return the model's decisions."""
    return [*planned(), *sent()]


def planned() -> list[Turn]:
    """Find the plan and write the calendar."""
    return [
        turn(
            "Read the rules, then search all plans: there are few enough.",
            plan(
                ("Find the cheapest plan", "all rules kept", "plan.json"),
                ("Write the calendar", "right instants, zones defined", "trip.ics"),
                ("Write the itinerary", "opens, and fits a phone", "itinerary.html"),
                ("Send it", "one mail, to the traveller", "itinerary.html"),
            ),
            call("read_file", path="wishes.json"),
            call("read_file", path="tour.json"),
        ),
        turn(
            "Times are local, so every time gets the zone of its place before anything is compared.",
            run(cell(__file__, "1_plan.py")),
            after="Paper Lanterns",
        ),
        turn(
            "The calendar, and read it back as other programs will.",
            done(p1="plan.json, of all plans that keep the rules"),
            run(cell(__file__, "2_calendar.py")),
            after="plans keep the rules",
        ),
        turn(
            "Instants are right, but the file names zones that it does not define; some programs "
            "would take those times for their own. Add the definitions.",
            run(cell(__file__, "3_zones.py")),
            after=r"without a definition: \['Asia/Shanghai'",
        ),
    ]


def sent() -> list[Turn]:
    """Write the page and send it."""
    return [
        turn(
            "Now the page and the letter.",
            done(p2="ten events read back as they were meant"),
            run(cell(__file__, "4_itinerary.py")),
            after=r"without a definition: \[\]",
        ),
        turn(
            "Look at the page.",
            call("browser", action="open", url="itinerary.html"),
            call("browser", action="screenshot", full_page=True),
            after="Hello Mei",
        ),
        reacting(
            "It is complete. Send both files.",
            lambda seen: letter(seen, "mei@friend.example"),
        ),
        reacting(
            "I mistyped the address: wishes.json has mei@friends.example.",
            lambda seen: letter(seen, "mei@friends.example"),
            after="may not be written to",
        ),
        turn(
            "Sent.",
            done(p3="itinerary.html opened without errors", p4="the server took it"),
            after="^Sent to mei@friends.example",
        ),
        turn(
            "Done.",
            finish(
                "The cheapest trip that keeps the rules is in plan.json, trip.ics and itinerary.html; "
                "both were mailed to Mei.",
                "itinerary.html",
                "trip.ics",
                "plan.json",
            ),
        ),
    ]


def letter(seen: list[str], address: str) -> ToolCall:
    """Send what the kernel wrote as a letter."""
    text = next(
        found[0]
        for result in seen
        if (found := re.search(r"Hello Mei.*?are attached\.", result, re.S))
    )
    return call(
        "send_email",
        to=[address],
        subject="The Paper Lanterns: your trip to three concerts",
        text=text.strip() + "\n",
        attachments=["trip.ics", "itinerary.html"],
    )
