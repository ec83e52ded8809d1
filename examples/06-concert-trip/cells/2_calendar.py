from icalendar import Alarm, Calendar, Event

stamp = datetime(2026, 9, 1, tzinfo=ZoneInfo("UTC"))
stays = {
    concert["city"]: (before["end"].date(), after["start"].date())
    for concert, before, after in zip(concerts, best, best[1:])
}
entries = [
    (
        f"{one['id']}: {one['mode']} {one['from']} to {one['to']}",
        one["start"],
        one["end"],
        one["from"],
        None,
    )
    for one in best
]
entries += [
    (
        f"{tour['band']}, {concert['venue']}",
        moment(concert["starts_local"], concert["city"]),
        moment(concert["ends_local"], concert["city"]),
        f"{concert['venue']}, {concert['city']}",
        timedelta(hours=-3),
    )
    for concert in concerts
]
entries += [
    (hotels[city]["name"], first, last, hotels[city]["name"], None)
    for city, (first, last) in stays.items()
]
calendar = Calendar()
calendar.add("prodid", "-//concert trip//EN")
calendar.add("version", "2.0")
for number, (summary, start, end, place, alarm) in enumerate(entries, 1):
    event = Event()
    event.add("uid", f"{number}@concert-trip.example")
    event.add("dtstamp", stamp)
    event.add("summary", summary)
    event.add("location", place)
    event.add("dtstart", start)
    event.add("dtend", end)
    if alarm is not None:
        reminder = Alarm()
        reminder.add("action", "DISPLAY")
        reminder.add("description", summary)
        reminder.add("trigger", alarm)
        event.add_component(reminder)
    calendar.add_component(event)
Path("trip.ics").write_bytes(calendar.to_ical())

back = Calendar.from_ical(Path("trip.ics").read_bytes())
for event in back.walk("VEVENT"):
    print(event["summary"], event.decoded("dtstart"), event.decoded("dtend"))
used = {event["dtstart"].params.get("TZID") for event in back.walk("VEVENT")} - {None}
defined = {str(zone["tzid"]) for zone in back.walk("VTIMEZONE")}
print("zones without a definition:", sorted(used - defined))
