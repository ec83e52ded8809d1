"""A personal calendar: events, people, rooms and reminders."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from random import Random
from typing import Annotated

from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

EventId = Annotated[str, Slot("event_id", "event id", "日程编号", "id", entity="events")]
PersonId = Annotated[str, Slot("person_id", "person id", "联系人编号", "id", entity="people")]
RoomId = Annotated[str, Slot("room_id", "room id", "会议室编号", "id", entity="rooms")]
Title = Annotated[str, Slot("title", "title of the event", "日程标题")]
Query = Annotated[str, Slot("query", "words in the title", "标题中的词", accepts=("title",))]
Day = Annotated[str, Slot("day", "day", "日期", "date")]
Start = Annotated[str, Slot("start", "start time", "开始时间", "datetime")]
Minutes = Annotated[int, Slot("minutes", "length in minutes", "时长（分钟）", "count")]
Name = Annotated[str, Slot("name", "name of the person", "联系人姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
Seats = Annotated[int, Slot("seats", "number of seats", "座位数", "count")]
Before = Annotated[int, Slot("before", "minutes before the start", "提前的分钟数", "count")]


@dataclass(frozen=True, slots=True)
class Event:
    """Something at a time."""

    id: EventId
    title: Title
    day: Day
    start: Start
    minutes: Minutes
    guests: tuple[str, ...] = ()
    room_id: RoomId = ""
    reminder: Before | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can be invited."""

    id: PersonId
    name: Name
    email: Email


@dataclass(frozen=True, slots=True)
class Room:
    """A room that an event can take place in."""

    id: RoomId
    name: Annotated[str, Slot("room_name", "name of the room", "会议室名称")]
    seats: Seats


@dataclass(slots=True)
class Calendar(World):
    """Everything there is."""

    events: dict[str, Event] = field(default_factory=dict[str, Event])
    people: dict[str, Person] = field(default_factory=dict[str, Person])
    rooms: dict[str, Room] = field(default_factory=dict[str, Room])


TITLES = (
    "Dentist", "Team lunch", "Budget review", "Yoga class", "Project kickoff", "Piano lesson",
    "Car inspection", "Board meeting", "Parents evening", "Code review", "Haircut", "Book club",
)  # fmt: skip
NAMES = (
    "Ada Novak", "Ben Okoro", "Chen Wei", "Dana Silva", "Emil Berg", "Fatima Noor", "Goran Ilic",
    "Hana Sato", "Ivan Petrov", "Julia Roth", "Kofi Mensah", "Lena Fischer",
)  # fmt: skip
ROOMS = ("Maple", "Cedar", "Willow", "Birch", "Aspen", "Juniper")


def seed(rng: Random) -> Calendar:
    """Make a fortnight of events; some titles occur twice."""
    first = date(2026, 1, 5) + timedelta(days=rng.randrange(300))
    world = Calendar(f"{first} 08:00")
    for name in rng.sample(NAMES, 6):
        key = new_id(world.people, "P", name)
        address = f"{name.split()[0].lower()}@example.com"
        world.people[key] = Person(key, name, address)
    for name in rng.sample(ROOMS, 4):
        key = new_id(world.rooms, "R", name)
        world.rooms[key] = Room(key, name, rng.choice((4, 6, 8, 12, 20)))
    for title in rng.choices(TITLES, k=9):
        start = _free_start(world, rng)
        key = new_id(world.events, "E", title, start)
        world.events[key] = Event(key, title, start[:10], start, rng.choice((30, 45, 60)))
    return world


def _free_start(world: Calendar, rng: Random) -> str:
    taken = {event.start for event in world.events.values()}
    while True:
        day = date.fromisoformat(world.today) + timedelta(days=rng.randint(1, 14))
        start = f"{day} {rng.randint(8, 18):02}:{rng.choice(('00', '30'))}"
        if start not in taken:
            return start


def _overlaps(world: Calendar, start: str, minutes: int, but: str = "") -> bool:
    begin = datetime.fromisoformat(start)
    end = begin + timedelta(minutes=minutes)
    for event in world.events.values():
        other = datetime.fromisoformat(event.start)
        if event.id != but and begin < other + timedelta(minutes=event.minutes) and other < end:
            return True
    return False


# --- tools ---------------------------------------------------------------------------------------


@tool("Find events by words of the title, a day, or both.", "按标题中的词、日期或两者查找日程。")
def find_events(world: Calendar, query: Query | None = None, day: Day | None = None) -> list[Event]:
    """Return at most five, the earliest first."""
    found = [
        event
        for event in world.events.values()
        if (query is None or query.lower() in event.title.lower())
        and (day is None or event.day == day)
    ]
    return sorted(found, key=lambda event: event.start)[:5]


@tool("Show one event.", "查看一个日程。", errors=("not_found",))
def get_event(world: Calendar, event_id: EventId) -> Event:
    """Return the event."""
    return find(world.events, event_id, "event")


@tool(
    "Create an event. Returns it.",
    "新建一个日程，返回该日程。",
    writes=True,
    errors=("in_the_past", "conflict"),
)
def add_event(world: Calendar, title: Title, start: Start, minutes: Minutes = 60) -> Event:
    """Add an event where the time is free."""
    check(start > world.now, "in_the_past", "The start time is in the past.")
    check(not _overlaps(world, start, minutes), "conflict", "There is an event at that time.")
    key = new_id(world.events, "E", title, start)
    world.events[key] = Event(key, title, start[:10], start, minutes)
    return world.events[key]


@tool(
    "Move an event to another start time.",
    "把日程改到另一个开始时间。",
    writes=True,
    errors=("not_found", "in_the_past", "conflict"),
)
def move_event(world: Calendar, event_id: EventId, start: Start) -> Event:
    """Change when an event begins."""
    event = find(world.events, event_id, "event")
    check(start > world.now, "in_the_past", "The start time is in the past.")
    taken = _overlaps(world, start, event.minutes, but=event_id)
    check(not taken, "conflict", "There is an event at that time.")
    world.events[event_id] = replace(event, start=start, day=start[:10])
    return world.events[event_id]


@tool("Delete an event.", "删除一个日程。", writes=True, errors=("not_found",))
def delete_event(world: Calendar, event_id: EventId) -> dict[str, str]:
    """Remove an event."""
    event = find(world.events, event_id, "event")
    del world.events[event_id]
    return {"deleted": event.title}


@tool("Find people by name.", "按姓名查找联系人。")
def find_people(world: Calendar, name: Name) -> list[Person]:
    """Return at most five people whose names have the words."""
    return [p for p in world.people.values() if name.lower() in p.name.lower()][:5]


@tool(
    "Invite a person to an event.",
    "邀请联系人参加日程。",
    writes=True,
    errors=("not_found", "already_invited"),
)
def invite(world: Calendar, event_id: EventId, person_id: PersonId) -> Event:
    """Add a guest."""
    event = find(world.events, event_id, "event")
    person = find(world.people, person_id, "person")
    check(person.email not in event.guests, "already_invited", "This person is invited already.")
    guests = tuple(sorted((*event.guests, person.email)))
    world.events[event_id] = replace(event, guests=guests)
    return world.events[event_id]


@tool("List rooms with at least a number of seats.", "列出座位数足够的会议室。")
def list_rooms(world: Calendar, seats: Seats) -> list[Room]:
    """Return the smallest rooms that are large enough."""
    fitting = [room for room in world.rooms.values() if room.seats >= seats]
    return sorted(fitting, key=lambda room: (room.seats, room.name))[:5]


@tool(
    "Set the room of an event.",
    "设置日程的会议室。",
    writes=True,
    errors=("not_found",),
)
def set_room(world: Calendar, event_id: EventId, room_id: RoomId) -> Event:
    """Put an event into a room."""
    event = find(world.events, event_id, "event")
    find(world.rooms, room_id, "room")
    world.events[event_id] = replace(event, room_id=room_id)
    return world.events[event_id]


@tool("Set a reminder for an event.", "为日程设置提醒。", writes=True, errors=("not_found",))
def set_reminder(world: Calendar, event_id: EventId, before: Before) -> Event:
    """Set how long before the start to remind."""
    event = find(world.events, event_id, "event")
    world.events[event_id] = replace(event, reminder=before)
    return world.events[event_id]


# --- what users want -----------------------------------------------------------------------------


def _event(event: Event) -> dict[str, Fact]:
    return {"title": Fact("title", event.title)}


def _day(event: Event) -> dict[str, Fact]:
    return {"day": Fact("day", event.day)}


def _start(start: str) -> Fact:
    return Fact("start", start)


def _an_event(world: Calendar, rng: Random) -> Event:
    return rng.choice(list(world.events.values()))


@intent(
    en=("Put {title} in my calendar at {start}[ for {minutes} minutes].",
        "I need a new event: {title}, {start}[, {minutes} minutes long]."),
    zh=("在日历里加上{title}，时间{start}[，时长{minutes}分钟]。",
        "新建日程{title}[，{start}开始][，{minutes}分钟]。"),
    reply_en=("{title} is in your calendar at {start}.",),
    reply_zh=("已添加{title}，{start}开始。",),
)  # fmt: skip
def add(world: Calendar, rng: Random) -> Goal:
    """Create an event."""
    title, start, minutes = rng.choice(TITLES), _free_start(world, rng), rng.choice((15, 30, 90))
    while _overlaps(world, start, minutes):
        start = _free_start(world, rng)
    arguments = {"title": title, "start": start, "minutes": minutes}
    facts = {"title": Fact("title", title), "start": _start(start)}
    facts["minutes"] = Fact("minutes", minutes)
    return Goal((Call("add_event", arguments),), facts)


@intent(
    en=("Move my {title} event[ to {start}].", "Can you reschedule {title}[ to {start}]?"),
    zh=("把{title}[改到{start}]。", "请把我的{title}日程调整一下[，改成{start}]。"),
    reply_en=("{title} now starts at {start}.", "Done: {title} is moved to {start}."),
    reply_zh=("{title}已改到{start}。",),
)
def reschedule(world: Calendar, rng: Random) -> Goal | None:
    """Move an event to a free time."""
    event, start = _an_event(world, rng), _free_start(world, rng)
    if _overlaps(world, start, event.minutes, event.id):
        return None
    facts = {**_event(event), "start": _start(start)}
    goal = (Call("move_event", {"event_id": event.id, "start": start}),)
    return Goal(goal, facts, _day(event))


@intent(
    en=("Move {title} to {start}.",),
    zh=("把{title}改到{start}。",),
    reply_en=("I could not move {title}: there is already an event at {start}.",),
    reply_zh=("无法移动{title}：{start}已有其他日程。",),
    kind="fails",
)
def reschedule_onto_another(world: Calendar, rng: Random) -> Goal:
    """Move an event to where another one is."""
    event, other = rng.sample(list(world.events.values()), 2)
    facts = {**_event(event), "start": _start(other.start)}
    goal = (Call("move_event", {"event_id": event.id, "start": other.start}),)
    return Goal(goal, facts, _day(event))


@intent(
    en=("Cancel {title}.", "Please delete the {title} event[ on {day}]."),
    zh=("取消{title}。", "请删除[{day}的]{title}日程。"),
    reply_en=("{title} is deleted.",),
    reply_zh=("已删除{title}。",),
)
def cancel(world: Calendar, rng: Random) -> Goal:
    """Delete an event."""
    event = _an_event(world, rng)
    goal = (Call("delete_event", {"event_id": event.id}),)
    return Goal(goal, {**_event(event), **_day(event)})


@intent(
    en=("When is {title}?", "What time does {title} start?"),
    zh=("{title}是什么时候？", "{title}几点开始？"),
    reply_en=("{title} starts at {result.start}.",),
    reply_zh=("{title}的开始时间是{result.start}。",),
)
def ask_when(world: Calendar, rng: Random) -> Goal:
    """Learn when an event is."""
    event = _an_event(world, rng)
    return Goal((Call("get_event", {"event_id": event.id}),), _event(event), _day(event))


@intent(
    en=("What do I have on {day}?", "Show me my events on {day}."),
    zh=("{day}我有什么安排？",),
    reply_en=("On {day} you have {count}: {rows.title}.",),
    reply_zh=("{day}有{count}个日程：{rows.title}。",),
)
def ask_day(world: Calendar, rng: Random) -> Goal:
    """Learn what happens on a day."""
    event = _an_event(world, rng)
    return Goal((Call("find_events", {"day": event.day}),), _day(event))


@intent(
    en=("Invite {name} to {title}.", "Please add {name} to my {title} event."),
    zh=("邀请{name}参加{title}。",),
    reply_en=("{name} is invited to {title}.",),
    reply_zh=("已邀请{name}参加{title}。",),
)
def invite_someone(world: Calendar, rng: Random) -> Goal | None:
    """Invite a person."""
    event, person = _an_event(world, rng), rng.choice(list(world.people.values()))
    if person.email in event.guests:
        return None
    facts = {**_event(event), "name": Fact("name", person.name)}
    goal = (Call("invite", {"event_id": event.id, "person_id": person.id}),)
    return Goal(goal, facts, _day(event))


@intent(
    en=(
        "Remind me {before} minutes before {title}.",
        "Set a reminder for {title}[, {before} minutes before].",
    ),
    zh=("{title}开始前{before}分钟提醒我。", "给{title}设个提醒[，提前{before}分钟]。"),
    reply_en=("You will be reminded {before} minutes before {title}.",),
    reply_zh=("将在{title}开始前{before}分钟提醒你。",),
)  # fmt: skip
def remind(world: Calendar, rng: Random) -> Goal:
    """Set a reminder."""
    event, before = _an_event(world, rng), rng.choice((5, 10, 15, 20, 45))
    facts = {**_event(event), "before": Fact("before", before)}
    goal = (Call("set_reminder", {"event_id": event.id, "before": before}),)
    return Goal(goal, facts, _day(event))


@intent(
    en=("Put {title} in the {room} room; it needs {seats} seats.",),
    zh=("把{title}安排到{room}会议室，需要{seats}个座位。",),
    reply_en=("{title} takes place in {room}.",),
    reply_zh=("{title}已安排在{room}会议室。",),
)
def take_room(world: Calendar, rng: Random) -> Goal:
    """Set the room of an event."""
    event, room = _an_event(world, rng), rng.choice(list(world.rooms.values()))
    facts = {
        **_event(event),
        "room": Fact("room_name", room.name),
        "seats": Fact("seats", room.seats),
    }
    goal = (Call("set_room", {"event_id": event.id, "room_id": room.id}),)
    return Goal(goal, facts, _day(event))


@intent(
    en=("Delete every event on {day}.",),
    zh=("删除{day}的所有日程。",),
    reply_en=("I may not delete a whole day at once; please name the events.",),
    reply_zh=("不能一次删除一整天的日程，请说明具体的日程。",),
    kind="policy",
)
def clear_day(world: Calendar, rng: Random) -> Goal:
    """Ask for what the operator forbids."""
    return Goal((), _day(_an_event(world, rng)))


DOMAIN = domain_of(
    sys.modules[__name__],
    "a personal calendar",
    "个人日历",
    seed,
    policies_en=("Never delete all events of a day at once.",),
    policies_zh=("不得一次删除某一天的全部日程。",),
)
