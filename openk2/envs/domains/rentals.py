"""A car rental: branches, cars, customers and bookings."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Annotated, Literal

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Json, Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

BranchId = Annotated[str, Slot("branch_id", "branch id", "门店编号", "id", entity="branches")]
CarId = Annotated[str, Slot("car_id", "car id", "车辆编号", "id", entity="cars")]
CustomerId = Annotated[
    str, Slot("customer_id", "customer id", "客户编号", "id", entity="customers")
]
BookingId = Annotated[str, Slot("booking_id", "booking id", "预订编号", "id", entity="bookings")]
City = Annotated[str, Slot("city", "city of the branch", "门店城市")]
Model = Annotated[str, Slot("model", "model of the car", "车型")]
Plate = Annotated[str, Slot("plate", "licence plate", "车牌号")]
ClassName = Literal["small", "family", "van", "luxury"]
Class = Annotated[ClassName, Slot("car_class", "class of the car", "车辆级别")]
CustomerName = Annotated[str, Slot("customer", "name of the customer", "客户姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
Age = Annotated[int, Slot("age", "age of the driver", "驾驶员年龄", "count")]
Pickup = Annotated[str, Slot("pickup", "pick-up day", "取车日期", "date")]
Back = Annotated[str, Slot("back", "return day", "还车日期", "date")]
Insured = Annotated[bool, Slot("insured", "full insurance cover", "全险选择")]
ExtraName = Literal["child_seat", "navigation", "roof_box", "snow_chains"]
Extra = Annotated[ExtraName, Slot("extra", "extra", "附加项目")]
PartName = Literal["windscreen", "tyre", "bumper", "mirror"]
Part = Annotated[PartName, Slot("part", "damaged part", "损坏部位")]


@dataclass(frozen=True, slots=True)
class Branch:
    """Where cars are fetched."""

    id: BranchId
    city: City


@dataclass(frozen=True, slots=True)
class Car:
    """A car of a branch."""

    id: CarId
    model: Model
    plate: Plate
    car_class: Class
    branch_id: BranchId
    rate: int
    damage: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody who rents."""

    id: CustomerId
    customer: CustomerName
    email: Email
    age: int


@dataclass(frozen=True, slots=True)
class Booking:
    """A car for a customer for some days."""

    id: BookingId
    customer_id: CustomerId
    car_id: CarId
    pickup: Pickup
    back: str
    extras: tuple[str, ...] = ()


@dataclass(slots=True)
class Rental(World):
    """Everything there is."""

    branches: dict[str, Branch] = field(default_factory=dict[str, Branch])
    cars: dict[str, Car] = field(default_factory=dict[str, Car])
    customers: dict[str, Customer] = field(default_factory=dict[str, Customer])
    bookings: dict[str, Booking] = field(default_factory=dict[str, Booking])


CITIES = (
    "Seville", "Antwerp", "Malmo", "Trieste", "Split", "Galway", "Bergen", "Lyon", "Gdansk",
    "Basel", "Cartagena", "Hanoi", "Perth", "Winnipeg",
)  # fmt: skip
MODELS: dict[str, tuple[ClassName, int]] = {
    "Fiat Panda": ("small", 29), "Kia Picanto": ("small", 31), "Opel Corsa": ("small", 34),
    "Skoda Octavia": ("family", 48), "Toyota Corolla": ("family", 52), "Volvo V60": ("family", 66),
    "Ford Transit": ("van", 79), "VW Crafter": ("van", 85), "Citroen Jumper": ("van", 74),
    "Audi A8": ("luxury", 160), "Lexus LS": ("luxury", 175), "Tesla Model S": ("luxury", 150),
}  # fmt: skip
FIRST = (
    "Adele", "Baptiste", "Carmen", "Davide", "Emre", "Fiona", "Gideon", "Hanneke", "Isak", "Jorge",
    "Katya", "Lucian", "Mina", "Nils", "Olumide", "Pilar",
)  # fmt: skip
LAST = (
    "Aalto", "Beaumont", "Conti", "Drozd", "Espinosa", "Falk", "Greco", "Hofer", "Ito", "Juarez",
    "Keita", "Lund", "Matos", "Nyberg",
)  # fmt: skip
CLASSES: dict[ClassName, tuple[str, str]] = {
    "small": ("small", "小型车"), "family": ("family", "家用车"), "van": ("van-sized", "面包车"),
    "luxury": ("luxury", "豪华车"),
}  # fmt: skip
EXTRAS: dict[ExtraName, tuple[str, str]] = {
    "child_seat": ("child seat", "儿童座椅"), "navigation": ("navigation system", "导航"),
    "roof_box": ("roof box", "车顶箱"), "snow_chains": ("set of snow chains", "防滑链"),
}  # fmt: skip
PARTS: dict[PartName, tuple[str, str]] = {
    "windscreen": ("windscreen", "挡风玻璃"), "tyre": ("tyre", "轮胎"),
    "bumper": ("bumper", "保险杠"), "mirror": ("mirror", "后视镜"),
}  # fmt: skip
COVER = {True: ("with full insurance", "全险"), False: ("without full insurance", "不买全险")}


def seed(rng: Random) -> Rental:
    """Make three branches with cars of the same models, and bookings of the next weeks."""
    world = Rental(f"{date(2026, 1, 6) + timedelta(days=rng.randrange(290))} 08:15")
    for city in rng.sample(CITIES, 3):
        key = new_id(world.branches, "B", city)
        world.branches[key] = Branch(key, city)
    models = rng.sample(list(MODELS), 7)
    for branch in world.branches:
        for model in rng.sample(models, 5):
            plate = f"{rng.choice('KLMRS')}{rng.choice('ABDEF')} {rng.randint(100, 9999)}"
            key, (kind, rate) = new_id(world.cars, "C", plate), MODELS[model]
            world.cars[key] = Car(key, model, plate, kind, branch, rate + rng.randint(0, 9))
    names = [f"{first} {rng.choice(LAST)}" for first in rng.sample(FIRST, 8)]
    for name in (*names, names[0]):
        address = f"{name.split()[0]}{rng.randint(10, 99)}@example.com".lower()
        key, age = new_id(world.customers, "K", address), rng.randint(21, 70)
        world.customers[key] = Customer(key, name, address, age)
    for key in rng.sample(list(world.cars), 3):
        world.cars[key] = replace(world.cars[key], damage=(rng.choice(list(PARTS)),))
    cars = rng.sample([car.id for car in world.cars.values() if not car.damage], 9)
    people = rng.sample(list(world.customers), 9)
    for number, (car, person) in enumerate(zip(cars, people, strict=True)):
        start = rng.randint(2, 20)
        pickup, back = _in(world, start), _in(world, start + rng.randint(2, 9))
        key = new_id(world.bookings, "R", person, car, pickup)
        extras = tuple(rng.sample(list(EXTRAS), number % 2))
        world.bookings[key] = Booking(key, person, car, pickup, back, extras)
    return world


def _in(world: Rental, days: int, start: str = "") -> str:
    return str(date.fromisoformat(start or world.today) + timedelta(days=days))


def _days(pickup: str, back: str) -> int:
    days = (date.fromisoformat(back) - date.fromisoformat(pickup)).days
    check(days > 0, "bad_dates", "The return day must come after the pick-up day.")
    return days


def _check_free(world: Rental, car_id: str, pickup: str, back: str, but: str = "") -> None:
    for one in world.bookings.values():
        clash = one.car_id == car_id and one.pickup <= back and pickup <= one.back
        check(
            one.id == but or not clash, "not_free", f"The car is booked {one.pickup} to {one.back}."
        )


# --- tools ---------------------------------------------------------------------------------------


@tool("Find branches by city.", "按城市查找门店。")
def find_branches(world: Rental, city: City) -> list[Branch]:
    """Return at most five."""
    return [branch for branch in world.branches.values() if has(city, branch.city)][:5]


@tool("List the cars of a branch, of one class or all.", "列出门店的车辆，可按级别筛选。",
      errors=("not_found",))  # fmt: skip
def branch_cars(world: Rental, branch_id: BranchId, car_class: Class | None = None) -> list[Car]:
    """Return at most five, the cheapest first."""
    find(world.branches, branch_id, "branch")
    cars = [car for car in world.cars.values() if car.branch_id == branch_id]
    return sorted((c for c in cars if same(car_class, c.car_class)), key=lambda c: (c.rate, c.id))[
        :5
    ]


@tool("Find the car with a licence plate.", "按车牌号查找车辆。", errors=("not_found",))
def car_of_plate(world: Rental, plate: Plate) -> Car:
    """Return the car."""
    found = [car for car in world.cars.values() if car.plate == plate]
    check(bool(found), "not_found", f"No car has the plate {plate}.")
    return found[0]


@tool("Tell what a car costs from one day to another, in all.", "计算某车租用一段时间的总价。",
      errors=("not_found", "bad_dates", "not_free"))  # fmt: skip
def price_of(
    world: Rental, car_id: CarId, pickup: Pickup, back: Back, insured: Insured = False
) -> dict[str, int]:
    """Return days and price; full insurance costs 12 a day."""
    rate = find(world.cars, car_id, "car").rate + (12 if insured else 0)
    days = _days(pickup, back)
    _check_free(world, car_id, pickup, back)
    return {"days": days, "price": days * rate}


@tool("Find customers by name or e-mail.", "按姓名或邮箱查找客户。")
def find_customers(
    world: Rental, customer: CustomerName | None = None, email: Email | None = None
) -> list[Customer]:
    """Return at most five."""
    people = [one for one in world.customers.values() if has(customer, one.customer)]
    return [one for one in people if same(email, one.email)][:5]


@tool("Add a customer. Returns the record.", "新增客户，返回其档案。", writes=True,
      errors=("email_taken", "too_young"))  # fmt: skip
def add_customer(world: Rental, customer: CustomerName, email: Email, age: Age) -> Customer:
    """Add somebody who may drive."""
    taken = any(one.email == email for one in world.customers.values())
    check(not taken, "email_taken", "There is a customer with that address.")
    check(age >= 18, "too_young", "A driver must be 18 or older.")
    key = new_id(world.customers, "K", email)
    world.customers[key] = Customer(key, customer, email, age)
    return world.customers[key]


@tool("List the bookings of a customer.", "列出客户的预订。", errors=("not_found",))
def customer_bookings(world: Rental, customer_id: CustomerId) -> list[Booking]:
    """Return at most five, the earliest first."""
    find(world.customers, customer_id, "customer")
    found = [one for one in world.bookings.values() if one.customer_id == customer_id]
    return sorted(found, key=lambda booking: booking.pickup)[:5]


@tool("Book a car for a customer. Returns the booking.", "为客户预订车辆，返回该预订。",
      writes=True, errors=("not_found", "bad_dates", "not_free"))  # fmt: skip
def book_car(
    world: Rental, customer_id: CustomerId, car_id: CarId, pickup: Pickup, back: Back
) -> Booking:
    """Add a booking where the car is free."""
    find(world.customers, customer_id, "customer")
    find(world.cars, car_id, "car")
    _days(pickup, back)
    _check_free(world, car_id, pickup, back)
    key = new_id(world.bookings, "R", customer_id, car_id, pickup)
    world.bookings[key] = Booking(key, customer_id, car_id, pickup, back)
    return world.bookings[key]


@tool("Change the return day of a booking.", "更改预订的还车日期。", writes=True,
      errors=("not_found", "bad_dates", "not_free"))  # fmt: skip
def change_return(world: Rental, booking_id: BookingId, back: Back) -> Booking:
    """Make a booking longer or shorter."""
    booking = find(world.bookings, booking_id, "booking")
    _days(booking.pickup, back)
    _check_free(world, booking.car_id, booking.pickup, back, but=booking_id)
    world.bookings[booking_id] = replace(booking, back=back)
    return world.bookings[booking_id]


@tool("Add an extra to a booking.", "为预订添加附加项目。", writes=True,
      errors=("not_found", "already_added"))  # fmt: skip
def add_extra(world: Rental, booking_id: BookingId, extra: Extra) -> Booking:
    """Add what the booking does not have."""
    booking = find(world.bookings, booking_id, "booking")
    check(extra not in booking.extras, "already_added", "The booking has that extra.")
    world.bookings[booking_id] = replace(booking, extras=tuple(sorted((*booking.extras, extra))))
    return world.bookings[booking_id]


@tool("Note a damage of a car.", "登记车辆损坏。", writes=True,
      errors=("not_found", "already_noted"))  # fmt: skip
def note_damage(world: Rental, car_id: CarId, part: Part) -> Car:
    """Add a damaged part."""
    car = find(world.cars, car_id, "car")
    check(part not in car.damage, "already_noted", "That damage is noted already.")
    world.cars[car_id] = replace(car, damage=tuple(sorted((*car.damage, part))))
    return world.cars[car_id]


# --- what users want -----------------------------------------------------------------------------


def _of(world: Rental, booking: Booking, *calls: Call, **facts: Json) -> Goal:
    """Make a goal about a booking, which its customer knows by the pick-up day."""
    person = world.customers[booking.customer_id]
    known = told(customer=person.customer, pickup=booking.pickup, **facts)
    return Goal(calls, known, told(email=person.email))


def _car(world: Rental, rng: Random, *, damaged: bool = False) -> Car:
    return rng.choice([car for car in world.cars.values() if bool(car.damage) == damaged])


def _booking_of(world: Rental, rng: Random, car: Car, pickup: str = "") -> Goal:
    person = rng.choice(list(world.customers.values()))
    taken = [one.back for one in world.bookings.values() if one.car_id == car.id]
    pickup = pickup or _in(world, rng.randint(2, 30), max(taken, default=world.today))
    back = _in(world, rng.randint(1, 12), pickup)
    arguments = {"customer_id": person.id, "car_id": car.id, "pickup": pickup, "back": back}
    facts = told(customer=person.customer, model=car.model, city=world.branches[car.branch_id].city)
    facts |= told(pickup=pickup, back=back)
    return Goal((Call("book_car", arguments),), facts, told(email=person.email))


@intent(
    en=("{customer} wants the {model} in {city} from {pickup} to {back}.",
        "Book a {model} at {city} for {customer}[, {pickup}][ until {back}].",
        "I'm {customer}. I'd like the {model} in {city}[, from {pickup}][ to {back}].",
        "{city}, {model}, {pickup} till {back}, name {customer}."),
    zh=("{customer}要在{city}租{model}，{pickup}取，{back}还。",
        "我是{customer}，想订{city}的{model}[，{pickup}取车][，{back}还车]。"),
    reply_en=("The {model} in {city} is booked for {customer} from {pickup} to {back}.",),
    reply_zh=("已为{customer}预订{city}的{model}，{pickup}取车，{back}还车。",),
)  # fmt: skip
def book(world: Rental, rng: Random) -> Goal:
    """Book a car that is free."""
    return _booking_of(world, rng, _car(world, rng))


@intent(
    en=("Book the {model} in {city} for {customer} from {pickup} to {back}.",
        "{customer} needs a car in {city}: {model}, {pickup} until {back}.",
        "Reserve {model}, {city}, {pickup} to {back}, for {customer}, please."),
    zh=("为{customer}预订{city}的{model}，{pickup}到{back}。",
        "{customer}要{city}的{model}，{pickup}取，{back}还。"),
    reply_en=("The {model} in {city} is not free from {pickup} to {back}.",),
    reply_zh=("{city}的{model}在{pickup}到{back}期间已被预订。",), kind="fails",
)  # fmt: skip
def book_taken(world: Rental, rng: Random) -> Goal:
    """Book a car that somebody else has."""
    other = rng.choice(list(world.bookings.values()))
    return _booking_of(world, rng, world.cars[other.car_id], other.pickup)


@intent(
    en=("{customer} would like the {model} in {city} from {pickup} to {back}.",
        "Please book the {city} {model} for {customer}, {pickup} to {back}.",
        "Can {customer} have the {model}, {city}, {pickup} until {back}?"),
    zh=("{customer}想订{city}的{model}，{pickup}到{back}。",
        "请给{customer}订{city}的{model}，{pickup}取，{back}还。"),
    reply_en=("The {model} in {city} is damaged, so I may not rent it out.",),
    reply_zh=("{city}的{model}有损坏，不能出租。",), kind="policy",
)  # fmt: skip
def book_damaged(world: Rental, rng: Random) -> Goal:
    """Book a car that is damaged."""
    car = _car(world, rng, damaged=True)
    goal = _booking_of(world, rng, car)
    return Goal((Call("branch_cars", {"branch_id": car.branch_id}),), goal.facts)


@intent(
    en=("{customer} takes the {model} in {city}, {pickup} to {back}, and needs a {extra}.",
        "Book {model} at {city} for {customer} from {pickup} to {back}, with a {extra}.",
        "{customer} here. The {city} {model}[ from {pickup}][ to {back}] and a {extra}, please."),
    zh=("{customer}订{city}的{model}，{pickup}到{back}，加{extra}。",
        "我是{customer}，要{city}的{model}[，{pickup}取车][，{back}还车]，再加{extra}。"),
    reply_en=("{customer} has the {model} from {pickup} to {back}, with a {extra}.",),
    reply_zh=("已为{customer}预订{model}，{pickup}到{back}，含{extra}。",),
)  # fmt: skip
def book_with_extra(world: Rental, rng: Random) -> Goal:
    """Book a car and something with it."""
    goal, extra = _booking_of(world, rng, _car(world, rng)), rng.choice(list(EXTRAS))
    made = goal.calls[0].arguments
    key = new_id(world.bookings, "R", made["customer_id"], made["car_id"], made["pickup"])
    then = Call("add_extra", {"booking_id": key, "extra": extra})
    facts = {**goal.facts, "extra": Fact("extra", extra, EXTRAS[extra])}
    return Goal((*goal.calls, then), facts, goal.clues)


@intent(
    en=("What does the {model} in {city} cost from {pickup} to {back}, {insured}?",
        "Price for a {model}[ {insured}], {city}, {pickup} to {back}?",
        "How much is the {city} {model}, {pickup} until {back}[, {insured}]?"),
    zh=("{city}的{model}从{pickup}租到{back}，{insured}，多少钱？",
        "{pickup}到{back}租{city}的{model}[，{insured}]要多少钱？"),
    reply_en=("{result.days} days with the {model} cost {result.price}.",),
    reply_zh=("{model}租{result.days}天，共{result.price}。",),
)  # fmt: skip
def ask_price(world: Rental, rng: Random) -> Goal:
    """Learn what a car costs."""
    goal, insured = _booking_of(world, rng, _car(world, rng)), rng.random() < 0.5
    arguments = {k: goal.calls[0].arguments[k] for k in ("car_id", "pickup", "back")}
    facts = {k: fact for k, fact in goal.facts.items() if k != "customer"}
    facts["insured"] = Fact("insured", insured, COVER[insured])
    return Goal((Call("price_of", {**arguments, "insured": insured}),), facts)


@intent(
    en=("Which {car_class} cars do you have in {city}?", "{city}: any {car_class} cars?",
        "I need a {car_class} car[ in {city}]. What is there?"),
    zh=("{city}有哪些{car_class}？", "[{city}]有{car_class}吗？有什么车型？"),
    reply_en=("In {city} we have {rows.model}.",), reply_zh=("{city}有{rows.model}。",),
)  # fmt: skip
def ask_cars(world: Rental, rng: Random) -> Goal:
    """Learn which cars a branch has."""
    car = rng.choice(list(world.cars.values()))
    call = Call("branch_cars", {"branch_id": car.branch_id, "car_class": car.car_class})
    said = Fact("car_class", car.car_class, CLASSES[car.car_class])
    return Goal((call,), told(city=world.branches[car.branch_id].city, car_class=said))


@intent(
    en=("{customer} wants to keep the car of {pickup} until {back}.",
        "Change my booking of {pickup}[: I return it on {back}]. {customer}.",
        "New return day for {customer}, pick-up {pickup}[: {back}]."),
    zh=("{customer}在{pickup}取的车改到{back}还。",
        "我是{customer}，{pickup}那个预订想改还车时间[，{back}还]。"),
    reply_en=("The booking of {pickup} now ends on {back}.",),
    reply_zh=("{pickup}的预订已改为{back}还车。",),
)  # fmt: skip
def extend(world: Rental, rng: Random) -> Goal:
    """Change a return day; no other booking has the car."""
    cars = [one.car_id for one in world.bookings.values()]
    booking = rng.choice([one for one in world.bookings.values() if cars.count(one.car_id) == 1])
    back = _in(world, rng.randint(1, 5), booking.back)
    call = Call("change_return", {"booking_id": booking.id, "back": back})
    return _of(world, booking, call, back=back)


@intent(
    en=("Add a {extra} for {customer}, {pickup}.", "{customer} also wants a {extra} on {pickup}.",
        "Please put a {extra} on the {pickup} booking of {customer}."),
    zh=("给{customer}在{pickup}的预订加{extra}。", "{customer}在{pickup}取的车再加一个{extra}。"),
    reply_en=("The booking of {customer} on {pickup} has a {extra} already.",),
    reply_zh=("{customer}在{pickup}的预订已经有{extra}了。",), kind="fails",
)  # fmt: skip
def extra_twice(world: Rental, rng: Random) -> Goal:
    """Want an extra that is there already."""
    booking = rng.choice([one for one in world.bookings.values() if one.extras])
    name, words = rng.choice([one for one in EXTRAS.items() if one[0] in booking.extras])
    call = Call("add_extra", {"booking_id": booking.id, "extra": name})
    return _of(world, booking, call, extra=Fact("extra", name, words))


@intent(
    en=("{plate} came back with a broken {part}.", "The {part} of {plate} is damaged.",
        "Please note a damage: {plate}[, {part}]."),
    zh=("{plate}还车时{part}坏了。", "登记一下{plate}的损坏[：{part}]。"),
    reply_en=("The damage of {plate} is noted: {part}.",),
    reply_zh=("已登记{plate}的损坏：{part}。",),
)  # fmt: skip
def damage(world: Rental, rng: Random) -> Goal:
    """Note a damage."""
    car = rng.choice(list(world.cars.values()))
    name, words = rng.choice([one for one in PARTS.items() if one[0] not in car.damage])
    call = Call("note_damage", {"car_id": car.id, "part": name})
    return Goal((call,), told(plate=car.plate, part=Fact("part", name, words)))


def _joining(rng: Random, age: int) -> Goal:
    name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    email = f"{name.replace(' ', '-')}@example.net".lower()
    values = {"customer": name, "email": email, "age": age}
    return Goal((Call("add_customer", values),), told(**values))


@intent(
    en=("New customer: {customer}, {age}, {email}.",
        "Sign me up: {customer}[, {email}][, {age} years old].",
        "{customer} has never rented here[; mail {email}][, age {age}]. Please add."),
    zh=("新客户{customer}，{age}岁，{email}。",
        "我叫{customer}，想注册[，邮箱{email}][，{age}岁]。"),
    reply_en=("{customer} is a customer now: {result.id}.",),
    reply_zh=("已新增客户{customer}，编号{result.id}。",),
)  # fmt: skip
def join(_world: Rental, rng: Random) -> Goal:
    """Add a customer."""
    return _joining(rng, rng.randint(21, 75))


@intent(
    en=("Please add {customer}, aged {age}, {email}.",
        "I'm {customer}, {age}, {email}. Sign me up!",
        "Customer {customer}: {email}, {age} years."),
    zh=("请新增客户{customer}，{age}岁，{email}。",
        "我是{customer}，{age}岁，邮箱{email}，想注册。"),
    reply_en=("Drivers must be 21, so I may not add {customer} at {age}.",),
    reply_zh=("驾驶员须年满21岁，{customer}只有{age}岁，不能新增。",), kind="policy",
)  # fmt: skip
def join_young(_world: Rental, rng: Random) -> Goal:
    """Add a customer who is too young."""
    return Goal((), _joining(rng, rng.randint(18, 20)).facts)


DOMAIN = domain_of(
    sys.modules[__name__], "a car rental", "租车公司", seed,
    policies_en=("Never rent out a car that is damaged.", "Never add customers younger than 21."),
    policies_zh=("不得出租有损坏的车辆。", "不得新增未满21岁的客户。"),
)  # fmt: skip
