"""A small hotel: rooms, guests and bookings."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Annotated, Literal

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

RoomId = Annotated[str, Slot("room_id", "room id", "房间编号", "id", entity="rooms")]
GuestId = Annotated[str, Slot("guest_id", "guest id", "客人编号", "id", entity="guests")]
BookingId = Annotated[str, Slot("booking_id", "booking id", "预订编号", "id", entity="bookings")]
RoomName = Annotated[str, Slot("room", "name of the room", "房间名称")]
RoomKind = Annotated[
    Literal["single", "double", "twin", "suite"], Slot("kind", "kind of room", "房型")
]
People = Annotated[int, Slot("people", "number of people", "入住人数", "count")]
Price = Annotated[int, Slot("price", "price per night", "每晚价格", "money")]
GuestName = Annotated[str, Slot("guest", "name of the guest", "客人姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
Wishes = Annotated[list[str], Slot("wishes", "wishes to remember", "要记下的偏好")]
Arrival = Annotated[str, Slot("arrival", "day of arrival", "入住日期", "date")]
Departure = Annotated[str, Slot("departure", "day of departure", "退房日期", "date")]
NewArrival = Annotated[str, Slot("arrive", "new day of arrival", "新的入住日期", "date")]
NewDeparture = Annotated[str, Slot("leave", "new day of departure", "新的退房日期", "date")]
Rate = Annotated[Literal["flexible", "saver"], Slot("rate", "rate", "价格类型")]
Status = Annotated[Literal["booked", "cancelled"], Slot("status", "status", "预订状态")]
Breakfast = Annotated[bool, Slot("breakfast", "whether with breakfast", "是否含早餐")]


@dataclass(frozen=True, slots=True)
class Room:
    """A room with a name instead of a number."""

    id: RoomId
    name: RoomName
    kind: RoomKind
    sleeps: Annotated[int, Slot("sleeps", "number of people it sleeps", "可住人数", "count")]
    price: Price


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody who has stayed or will."""

    id: GuestId
    name: GuestName
    email: Email
    wishes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Booking:
    """A stay, up to the morning of the departure."""

    id: BookingId
    guest_id: GuestId
    room_id: RoomId
    arrival: Arrival
    departure: Departure
    people: People
    rate: Rate = "flexible"
    status: Status = "booked"


@dataclass(slots=True)
class Hotel(World):
    """Everything there is."""

    rooms: dict[str, Room] = field(default_factory=dict[str, Room])
    guests: dict[str, Guest] = field(default_factory=dict[str, Guest])
    bookings: dict[str, Booking] = field(default_factory=dict[str, Booking])


FIRST = (
    "Amara", "Bruno", "Celeste", "Dmitri", "Eilidh", "Farid", "Giulia", "Henrik", "Ines", "Joon",
    "Katya", "Laszlo", "Mirela", "Nikhil", "Oona", "Paulo", "Quynh", "Rashida",
)  # fmt: skip
LAST = (
    "Abara", "Bellini", "Castellanos", "Dahl", "Eriksen", "Fontaine", "Gupta", "Horvat", "Ito",
    "Jovanovic", "Kaplan", "Lindqvist", "Moreau", "Nakagawa", "Osei", "Pereira",
)  # fmt: skip
ROOMS = (
    "Heron", "Kingfisher", "Osprey", "Magpie", "Swallow", "Puffin", "Nightingale", "Falcon",
    "Wren", "Goldfinch", "Curlew", "Plover", "Starling", "Lapwing",
)  # fmt: skip
SLEEPS: dict[RoomKind, int] = {"single": 1, "double": 2, "twin": 2, "suite": 4}
KIND_WORDS = {
    "single": ("single", "单人"), "double": ("double", "双人大床"),
    "twin": ("twin", "双床"), "suite": ("suite", "套"),
}  # fmt: skip
WISHES = (
    "quiet side", "high floor", "foam pillow", "no feathers", "vegan breakfast", "late arrival",
)  # fmt: skip


def seed(rng: Random) -> Hotel:
    """Make a month of stays; two guests share a name."""
    world = Hotel(f"{date(2026, 2, 1) + timedelta(days=rng.randrange(280))} 09:00")
    for name in rng.sample(ROOMS, 8):
        kind = rng.choice(list(SLEEPS))
        key = new_id(world.rooms, "R", name)
        price = SLEEPS[kind] * rng.randint(4, 7) * 10 + 35
        world.rooms[key] = Room(key, name, kind, SLEEPS[kind], price)
    names = [f"{a} {b}" for a, b in zip(rng.sample(FIRST, 8), rng.sample(LAST, 8), strict=True)]
    for number, name in enumerate((*names, rng.choice(names))):
        first, last = name.lower().split()
        address = f"{first}.{last}@example.com" if number < 8 else f"{last}{first[0]}@example.net"
        key = new_id(world.guests, "G", address)
        world.guests[key] = Guest(key, name, address)
    twice = [*world.guests, *world.guests]
    rng.shuffle(twice)
    for guest, gap in zip(twice[:13], rng.sample(range(-4, 40), 13), strict=True):
        _seed_booking(world, rng, guest, gap)
    return world


def _seed_booking(world: Hotel, rng: Random, guest: str, gap: int) -> None:
    arrival, departure = _later(world.today, gap), _later(world.today, gap + rng.randint(3, 6))
    room = _some_room(world, rng, arrival, departure)
    if room is None:
        return
    status = "cancelled" if gap < 0 or rng.random() < 0.2 else "booked"
    rate = "saver" if rng.random() < 0.4 else "flexible"
    key = new_id(world.bookings, "B", guest, room.id, arrival)
    people = rng.randint(1, room.sleeps)
    world.bookings[key] = Booking(key, guest, room.id, arrival, departure, people, rate, status)


def _later(day: str, days: int) -> str:
    return str(date.fromisoformat(day) + timedelta(days=days))


def _free(world: Hotel, room_id: str, arrival: str, departure: str, but: str = "") -> bool:
    return not any(
        stay.arrival < departure and arrival < stay.departure
        for stay in world.bookings.values()
        if stay.room_id == room_id and stay.status != "cancelled" and stay.id != but
    )


def _some_room(world: Hotel, rng: Random, arrival: str, departure: str) -> Room | None:
    free = [room for room in world.rooms.values() if _free(world, room.id, arrival, departure)]
    return rng.choice(free) if free else None


def _check_stay(world: Hotel, arrival: str, departure: str) -> None:
    ordered = world.today <= arrival < departure
    check(ordered, "bad_dates", "The departure must be after the arrival, neither in the past.")


def _live(world: Hotel, booking_id: str) -> Booking:
    booking = find(world.bookings, booking_id, "booking")
    check(booking.status != "cancelled", "already_cancelled", "This booking is cancelled.")
    return booking


# --- tools ---------------------------------------------------------------------------------------


@tool("Find rooms by name, kind, or both, the cheapest first.",
      "按名称、房型或两者查找房间，便宜的在前。")  # fmt: skip
def find_rooms(
    world: Hotel, name: RoomName | None = None, kind: RoomKind | None = None
) -> list[Room]:
    """Return at most five."""
    found = [
        room for room in world.rooms.values() if has(name, room.name) and same(kind, room.kind)
    ]
    return sorted(found, key=lambda room: (room.price, room.name))[:5]


@tool("List rooms that are free for a whole stay, the cheapest first.",
      "列出整个入住期间都空着的房间，便宜的在前。", errors=("bad_dates",))  # fmt: skip
def free_rooms(
    world: Hotel, arrival: Arrival, departure: Departure, kind: RoomKind | None = None
) -> list[Room]:
    """Return at most five."""
    _check_stay(world, arrival, departure)
    found = [
        room
        for room in world.rooms.values()
        if same(kind, room.kind) and _free(world, room.id, arrival, departure)
    ]
    return sorted(found, key=lambda room: (room.price, room.name))[:5]


@tool("Compute the price of a stay in a room; breakfast is 12 a night.",
      "计算某房间一次入住的总价，早餐每晚12。", errors=("not_found", "bad_dates"))  # fmt: skip
def quote_stay(
    world: Hotel, room_id: RoomId, arrival: Arrival, departure: Departure,
    breakfast: Breakfast = False,
) -> dict[str, int]:  # fmt: skip
    """Multiply; nothing is booked."""
    room = find(world.rooms, room_id, "room")
    _check_stay(world, arrival, departure)
    nights = (date.fromisoformat(departure) - date.fromisoformat(arrival)).days
    return {"nights": nights, "total": nights * (room.price + 12 * breakfast)}


@tool("Find guests by name, e-mail address, or both.", "按姓名、邮箱或两者查找客人。")
def find_guests(
    world: Hotel, name: GuestName | None = None, email: Email | None = None
) -> list[Guest]:
    """Return at most five."""
    found = [guest for guest in world.guests.values() if has(name, guest.name)]
    return [guest for guest in found if same(email, guest.email)][:5]


@tool("Register a new guest. Returns the guest.", "登记一位新客人，返回客人资料。", writes=True,
      errors=("already_registered",))  # fmt: skip
def register_guest(world: Hotel, name: GuestName, email: Email) -> Guest:
    """Add a guest whose address is new."""
    known = any(guest.email == email for guest in world.guests.values())
    check(not known, "already_registered", "There is a guest with this e-mail address.")
    key = new_id(world.guests, "G", email)
    world.guests[key] = Guest(key, name, email)
    return world.guests[key]


@tool("Add wishes to what is remembered of a guest.", "为客人记下偏好。", writes=True,
      errors=("not_found",))  # fmt: skip
def note_wishes(world: Hotel, guest_id: GuestId, wishes: Wishes) -> Guest:
    """Remember what a guest likes."""
    guest = find(world.guests, guest_id, "guest")
    every = tuple(sorted({*guest.wishes, *wishes}))
    world.guests[guest_id] = replace(guest, wishes=every)
    return world.guests[guest_id]


@tool("List the bookings of a guest, the earliest arrival first.", "列出客人的预订，入住早的在前。",
      errors=("not_found",))  # fmt: skip
def list_bookings(world: Hotel, guest_id: GuestId) -> list[Booking]:
    """Return at most five."""
    find(world.guests, guest_id, "guest")
    found = [stay for stay in world.bookings.values() if stay.guest_id == guest_id]
    return sorted(found, key=lambda stay: stay.arrival)[:5]


@tool("Show one booking.", "查看一个预订。", errors=("not_found",))
def get_booking(world: Hotel, booking_id: BookingId) -> Booking:
    """Return the booking."""
    return find(world.bookings, booking_id, "booking")


@tool("Book a room for a guest. Returns the booking.", "为客人预订房间，返回预订。", writes=True,
      errors=("not_found", "bad_dates", "too_many_people", "not_free"))  # fmt: skip
def book_room(
    world: Hotel, guest_id: GuestId, room_id: RoomId, arrival: Arrival, departure: Departure,
    people: People = 1, rate: Rate = "flexible",
) -> Booking:  # fmt: skip
    """Book where the room is free and large enough."""
    find(world.guests, guest_id, "guest")
    room = find(world.rooms, room_id, "room")
    _check_stay(world, arrival, departure)
    check(people <= room.sleeps, "too_many_people", f"This room sleeps {room.sleeps}.")
    check(_free(world, room_id, arrival, departure), "not_free", "The room is taken then.")
    key = new_id(world.bookings, "B", guest_id, room_id, arrival)
    booking = Booking(key, guest_id, room_id, arrival, departure, people, rate)
    world.bookings[key] = booking
    return booking


@tool("Move a booking to other days, in the same room.", "把预订改到其他日期，房间不变。",
      writes=True, errors=("not_found", "already_cancelled", "bad_dates", "not_free"))  # fmt: skip
def change_stay(
    world: Hotel, booking_id: BookingId, new_arrival: NewArrival, new_departure: NewDeparture
) -> Booking:
    """Change the days where the room is free."""
    booking = _live(world, booking_id)
    _check_stay(world, new_arrival, new_departure)
    free = _free(world, booking.room_id, new_arrival, new_departure, but=booking_id)
    check(free, "not_free", "The room is taken then.")
    world.bookings[booking_id] = replace(booking, arrival=new_arrival, departure=new_departure)
    return world.bookings[booking_id]


@tool("Cancel a booking.", "取消预订。", writes=True,
      errors=("not_found", "already_cancelled"))  # fmt: skip
def cancel_stay(world: Hotel, booking_id: BookingId) -> Booking:
    """Cancel a stay."""
    booking = _live(world, booking_id)
    world.bookings[booking_id] = replace(booking, status="cancelled")
    return world.bookings[booking_id]


# --- what users want -----------------------------------------------------------------------------


def _of(world: Hotel, booking: Booking) -> tuple[dict[str, Fact], dict[str, Fact]]:
    """Return how a guest names a booking, and what tells apart guests of the same name."""
    guest = world.guests[booking.guest_id]
    return told(guest=guest.name, arrival=booking.arrival), told(email=guest.email)


def _draw(world: Hotel, rng: Random, status: Status, rate: Rate | None = None) -> Booking | None:
    stays = [stay for stay in world.bookings.values() if stay.status == status]
    found = [stay for stay in stays if same(rate, stay.rate)]
    return rng.choice(found) if found else None


def _stay(rng: Random, world: Hotel) -> tuple[str, str]:
    gap = rng.randint(2, 45)
    return _later(world.today, gap), _later(world.today, gap + rng.randint(1, 5))


@intent(
    en=("Which {kind} rooms are free from {arrival} to {departure}?",
        "Hi! Looking for a {kind} room, {arrival} until {departure}. What have you got?",
        "We need a {kind}[, arriving {arrival}][ and leaving {departure}]. Anything available?"),
    zh=("{arrival}到{departure}有空的{kind}间吗？",
        "想订{kind}间[，{arrival}入住][，{departure}退房]，还有哪些房？"),
    reply_en=("Free then: {rows.name}, at {rows.price} a night.",),
    reply_zh=("这段时间可住的房间：{rows.name}，每晚价格{rows.price}。",),
)  # fmt: skip
def ask_free(world: Hotel, rng: Random) -> Goal | None:
    """Learn which rooms are free."""
    arrival, departure = _stay(rng, world)
    room = _some_room(world, rng, arrival, departure)
    if room is None:
        return None
    arguments = {"arrival": arrival, "departure": departure, "kind": room.kind}
    kind = Fact("kind", room.kind, KIND_WORDS[room.kind])
    facts = told(arrival=arrival, departure=departure)
    return Goal((Call("free_rooms", arguments),), {**facts, "kind": kind})


@intent(
    en=("What would the {room} room cost from {arrival} to {departure}, breakfast included?",
        "How much is {room} with breakfast[ if I come on {arrival}][ and leave on {departure}]?",
        "Price check please: {room}, {arrival} - {departure}, with breakfast."),
    zh=("{room}房间{arrival}住到{departure}，含早餐一共多少钱？",
        "{room}含早餐多少钱？[{arrival}到，][{departure}走。]"),
    reply_en=("{result.nights} nights in {room} with breakfast come to {result.total}.",),
    reply_zh=("{room}含早餐住{result.nights}晚，共{result.total}。",),
)  # fmt: skip
def ask_price(world: Hotel, rng: Random) -> Goal:
    """Learn the price of a stay."""
    arrival, departure = _stay(rng, world)
    room = rng.choice(list(world.rooms.values()))
    days = {"arrival": arrival, "departure": departure}
    call = Call("quote_stay", {"room_id": room.id, **days, "breakfast": True})
    return Goal((call,), told(room=room.name, breakfast=True, **days))


@intent(
    en=("Please book {room} for {guest}, {arrival} to {departure}[, a party of {people}].",
        "It's {guest}. I'd love {room} again, {arrival} till {departure}, party of {people}.",
        "{guest} here, I'd like to reserve {room}[ from {arrival}][ to {departure}]"
        "[ for a party of {people}]."),
    zh=("我是{guest}，想订{room}房间，{arrival}到{departure}[，{people}个人]。",
        "请给{guest}预订{room}[，{arrival}入住][，{departure}离店][，共{people}人]。"),
    reply_en=("{room} is booked for {guest} from {arrival} to {departure}; the booking is"
              " {result.id}.",),
    reply_zh=("已为{guest}预订{room}，{arrival}至{departure}，预订编号{result.id}。",),
)  # fmt: skip
def book(world: Hotel, rng: Random) -> Goal | None:
    """Book a room by its name."""
    arrival, departure = _stay(rng, world)
    room, guest = _some_room(world, rng, arrival, departure), rng.choice([*world.guests.values()])
    if room is None:
        return None
    stay = {"arrival": arrival, "departure": departure, "people": rng.randint(1, room.sleeps)}
    call = Call("book_room", {"guest_id": guest.id, "room_id": room.id, **stay})
    facts = told(room=room.name, guest=guest.name, **stay)
    return Goal((call,), facts, told(email=guest.email))


@intent(
    en=("Can you move {guest}'s stay of {arrival} to {arrive} until {leave}?",
        "Our plans changed. {guest}, arriving {arrival}: make that {arrive} to {leave}, please.",
        "I need other dates for my booking on {arrival}, name {guest}[. New arrival {arrive}]"
        "[, new departure {leave}]."),
    zh=("{guest}在{arrival}的预订请改成{arrive}到{leave}。",
        "行程变了：{guest}，原定{arrival}入住[，改为{arrive}到店][，{leave}离店]。"),
    reply_en=("{guest} now stays from {arrive} to {leave}.",),
    reply_zh=("已改为{arrive}入住、{leave}退房。",),
)  # fmt: skip
def change_days(world: Hotel, rng: Random) -> Goal | None:
    """Move a stay to free days."""
    booking, (start, end) = _draw(world, rng, "booked"), _stay(rng, world)
    if booking is None or not _free(world, booking.room_id, start, end, booking.id):
        return None
    days = {"new_arrival": start, "new_departure": end}
    facts, clues = _of(world, booking)
    call = Call("change_stay", {"booking_id": booking.id, **days})
    return Goal((call,), {**facts, **told(arrive=start, leave=end)}, clues)


@intent(
    en=("I have to cancel. {guest}, arrival {arrival}.",
        "Please call off the booking of {guest}[ for {arrival}].",
        "We can't make it on {arrival} after all, sorry - {guest}."),
    zh=("取消{guest}[在{arrival}]的预订。",
        "抱歉，{arrival}来不了了，我叫{guest}，请取消。"),
    reply_en=("The booking of {guest} for {arrival} is cancelled.",),
    reply_zh=("{guest}在{arrival}的预订已取消。",),
)  # fmt: skip
def cancel(world: Hotel, rng: Random) -> Goal | None:
    """Cancel a booking of the flexible rate."""
    booking = _draw(world, rng, "booked", "flexible")
    if booking is None:
        return None
    return Goal((Call("cancel_stay", {"booking_id": booking.id}),), *_of(world, booking))


@intent(
    en=("Cancel my booking for {arrival}, please. {guest}.",
        "{guest} won't be coming on {arrival}, so take that one off.",
        "I want out of the booking under {guest}[, arriving {arrival}]."),
    zh=("请取消{guest}在{arrival}的预订。", "{guest}[在{arrival}]不来了，把房退了吧。"),
    reply_en=("That booking has the {result.rate} rate; it cannot be cancelled here, please ask"
              " the front desk.",),
    reply_zh=("该预订属于{result.rate}价格，这里不能取消，请联系前台。",),
    kind="policy",
)  # fmt: skip
def cancel_saver(world: Hotel, rng: Random) -> Goal | None:
    """Ask for what the rate forbids."""
    booking = _draw(world, rng, "booked", "saver")
    if booking is None:
        return None
    return Goal((Call("get_booking", {"booking_id": booking.id}),), *_of(world, booking))


@intent(
    en=("{guest} can't come on {arrival}, please cancel the stay.",
        "Hello, could you cancel for me? {guest}[, booked from {arrival}].",
        "No more trip on {arrival}. Drop the reservation of {guest}, thanks."),
    zh=("请把{guest}在{arrival}的房间取消。", "{guest}[在{arrival}]的行程没了，帮忙退订。"),
    reply_en=("There is nothing to do: {guest}'s booking for {arrival} was cancelled before.",),
    reply_zh=("{guest}在{arrival}的预订之前已经取消了。",),
    kind="fails",
)  # fmt: skip
def cancel_again(world: Hotel, rng: Random) -> Goal | None:
    """Cancel what is cancelled already."""
    booking = _draw(world, rng, "cancelled", "flexible")
    if booking is None:
        return None
    return Goal((Call("cancel_stay", {"booking_id": booking.id}),), *_of(world, booking))


@intent(
    en=("I'd like to sign up as a guest: {guest}, {email}.",
        "New guest for your files[, {guest}]: the address is {email}."),
    zh=("登记新客人{guest}，邮箱{email}。", "我第一次来，邮箱是{email}[，名字{guest}]。"),
    reply_en=("That did not work: {email} is registered already.",),
    reply_zh=("无法登记：邮箱{email}已经登记过。",),
    kind="fails",
)  # fmt: skip
def register_known(world: Hotel, rng: Random) -> Goal:
    """Register an address that is known."""
    guest = rng.choice(list(world.guests.values()))
    call = Call("register_guest", {"name": guest.name, "email": guest.email})
    return Goal((call,), told(guest=guest.name, email=guest.email))


@intent(
    en=("First time with you: {guest}, {email}. And I like these: {wishes}.",
        "Register {guest} ({email}) and remember: {wishes}."),
    zh=("新客人{guest}，邮箱{email}，偏好：{wishes}。",
        "请登记{guest}（{email}），并记下{wishes}。"),
    reply_en=("Welcome, {guest}: you are registered, and we remember {wishes}.",),
    reply_zh=("{guest}已登记，并记下了：{wishes}。",),
)  # fmt: skip
def join(world: Hotel, rng: Random) -> Goal:
    """Register a guest and note what the guest likes."""
    name, wishes = f"{rng.choice(FIRST)} van {rng.choice(LAST)}", rng.sample(WISHES, 2)
    email = f"{name.lower().replace(' ', '.')}@example.org"
    key = new_id(world.guests, "G", email)
    facts = told(guest=name, email=email, wishes=wishes)
    first = Call("register_guest", {"name": name, "email": email})
    return Goal((first, Call("note_wishes", {"guest_id": key, "wishes": wishes})), facts)


DOMAIN = domain_of(
    sys.modules[__name__],
    "a small hotel",
    "一家小酒店",
    seed,
    policies_en=("Never cancel a booking of the saver rate; send the guest to the front desk.",),
    policies_zh=("不得取消saver价格的预订，请客人联系前台。",),
)
