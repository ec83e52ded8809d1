calendar.add_missing_timezones()
Path("trip.ics").write_bytes(calendar.to_ical())
back = Calendar.from_ical(Path("trip.ics").read_bytes())
defined = {str(zone["tzid"]) for zone in back.walk("VTIMEZONE")}
print("zones without a definition:", sorted(used - defined))
for event, entry in zip(back.walk("VEVENT"), entries):
    assert event.decoded("dtstart") == entry[1] and event.decoded("dtend") == entry[2], entry[0]
print(len(entries), "events read back as they were meant")
