"""An airline's desk: flights, passengers, trips, seats and baggage."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Annotated, Literal, get_args

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

FlightId = Annotated[str, Slot("flight_id", "flight id", "航班编号", "id", entity="flights")]
PassengerId = Annotated[
    str, Slot("passenger_id", "passenger id", "旅客号", "id", entity="passengers")
]
TripId = Annotated[str, Slot("trip_id", "booking reference", "订票编号", "id", entity="trips")]
SeatId = Annotated[str, Slot("seat_id", "seat id", "座位编号", "id", entity="seats")]
BagId = Annotated[str, Slot("bag_id", "bag id", "行李编号", "id", entity="bags")]
Number = Annotated[str, Slot("number", "flight number", "航班号")]
City = Literal["Bergen", "Cork", "Faro", "Genoa", "Izmir", "Kaunas", "Lyon", "Malaga", "Nantes",
               "Porto", "Riga", "Split", "Tallinn", "Valencia"]  # fmt: skip
Origin = Annotated[City, Slot("origin", "city of departure", "出发城市")]
Destination = Annotated[City, Slot("destination", "destination", "目的地")]
Day = Annotated[str, Slot("day", "day of the flight", "航班日期", "date")]
Departs = Annotated[str, Slot("departs", "time of departure", "起飞时间", "time")]
Name = Annotated[str, Slot("name", "name of the passenger", "旅客姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
Fare = Annotated[Literal["light", "standard", "flex"], Slot("fare", "fare", "票价类型")]
TripState = Annotated[
    Literal["booked", "checked_in", "cancelled"], Slot("trip_state", "state", "状态")
]
SeatLabel = Annotated[str, Slot("seat", "seat", "座位号")]
BagKind = Annotated[Literal["cabin", "checked", "sports", "pram"], Slot("bag", "bag", "行李类型")]
Kilos = Annotated[int, Slot("kilos", "weight in kilos", "重量（公斤）", "count")]
Problem = Annotated[Literal["lost", "damaged", "late"], Slot("problem", "problem", "问题")]


@dataclass(frozen=True, slots=True)
class Flight:
    """One departure."""

    id: FlightId
    number: Number
    origin: Origin
    destination: Destination
    day: Day
    departs: Departs
    price: Annotated[int, Slot("price", "price", "票价", "money")]
    left: int


@dataclass(frozen=True, slots=True)
class Passenger:
    """Somebody who flies."""

    id: PassengerId
    name: Name
    email: Email


@dataclass(frozen=True, slots=True)
class Trip:
    """A passenger's place on a flight."""

    id: TripId
    passenger_id: PassengerId
    flight_id: FlightId
    day: Day
    fare: Fare
    seat: str = ""
    state: TripState = "booked"


@dataclass(frozen=True, slots=True)
class Seat:
    """A seat that can be chosen."""

    id: SeatId
    flight_id: FlightId
    label: SeatLabel
    free: bool = True


@dataclass(frozen=True, slots=True)
class Bag:
    """What a passenger takes along."""

    id: BagId
    trip_id: TripId
    kind: BagKind
    kilos: Kilos
    fee: Annotated[int, Slot("fee", "fee", "费用", "money")]
    problem: Problem | None = None


@dataclass(slots=True)
class Airline(World):
    """Everything there is."""

    flights: dict[str, Flight] = field(default_factory=dict[str, Flight])
    passengers: dict[str, Passenger] = field(default_factory=dict[str, Passenger])
    trips: dict[str, Trip] = field(default_factory=dict[str, Trip])
    seats: dict[str, Seat] = field(default_factory=dict[str, Seat])
    bags: dict[str, Bag] = field(default_factory=dict[str, Bag])


CITIES: tuple[City, ...] = get_args(City)
FIRST = (
    "Aurelio", "Bettina", "Ciaran", "Dagny", "Emeka", "Filippa", "Hadiza", "Imre", "Jelena",
    "Kazuo", "Liv", "Manuel", "Naomi", "Otis", "Parisa", "Rune", "Saskia", "Teodora",
)  # fmt: skip
LAST = (
    "Andersen", "Brennan", "Costa", "Diallo", "Espinoza", "Fekete", "Gallo", "Hayashi", "Islam",
    "Janssen", "Kuznetsov", "Leclerc", "Murphy", "Nowak", "Oduya", "Pinto", "Roos",
)  # fmt: skip
FARES: tuple[Fare, ...] = ("light", "standard", "flex")
HEAVIEST: dict[BagKind, int] = {"cabin": 8, "checked": 23, "sports": 32, "pram": 15}
FEES = {"cabin": 0, "checked": 35, "sports": 60, "pram": 0}
BAG_WORDS = {
    "cabin": ("cabin bag", "手提行李"), "checked": ("checked suitcase", "托运行李箱"),
    "sports": ("set of sports gear", "体育器材"), "pram": ("pram", "婴儿车"),
}  # fmt: skip
PROBLEMS = {"lost": ("lost", "丢了"), "damaged": ("damaged", "损坏了"), "late": ("late", "晚到了")}


def seed(rng: Random) -> Airline:
    """Make three weeks of flights; two passengers share a name."""
    today = date(2026, 1, 8) + timedelta(days=rng.randrange(320))
    world = Airline(f"{today} 06:30")
    towns = rng.sample(CITIES, 6)
    days = [1, 2, *rng.sample(range(3, 24), 7)]
    for number, gap in zip(rng.sample(range(100, 999), 9), days, strict=True):
        origin, destination = towns[gap % 3], towns[3 + gap % 3]
        departs = f"{rng.randint(6, 21):02}:{rng.choice(('05', '25', '40'))}"
        key, day = new_id(world.flights, "F", number), str(today + timedelta(days=gap))
        values = (f"KT{number}", origin, destination, day, departs, rng.randint(4, 30) * 10)
        world.flights[key] = Flight(key, *values, rng.choice((0, 3, 8, 21)))
        for row, letter in zip(rng.sample(range(3, 30), 4), rng.sample("ABCDEF", 4), strict=True):
            seat = new_id(world.seats, "S", key, row)
            world.seats[seat] = Seat(seat, key, f"{row}{letter}")
    names = [f"{a} {b}" for a, b in zip(rng.sample(FIRST, 7), rng.sample(LAST, 7), strict=True)]
    for number, name in enumerate((*names, rng.choice(names))):
        email = f"{name.split()[1].lower()}{number + 3}@fastmail.example"
        key = new_id(world.passengers, "P", email)
        world.passengers[key] = Passenger(key, name, email)
    passengers, flights = list(world.passengers), list(world.flights.values())
    for number in range(14):
        flight = flights[number % 9]
        trip = _add_trip(world, passengers[number % 8], flight, rng.choice(FARES))
        if number % 9 < 2 or rng.random() < 0.4:
            free = [seat for seat in world.seats.values() if _at(seat, flight.id)]
            _seat(world, trip, rng.choice(free))
        if number % 2:
            kind = rng.choice(list(HEAVIEST))
            _add_bag(world, trip.id, kind, rng.randint(4, HEAVIEST[kind]))
    return world


def _at(seat: Seat, flight_id: str) -> bool:
    return seat.flight_id == flight_id and seat.free


def _add_trip(world: Airline, passenger_id: str, flight: Flight, fare: Fare) -> Trip:
    key = new_id(world.trips, "T", passenger_id, flight.id)
    world.trips[key] = Trip(key, passenger_id, flight.id, flight.day, fare)
    return world.trips[key]


def _seat(world: Airline, trip: Trip, seat: Seat | None) -> Trip:
    """Give a trip a seat or none; the one before becomes free."""
    for old in [one for one in world.seats.values() if one.flight_id == trip.flight_id]:
        if old.label == trip.seat:
            world.seats[old.id] = replace(old, free=True)
    if seat is not None:
        world.seats[seat.id] = replace(seat, free=False)
    world.trips[trip.id] = replace(trip, seat=seat.label if seat else "")
    return world.trips[trip.id]


def _add_bag(world: Airline, trip_id: str, kind: BagKind, kilos: int) -> Bag:
    key = new_id(world.bags, "B", trip_id, kind, kilos)
    world.bags[key] = Bag(key, trip_id, kind, kilos, FEES[kind])
    return world.bags[key]


def _open(world: Airline, trip_id: str) -> Trip:
    trip = find(world.trips, trip_id, "trip")
    check(trip.state != "cancelled", "already_cancelled", "This trip is cancelled.")
    check(trip.state != "checked_in", "checked_in", "The passenger has checked in.")
    return trip


# --- tools ---------------------------------------------------------------------------------------


@tool("Find flights by what is known of them, the earliest first.",
      "按已知条件查找航班，早的在前。")  # fmt: skip
def find_flights(
    world: Airline, number: Number | None = None, origin: Origin | None = None,
    destination: Destination | None = None, day: Day | None = None,
) -> list[Flight]:  # fmt: skip
    """Return at most five."""
    found = [one for one in world.flights.values() if same(number, one.number)]
    found = [one for one in found if same(origin, one.origin) and same(day, one.day)]
    found = [one for one in found if same(destination, one.destination)]
    return sorted(found, key=lambda one: one.day)[:5]


@tool("Find passengers by name, e-mail address, or both.",
      "按姓名、邮箱或两者查找旅客。")  # fmt: skip
def find_passengers(
    world: Airline, name: Name | None = None, email: Email | None = None
) -> list[Passenger]:
    """Return at most five."""
    found = [one for one in world.passengers.values() if has(name, one.name)]
    return [one for one in found if same(email, one.email)][:5]


@tool("List a passenger's trips, the earliest first.", "列出旅客的行程，早的在前。",
      errors=("not_found",))  # fmt: skip
def passenger_trips(world: Airline, passenger_id: PassengerId) -> list[Trip]:
    """Return at most five."""
    find(world.passengers, passenger_id, "passenger")
    found = [trip for trip in world.trips.values() if trip.passenger_id == passenger_id]
    return sorted(found, key=lambda trip: trip.day)[:5]


@tool("Show one trip.", "查看一个行程。", errors=("not_found",))
def show_trip(world: Airline, trip_id: TripId) -> Trip:
    """Return the trip."""
    return find(world.trips, trip_id, "trip")


@tool("Book a flight for a passenger. Returns the trip.", "为旅客订票，返回行程。", writes=True,
      errors=("not_found", "sold_out"))  # fmt: skip
def book_trip(world: Airline, passenger_id: PassengerId, flight_id: FlightId, fare: Fare) -> Trip:
    """Sell a place on a flight."""
    find(world.passengers, passenger_id, "passenger")
    flight = find(world.flights, flight_id, "flight")
    check(flight.left > 0, "sold_out", "The flight is sold out.")
    world.flights[flight_id] = replace(flight, left=flight.left - 1)
    return _add_trip(world, passenger_id, flight, fare)


@tool("Cancel a trip.", "取消行程。", writes=True,
      errors=("not_found", "already_cancelled", "checked_in"))  # fmt: skip
def cancel_trip(world: Airline, trip_id: TripId) -> Trip:
    """Cancel a trip and give up the seat."""
    trip = _seat(world, _open(world, trip_id), None)
    world.trips[trip_id] = replace(trip, state="cancelled")
    return world.trips[trip_id]


@tool("List seats of a flight that are free.", "列出航班的空座。",
      errors=("not_found",))  # fmt: skip
def free_seats(world: Airline, flight_id: FlightId) -> list[Seat]:
    """Return at most five."""
    find(world.flights, flight_id, "flight")
    return [seat for seat in world.seats.values() if _at(seat, flight_id)][:5]


@tool("Give a trip a seat.", "为行程选座。", writes=True,
      errors=("not_found", "already_cancelled", "checked_in", "other_flight", "taken"))  # fmt: skip
def take_seat(world: Airline, trip_id: TripId, seat_id: SeatId) -> Trip:
    """Choose a free seat."""
    trip, seat = _open(world, trip_id), find(world.seats, seat_id, "seat")
    check(seat.flight_id == trip.flight_id, "other_flight", "The seat is on another flight.")
    check(seat.free, "taken", "Somebody else has this seat.")
    return _seat(world, trip, seat)


@tool("Check a passenger in; possible with a seat, from two days before.",
      "办理值机，起飞前两天内、选好座位后可办。", writes=True,
      errors=("not_found", "already_cancelled", "checked_in", "too_early", "no_seat"))  # fmt: skip
def check_in(world: Airline, trip_id: TripId) -> Trip:
    """Make a trip final."""
    trip = _open(world, trip_id)
    ahead = date.fromisoformat(trip.day) - date.fromisoformat(world.today)
    check(ahead.days <= 2, "too_early", "Check-in opens two days before the flight.")
    check(bool(trip.seat), "no_seat", "The passenger has no seat.")
    world.trips[trip_id] = replace(trip, state="checked_in")
    return world.trips[trip_id]


@tool("Add a bag to a trip. Returns it and its fee.", "添加行李，返回行李和费用。", writes=True,
      errors=("not_found", "already_cancelled", "checked_in", "too_heavy"))  # fmt: skip
def add_bag(world: Airline, trip_id: TripId, kind: BagKind, kilos: Kilos) -> Bag:
    """Take a bag that is not too heavy for its kind."""
    _open(world, trip_id)
    check(kilos <= HEAVIEST[kind], "too_heavy", f"The most is {HEAVIEST[kind]} kilos.")
    return _add_bag(world, trip_id, kind, kilos)


@tool("List the bags of a trip.", "列出行程的行李。", errors=("not_found",))
def trip_bags(world: Airline, trip_id: TripId) -> list[Bag]:
    """Return at most five."""
    find(world.trips, trip_id, "trip")
    return [bag for bag in world.bags.values() if bag.trip_id == trip_id][:5]


@tool("Report a bag that did not arrive as it should.", "登记行李问题。", writes=True,
      errors=("not_found", "already_reported"))  # fmt: skip
def report_bag(world: Airline, bag_id: BagId, problem: Problem) -> Bag:
    """Write down what is wrong with a bag."""
    bag = find(world.bags, bag_id, "bag")
    check(bag.problem is None, "already_reported", f"It is reported as {bag.problem}.")
    world.bags[bag_id] = replace(bag, problem=problem)
    return world.bags[bag_id]


# --- what users want -----------------------------------------------------------------------------


def _trip(world: Airline, rng: Random, *fares: str) -> Trip | None:
    trips = [trip for trip in world.trips.values() if trip.state == "booked"]
    found = [trip for trip in trips if not fares or trip.fare in fares]
    return rng.choice(found) if found else None


def _of(world: Airline, trip: Trip) -> tuple[dict[str, Fact], dict[str, Fact]]:
    """Return how a passenger names a trip, and what tells apart those of the same name."""
    passenger = world.passengers[trip.passenger_id]
    return told(name=passenger.name, day=trip.day), told(email=passenger.email)


@intent(
    en=("What flies from {origin} to {destination}?", "Flights {origin} - {destination}, please.",
        "I need to be in {destination} soon[ and start in {origin}]. Which flights are there?"),
    zh=("{origin}到{destination}有哪些航班？", "想去{destination}[，从{origin}出发]，有什么航班？"),
    reply_en=("There are {count}: {rows.number}, on {rows.day}, for {rows.price}.",),
    reply_zh=("有{count}个航班：{rows.number}，日期{rows.day}，票价{rows.price}。",),
)  # fmt: skip
def ask_flights(world: Airline, rng: Random) -> Goal:
    """Learn what flies on a route."""
    flight = rng.choice(list(world.flights.values()))
    route = {"origin": flight.origin, "destination": flight.destination}
    return Goal((Call("find_flights", route),), told(**route))


@intent(
    en=("Book {number} for {name}, {fare} fare.", "{name} wants to fly with {number}[ on {fare}].",
        "I'm {name}. One {fare} ticket for {number}, please."),
    zh=("给{name}订{number}，{fare}票价。", "我是{name}，要一张{number}的票[，{fare}类型]。"),
    reply_en=("{name} is on {number} on {result.day}; the booking reference is {result.id}.",),
    reply_zh=("已为{name}订好{number}，日期{result.day}，订票编号{result.id}。",),
)  # fmt: skip
def book(world: Airline, rng: Random) -> Goal | None:
    """Book a flight that is not sold out."""
    flights = [flight for flight in world.flights.values() if flight.left]
    if not flights:
        return None
    flight, passenger = rng.choice(flights), rng.choice(list(world.passengers.values()))
    ids, fare = {"passenger_id": passenger.id, "flight_id": flight.id}, rng.choice(FARES)
    facts = told(number=flight.number, name=passenger.name, fare=fare)
    return Goal((Call("book_trip", {**ids, "fare": fare}),), facts, told(email=passenger.email))


@intent(
    en=("{name} can't fly on {day}, please cancel the trip.", "Cancel my {day} flight. {name}.",
        "Call off the trip of {name}[, it was for {day}]."),
    zh=("取消{name}在{day}的行程。", "我是{name}，[{day}的]航班不坐了，请取消。"),
    reply_en=("The trip of {name} on {day} is cancelled.",),
    reply_zh=("{name}在{day}的行程已取消。",),
)  # fmt: skip
def cancel(world: Airline, rng: Random) -> Goal | None:
    """Cancel a trip of a fare that permits it."""
    trip = _trip(world, rng, "standard", "flex")
    return Goal((Call("cancel_trip", {"trip_id": trip.id}),), *_of(world, trip)) if trip else None


@intent(
    en=("Please cancel the flight of {name} on {day}.", "{name} here: on {day} I can't go, cancel.",
        "I want to cancel[ my trip on {day}]. The name is {name}."),
    zh=("请取消{name}在{day}的航班。", "{name}[在{day}]走不了，帮忙退票。"),
    reply_en=("That trip has the {result.fare} fare, which cannot be cancelled.",),
    reply_zh=("该行程是{result.fare}票价，不能取消。",),
    kind="policy",
)  # fmt: skip
def cancel_light(world: Airline, rng: Random) -> Goal | None:
    """Ask to cancel what the fare forbids."""
    trip = _trip(world, rng, "light")
    return Goal((Call("show_trip", {"trip_id": trip.id}),), *_of(world, trip)) if trip else None


@intent(
    en=("Is seat {seat} free on my booking {trip_id}? I'll take it.", "Seat {seat} for {trip_id}.",
        "For reference {trip_id} I'd like to sit[ in {seat}]."),
    zh=("{trip_id}要坐{seat}。", "编号{trip_id}，请选座[{seat}]。"),
    reply_en=("{trip_id} has seat {result.seat}.",),
    reply_zh=("{trip_id}的座位是{result.seat}。",),
)  # fmt: skip
def sit(world: Airline, rng: Random) -> Goal | None:
    """Choose a seat by its label."""
    trip = _trip(world, rng)
    free = [one for one in world.seats.values() if trip and _at(one, trip.flight_id)]
    if trip is None or not free:
        return None
    seat = rng.choice(free)
    call = Call("take_seat", {"trip_id": trip.id, "seat_id": seat.id})
    return Goal((call,), told(trip_id=trip.id, seat=seat.label))


def _check_in(world: Airline, rng: Random, *, soon: bool) -> Goal | None:
    last = str(date.fromisoformat(world.today) + timedelta(days=2))
    trips = [one for one in world.trips.values() if (one.day <= last) == soon]
    found = [trip for trip in trips if trip.state == "booked" and (trip.seat or not soon)]
    if not found:
        return None
    trip = rng.choice(found)
    return Goal((Call("check_in", {"trip_id": trip.id}),), *_of(world, trip))


@intent(
    en=("Check in {name} for the flight on {day}.", "I'd like to check in. {name}[, flying {day}].",
        "{name}, {day}: online check-in please."),
    zh=("给{name}办{day}航班的值机。", "我是{name}，办值机[，{day}的航班]。"),
    reply_en=("{name} is checked in, seat {result.seat}.",),
    reply_zh=("{name}已值机，座位{result.seat}。",),
)  # fmt: skip
def check_in_now(world: Airline, rng: Random) -> Goal | None:
    """Check in shortly before the flight."""
    return _check_in(world, rng, soon=True)


@intent(
    en=("Can you check me in already? {name}, {day}.", "Do the check-in of {name} for {day}.",
        "Please check in {name}[ for the {day} flight]."),
    zh=("能提前值机吗？{name}，{day}。", "请为{name}[{day}的航班]值机。"),
    reply_en=("It is too early: check-in opens two days before {day}.",),
    reply_zh=("还太早：{day}起飞前两天才能值机。",),
    kind="fails",
)  # fmt: skip
def check_in_early(world: Airline, rng: Random) -> Goal | None:
    """Check in long before the flight."""
    return _check_in(world, rng, soon=False)


def _bag(world: Airline, rng: Random, least: int, most: int) -> Goal | None:
    """Return a call that adds a bag so much lighter or heavier than is permitted."""
    trip, kind = _trip(world, rng), rng.choice(list(HEAVIEST))
    if trip is None:
        return None
    kilos = HEAVIEST[kind] + rng.randint(least, most)
    facts = {**told(trip_id=trip.id, kilos=kilos), "bag": Fact("bag", kind, BAG_WORDS[kind])}
    return Goal((Call("add_bag", {"trip_id": trip.id, "kind": kind, "kilos": kilos}),), facts)


@intent(
    en=("Add a {bag} of {kilos} kilos to {trip_id}.", "A {bag} too[, {kilos} kilos]; {trip_id}.",
        "What else... right, a {bag}! It weighs {kilos} kilos. Booking {trip_id}."),
    zh=("{trip_id}加一件{bag}，{kilos}公斤。", "编号{trip_id}，我要带{bag}[，重{kilos}公斤]。"),
    reply_en=("The {bag} is added to {trip_id}; the fee is {result.fee}.",),
    reply_zh=("已为{trip_id}添加{bag}，费用{result.fee}。",),
)  # fmt: skip
def bring(world: Airline, rng: Random) -> Goal | None:
    """Add a bag."""
    return _bag(world, rng, -5, 0)


@intent(
    en=("Put a {bag} with {kilos} kilos on booking {trip_id}.",
        "{trip_id}: one more {bag}, it is {kilos} kilos."),
    zh=("给{trip_id}加{bag}，{kilos}公斤重。", "{trip_id}再加一件{kilos}公斤的{bag}。"),
    reply_en=("{kilos} kilos are too much for a {bag}, so it was not added.",),
    reply_zh=("{bag}不能有{kilos}公斤，超重，未能添加。",),
    kind="fails",
)  # fmt: skip
def bring_too_much(world: Airline, rng: Random) -> Goal | None:
    """Add a bag that is too heavy."""
    return _bag(world, rng, 1, 9)


@intent(
    en=("My {bag} from trip {trip_id} is {problem}!", "{trip_id}: {bag} {problem}, please note it.",
        "After the flight ({trip_id}) my {bag} was {problem}."),
    zh=("行程{trip_id}，我的{bag}{problem}！", "{bag}{problem}，订票编号{trip_id}，要登记。"),
    reply_en=("We have noted that your {bag} is {problem}; its number is {result.id}.",),
    reply_zh=("已登记：{bag}{problem}，行李编号{result.id}。",),
)  # fmt: skip
def complain(world: Airline, rng: Random) -> Goal:
    """Report a bag."""
    bag, problem = rng.choice(list(world.bags.values())), rng.choice(list(PROBLEMS))
    facts = told(trip_id=bag.trip_id, problem=Fact("problem", problem, PROBLEMS[problem]))
    facts["bag"] = Fact("bag", bag.kind, BAG_WORDS[bag.kind])
    return Goal((Call("report_bag", {"bag_id": bag.id, "problem": problem}),), facts)


DOMAIN = domain_of(
    sys.modules[__name__],
    "an airline",
    "一家航空公司",
    seed,
    policies_en=("Never cancel a trip that was booked with the light fare.",),
    policies_zh=("不得取消light票价的行程。",),
)
