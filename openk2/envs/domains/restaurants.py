"""A restaurant: tables, the menu, reservations and what is ordered ahead."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from random import Random
from typing import Annotated, Literal

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

TableId = Annotated[str, Slot("table_id", "table id", "餐桌编号", "id", entity="places")]
DishId = Annotated[str, Slot("dish_id", "dish id", "菜品编号", "id", entity="dishes")]
ReservationId = Annotated[
    str, Slot("reservation_id", "reservation id", "订位编号", "id", entity="reservations")
]
OrderId = Annotated[str, Slot("order_id", "order id", "预点编号", "id", entity="orders")]
Label = Annotated[str, Slot("label", "name of the table", "餐桌名称")]
Area = Annotated[Literal["window", "garden", "bar", "hall"], Slot("area", "area", "区域")]
Dish = Annotated[str, Slot("dish", "name of the dish", "菜名")]
Course = Annotated[Literal["starter", "main", "dessert"], Slot("course", "course", "菜品类别")]
Diet = Annotated[Literal["vegan", "vegetarian", "fish", "meat"], Slot("diet", "diet", "饮食类型")]
Price = Annotated[float, Slot("price", "price", "价格", "money")]
Name = Annotated[str, Slot("name", "name of the reservation", "订位人姓名")]
Phone = Annotated[str, Slot("phone", "phone number", "电话号码", "phone")]
Day = Annotated[str, Slot("day", "day of the reservation", "订位日期", "date")]
Start = Annotated[str, Slot("start", "time of arrival", "到店时间", "datetime")]
NewStart = Annotated[str, Slot("new_start", "new time of arrival", "新的到店时间", "datetime")]
People = Annotated[int, Slot("people", "number of people", "人数", "count")]
State = Annotated[Literal["booked", "cancelled"], Slot("state", "state", "订位状态")]
Portions = Annotated[int, Slot("portions", "portions", "份数", "count")]

OPENS, LAST_ARRIVAL = "12:00", "21:00"
STAY = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Place:
    """A table that one can sit at."""

    id: TableId
    label: Label
    area: Area
    seats: Annotated[int, Slot("seats", "number of seats", "座位数", "count")]


@dataclass(frozen=True, slots=True)
class MenuItem:
    """What the kitchen makes."""

    id: DishId
    name: Dish
    course: Course
    diet: Diet
    price: Price
    sold_out: bool = False


@dataclass(frozen=True, slots=True)
class Reservation:
    """Two hours at a table."""

    id: ReservationId
    name: Name
    phone: Phone
    day: Day
    start: Start
    people: People
    table_id: TableId
    state: State = "booked"


@dataclass(frozen=True, slots=True)
class Order:
    """Portions of a dish that will be ready."""

    id: OrderId
    reservation_id: ReservationId
    dish_id: DishId
    portions: Portions


@dataclass(slots=True)
class Restaurant(World):
    """Everything there is."""

    places: dict[str, Place] = field(default_factory=dict[str, Place])
    dishes: dict[str, MenuItem] = field(default_factory=dict[str, MenuItem])
    reservations: dict[str, Reservation] = field(default_factory=dict[str, Reservation])
    orders: dict[str, Order] = field(default_factory=dict[str, Order])


LABELS = (
    "Basil", "Clove", "Dill", "Fennel", "Ginger", "Juniper", "Lemongrass", "Nutmeg", "Oregano",
    "Paprika", "Rosemary", "Saffron", "Tarragon",
)  # fmt: skip
SEATS: dict[Area, int] = {"window": 2, "garden": 6, "bar": 3, "hall": 4}
MANNERS = ("Charred", "Smoked", "Slow", "Spiced", "Pickled", "Golden", "Wild", "House", "Warm")
FOODS: dict[Course, dict[str, Diet]] = {
    "starter": {"leek": "vegan", "mackerel": "fish", "burrata": "vegetarian", "beet": "vegan"},
    "main": {"lamb": "meat", "trout": "fish", "aubergine": "vegan", "gnocchi": "vegetarian",
             "duck": "meat", "lentil stew": "vegan"},
    "dessert": {"fig tart": "vegetarian", "sorbet": "vegan", "cheesecake": "vegetarian"},
}  # fmt: skip
FIRST = (
    "Adaeze", "Benoit", "Carmen", "Davide", "Esra", "Finn", "Gloria", "Hugo", "Ikram", "Johanna",
    "Kwame", "Lidia", "Mina", "Nils", "Ottilie", "Pavel", "Rui", "Sana", "Thabo", "Ulrike",
)  # fmt: skip
LAST = (
    "Aydin", "Blum", "Carvalho", "Demir", "Ekstrom", "Fischer", "Goncalves", "Hirsch", "Ibrahim",
    "Jarvis", "Kim", "Lehmann", "Marchetti", "Ndiaye", "Oliveira", "Prskalo",
)  # fmt: skip
DIETS = {"vegan": ("vegan", "纯素"), "vegetarian": ("vegetarian", "素食"),
         "fish": ("fish", "鱼类"), "meat": ("meat", "肉类")}  # fmt: skip
COURSES = {
    "starter": ("starters", "前菜"),
    "main": ("mains", "主菜"),
    "dessert": ("desserts", "甜点"),
}
AREAS = {"window": ("by the window", "靠窗"), "garden": ("in the garden", "花园"),
         "bar": ("at the bar", "吧台"), "hall": ("in the hall", "大厅")}  # fmt: skip


def seed(rng: Random) -> Restaurant:
    """Make a fortnight of reservations; some names come twice."""
    today = date(2026, 1, 15) + timedelta(days=rng.randrange(310))
    world = Restaurant(f"{today} 11:00")
    for number, label in enumerate(rng.sample(LABELS, 7)):
        area = list(SEATS)[number % 4]
        key = new_id(world.places, "T", label)
        world.places[key] = Place(key, label, area, SEATS[area] + rng.choice((0, 0, 2)))
    for course, foods in FOODS.items():
        for food in rng.sample(list(foods), 3):
            name = f"{rng.choice(MANNERS)} {food}"
            key, price = (
                new_id(world.dishes, "D", name),
                rng.randint(6, 28) + rng.choice((0.0, 0.5)),
            )
            sold_out = rng.random() < 0.25
            world.dishes[key] = MenuItem(key, name, course, foods[food], price, sold_out)
    names = [f"{a} {b}" for a, b in zip(rng.sample(FIRST, 9), rng.sample(LAST, 9), strict=True)]
    days = rng.sample(range(1, 16), 12)
    for name, gap in zip((*names, *rng.sample(names, 3)), days, strict=True):
        start, place = _some_time(rng, today + timedelta(gap)), rng.choice([*world.places.values()])
        people = rng.randint(max(1, place.seats - 2), place.seats)
        reservation = _add(world, name, _some_phone(rng), start, people, place)
        if gap % 5 == 0:
            world.reservations[reservation.id] = replace(reservation, state="cancelled")
        elif gap % 2:
            _order(world, reservation.id, rng.choice(list(world.dishes)), rng.randint(1, 4))
    return world


def _some_time(rng: Random, day: date) -> str:
    return f"{day} {rng.randint(12, 20)}:{rng.choice(('00', '30'))}"


def _some_phone(rng: Random) -> str:
    return f"0{rng.randint(30, 89)} {rng.randint(100, 999)} {rng.randint(1000, 9999)}"


def _add(
    world: Restaurant, name: str, phone: str, start: str, people: int, place: Place
) -> Reservation:
    key = new_id(world.reservations, "R", name, phone, start)
    day, table = start[:10], place.id
    world.reservations[key] = Reservation(key, name, phone, day, start, people, table)
    return world.reservations[key]


def _order(world: Restaurant, reservation_id: str, dish_id: str, portions: int) -> Order:
    key = new_id(world.orders, "O", reservation_id, dish_id, portions)
    world.orders[key] = Order(key, reservation_id, dish_id, portions)
    return world.orders[key]


def _free(world: Restaurant, place_id: str, start: str, but: str = "") -> bool:
    begin = datetime.fromisoformat(start)
    return not any(
        abs(datetime.fromisoformat(one.start) - begin) < STAY
        for one in world.reservations.values()
        if one.table_id == place_id and one.state == "booked" and one.id != but
    )


def _fitting(world: Restaurant, start: str, people: int, area: Area | None = None) -> list[Place]:
    """Return free tables that are large enough, the smallest first."""
    found = [one for one in world.places.values() if one.seats >= people and same(area, one.area)]
    found = [one for one in found if _free(world, one.id, start)]
    return sorted(found, key=lambda one: (one.seats, one.label))


def _check_time(world: Restaurant, start: str) -> None:
    check(start > world.now, "in_the_past", "That time is over.")
    check(OPENS <= start[11:] <= LAST_ARRIVAL, "closed", "The restaurant is closed then.")


def _booked(world: Restaurant, reservation_id: str) -> Reservation:
    found = find(world.reservations, reservation_id, "reservation")
    check(found.state == "booked", "already_cancelled", "This reservation is cancelled.")
    return found


# --- tools ---------------------------------------------------------------------------------------


@tool("Find dishes of the menu by name, course or diet.",
      "按菜名、类别或饮食类型查找菜品。")  # fmt: skip
def find_dishes(
    world: Restaurant, name: Dish | None = None, course: Course | None = None,
    diet: Diet | None = None,
) -> list[MenuItem]:  # fmt: skip
    """Return at most five."""
    found = [one for one in world.dishes.values() if has(name, one.name)]
    return [one for one in found if same(course, one.course) and same(diet, one.diet)][:5]


@tool("Find tables by name.", "按名称查找餐桌。")
def find_tables(world: Restaurant, label: Label | None = None) -> list[Place]:
    """Return at most five."""
    return [one for one in world.places.values() if has(label, one.label)][:5]


@tool("List tables that are free for two hours from a time, the smallest first.",
      "列出某时间起两小时内空着的餐桌，小的在前。", errors=("in_the_past", "closed"))  # fmt: skip
def free_tables(world: Restaurant, start: Start, people: People) -> list[Place]:
    """Return at most five."""
    _check_time(world, start)
    return _fitting(world, start, people)[:5]


@tool("Find reservations by name, phone number or day, the earliest first.",
      "按姓名、电话或日期查找订位，早的在前。")  # fmt: skip
def find_reservations(
    world: Restaurant, name: Name | None = None, phone: Phone | None = None, day: Day | None = None
) -> list[Reservation]:
    """Return at most five."""
    found = [one for one in world.reservations.values() if has(name, one.name)]
    found = [one for one in found if same(phone, one.phone) and same(day, one.day)]
    return sorted(found, key=lambda one: one.start)[:5]


@tool("Reserve the smallest free table that fits. Returns the reservation.",
      "预订能坐下的最小空桌，返回订位。", writes=True,
      errors=("in_the_past", "closed", "full"))  # fmt: skip
def reserve(
    world: Restaurant, name: Name, phone: Phone, start: Start, people: People,
    area: Area | None = None,
) -> Reservation:  # fmt: skip
    """Take a table where there is one."""
    _check_time(world, start)
    fitting = _fitting(world, start, people, area)
    check(bool(fitting), "full", "No table that fits is free then.")
    return _add(world, name, phone, start, people, fitting[0])


@tool("Move a reservation to another time, at the same table.", "把订位改到其他时间，餐桌不变。",
      writes=True,
      errors=("not_found", "already_cancelled", "in_the_past", "closed", "full"))  # fmt: skip
def move_reservation(
    world: Restaurant, reservation_id: ReservationId, new_start: NewStart
) -> Reservation:
    """Change when guests come."""
    found = _booked(world, reservation_id)
    _check_time(world, new_start)
    check(_free(world, found.table_id, new_start, found.id), "full", "The table is taken then.")
    world.reservations[found.id] = replace(found, start=new_start, day=new_start[:10])
    return world.reservations[found.id]


@tool("Put a reservation at another table.", "为订位更换餐桌。", writes=True,
      errors=("not_found", "already_cancelled", "too_small", "taken"))  # fmt: skip
def switch_table(
    world: Restaurant, reservation_id: ReservationId, table_id: TableId
) -> Reservation:
    """Change the table where it is free and large enough."""
    found, place = _booked(world, reservation_id), find(world.places, table_id, "table")
    check(found.people <= place.seats, "too_small", f"The table has {place.seats} seats.")
    check(_free(world, table_id, found.start, but=found.id), "taken", "The table is taken then.")
    world.reservations[reservation_id] = replace(found, table_id=table_id)
    return world.reservations[reservation_id]


@tool("Cancel a reservation.", "取消订位。", writes=True,
      errors=("not_found", "already_cancelled"))  # fmt: skip
def drop_reservation(world: Restaurant, reservation_id: ReservationId) -> Reservation:
    """Give a table free."""
    found = _booked(world, reservation_id)
    world.reservations[reservation_id] = replace(found, state="cancelled")
    return world.reservations[reservation_id]


@tool("Order portions of a dish ahead for a reservation.", "为订位预点菜品。", writes=True,
      errors=("not_found", "already_cancelled", "sold_out"))  # fmt: skip
def order_ahead(
    world: Restaurant, reservation_id: ReservationId, dish_id: DishId, portions: Portions = 1
) -> Order:
    """Have something ready."""
    _booked(world, reservation_id)
    dish = find(world.dishes, dish_id, "dish")
    check(not dish.sold_out, "sold_out", "The kitchen has none left of this dish.")
    return _order(world, reservation_id, dish_id, portions)


# --- what users want -----------------------------------------------------------------------------


def _draw(world: Restaurant, rng: Random) -> Reservation:
    return rng.choice([one for one in world.reservations.values() if one.state == "booked"])


def _goal(tool_name: str, found: Reservation, **more: Fact) -> Goal:
    """Return a call on a reservation, whose other arguments are the facts of these kinds."""
    arguments = {kind: fact.value for kind, fact in more.items()}
    call = Call(tool_name, {"reservation_id": found.id, **arguments})
    return Goal((call,), told(name=found.name, **more), told(day=found.day, phone=found.phone))


@intent(
    en=("Which {diet} {course} do you have?", "I only eat {diet} things. What {course} are there?",
        "What's on the menu - {course}[, {diet} ones]?"),
    zh=("有哪些{diet}的{course}？", "{course}里有什么[{diet}的]？"),
    reply_en=("We have {rows.name}, for {rows.price}.", "There is {rows.name}, at {rows.price}."),
    reply_zh=("有{rows.name}，价格{rows.price}。",),
)  # fmt: skip
def ask_menu(world: Restaurant, rng: Random) -> Goal:
    """Learn what there is to eat."""
    dish = rng.choice(list(world.dishes.values()))
    call = Call("find_dishes", {"course": dish.course, "diet": dish.diet})
    course, diet = COURSES[dish.course], DIETS[dish.diet]
    facts = told(course=Fact("course", dish.course, course), diet=Fact("diet", dish.diet, diet))
    return Goal((call,), facts)


@intent(
    en=("Could {people} of us still come on {start}? Which tables are left?",
        "What's free at {start}[ for {people}]?",
        "We'd be {people}, arriving {start}. What tables do you have then?"),
    zh=("{start}来{people}个人，还有哪些桌？", "{start}[{people}位]还有空桌吗？"),
    reply_en=("Free then: {rows.label}, with {rows.seats} seats.",),
    reply_zh=("那时空着的有{rows.label}，座位数{rows.seats}。",),
)  # fmt: skip
def ask_free(world: Restaurant, rng: Random) -> Goal | None:
    """Learn which tables are free."""
    start, people = _later(world, rng), rng.randint(2, 6)
    visit, free = {"start": start, "people": people}, _fitting(world, start, people)
    return Goal((Call("free_tables", visit),), told(**visit)) if free else None


def _later(world: Restaurant, rng: Random) -> str:
    return _some_time(rng, date.fromisoformat(world.today) + timedelta(rng.randint(1, 20)))


def _visit(world: Restaurant, rng: Random, start: str) -> tuple[Call, dict[str, Fact]]:
    area, people = rng.choice(list(AREAS)), rng.randint(2, 3)
    name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    visit = {"name": name, "phone": _some_phone(rng), "start": start, "people": people}
    facts = told(**visit, area=Fact("area", area, AREAS[area]))
    return Call("reserve", {**visit, "area": area}), facts


@intent(
    en=("A table for {people} on {start}, {area}, please. {name}, {phone}.",
        "I'm {name} ({phone}) and want to eat with you at {start}, {people} people[, {area}].",
        "Reserve for {name}[, {people} people][, {start}][, {area}]; call me on {phone}."),
    zh=("订{start}，{people}位，{area}，我叫{name}，电话{phone}。",
        "{name}订位[，{start}到][，{people}个人][，想坐{area}]，电话{phone}。"),
    reply_en=("{people} people are expected on {start}; the reservation is {result.id}.",),
    reply_zh=("已订好{start}，{people}位，订位编号{result.id}。",),
)  # fmt: skip
def book(world: Restaurant, rng: Random) -> Goal | None:
    """Reserve a table in an area."""
    call, facts = _visit(world, rng, _later(world, rng))
    fitting = _fitting(world, *(call.arguments[name] for name in ("start", "people", "area")))
    return Goal((call,), facts) if fitting else None


@intent(
    en=("{name} here ({phone}): {people} of us at {start}, {area} if you can.",
        "Can you squeeze in {people} people {area}[ on {start}]? Name {name}, phone {phone}."),
    zh=("{name}，电话{phone}，{start}想来{people}个人，坐{area}。",
        "{start}给{name}留{people}位[，{area}]，电话{phone}。"),
    reply_en=("At {start} we are closed, so I could not reserve.",),
    reply_zh=("{start}我们不营业，无法订位。",),
    kind="fails",
)  # fmt: skip
def book_closed(world: Restaurant, rng: Random) -> Goal:
    """Reserve when nobody is there."""
    hour = rng.choice(("08:30", "09:00", "10:30", "22:30", "23:00"))
    call, facts = _visit(world, rng, f"{_later(world, rng)[:10]} {hour}")
    return Goal((call,), facts)


@intent(
    en=("We need a table for {people} on {start}, name {name}, phone {phone}.",
        "It's a big party: {people} people, {start}. I'm {name}, {phone}."),
    zh=("{start}要一桌{people}人的，我是{name}，电话{phone}。",
        "{people}个人聚会，{start}，{name}，{phone}。"),
    reply_en=("I may not take parties of {people}; please ask the events office.",),
    reply_zh=("{people}人的聚会不能在这里订，请联系宴会部。",),
    kind="policy",
)  # fmt: skip
def book_party(world: Restaurant, rng: Random) -> Goal:
    """Ask for more than the operator permits."""
    people = Fact("people", rng.randint(13, 40))
    return Goal((), {**_visit(world, rng, _later(world, rng))[1], "people": people})


@intent(
    en=("{name} will come at {new_start} instead.", "Move the table of {name}[ to {new_start}].",
        "We're running late! {name}; could it be {new_start}?"),
    zh=("{name}的订位改到{new_start}。", "我是{name}，想换个时间[，{new_start}到]。"),
    reply_en=("{name} is now expected at {new_start}.",),
    reply_zh=("{name}的订位已改到{new_start}。",),
)  # fmt: skip
def postpone(world: Restaurant, rng: Random) -> Goal | None:
    """Move a reservation to a free time."""
    found, start = _draw(world, rng), _later(world, rng)
    free = start != found.start and _free(world, found.table_id, start, found.id)
    return _goal("move_reservation", found, **told(new_start=start)) if free else None


@intent(
    en=("Put {name} at {label}.", "{name} would rather sit at the table {label}, please switch.",
        "Is {label} possible? It's for {name}. Then change us over."),
    zh=("把{name}换到{label}桌。", "{name}想坐{label}那张桌，请换一下。"),
    reply_en=("{name} will sit at {label}.",),
    reply_zh=("{name}已换到{label}桌。",),
)  # fmt: skip
def switch(world: Restaurant, rng: Random) -> Goal | None:
    """Change the table."""
    found = _draw(world, rng)
    fitting = _fitting(world, found.start, found.people)
    if not fitting:
        return None
    place = rng.choice(fitting)
    call = Call("switch_table", {"reservation_id": found.id, "table_id": place.id})
    facts = told(name=found.name, label=place.label)
    return Goal((call,), facts, told(day=found.day, phone=found.phone))


@intent(
    en=("Cancel the table of {name}.", "{name} can't come, sorry!", "We'll stay home. {name}."),
    zh=("取消{name}的订位。", "{name}来不了了，抱歉。"),
    reply_en=("The reservation of {name} for {result.start} is cancelled.",),
    reply_zh=("{name}在{result.start}的订位已取消。",),
)  # fmt: skip
def cancel(world: Restaurant, rng: Random) -> Goal:
    """Cancel a reservation."""
    return _goal("drop_reservation", _draw(world, rng))


def _ahead(world: Restaurant, rng: Random, *, sold_out: bool) -> Goal | None:
    dishes = [one for one in world.dishes.values() if one.sold_out == sold_out]
    if not dishes:
        return None
    found, dish, portions = _draw(world, rng), rng.choice(dishes), rng.randint(1, 5)
    ids = {"reservation_id": found.id, "dish_id": dish.id}
    facts = told(name=found.name, dish=dish.name, portions=portions)
    call = Call("order_ahead", {**ids, "portions": portions})
    return Goal((call,), facts, told(day=found.day, phone=found.phone))


@intent(
    en=("Have {portions} {dish} ready for {name}.", "{name} would like {dish}[, {portions} times].",
        "Order ahead for {name}: {dish}[ ({portions} portions)]."),
    zh=("给{name}预点{portions}份{dish}。", "{name}要{dish}[，{portions}份]，请提前准备。"),
    reply_en=("{portions} portions of {dish} will be ready for {name}.",),
    reply_zh=("已为{name}预点{portions}份{dish}。",),
)  # fmt: skip
def ahead(world: Restaurant, rng: Random) -> Goal | None:
    """Order a dish that is there."""
    return _ahead(world, rng, sold_out=False)


@intent(
    en=("{name} wants {dish}, {portions} of them, prepared.", "{portions} {dish} for {name}, ok?"),
    zh=("{name}想要{portions}份{dish}。", "{dish}来{portions}份，{name}的桌。"),
    reply_en=("I could not order it: {dish} is sold out.",),
    reply_zh=("无法预点：{dish}已售完。",),
    kind="fails",
)  # fmt: skip
def ahead_sold_out(world: Restaurant, rng: Random) -> Goal | None:
    """Order a dish that is not there."""
    return _ahead(world, rng, sold_out=True)


DOMAIN = domain_of(
    sys.modules[__name__],
    "a restaurant",
    "一家餐厅",
    seed,
    policies_en=("Never reserve for more than 12 people; the events office does that.",),
    policies_zh=("超过12人的订位不得受理，由宴会部负责。",),
)
