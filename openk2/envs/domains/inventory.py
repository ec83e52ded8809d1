"""A warehouse: products, shelves, suppliers and purchase orders."""

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

ProductId = Annotated[str, Slot("product_id", "product id", "产品编号", "id", entity="products")]
ShelfId = Annotated[str, Slot("shelf_id", "shelf id", "货架编号", "id", entity="shelves")]
SourceId = Annotated[
    str, Slot("source_id", "source shelf id", "来源货架编号", "id", entity="shelves")
]
TargetId = Annotated[
    str, Slot("target_id", "target shelf id", "目标货架编号", "id", entity="shelves")
]
SupplierId = Annotated[
    str, Slot("supplier_id", "supplier id", "供应商编号", "id", entity="suppliers")
]
OrderId = Annotated[str, Slot("order_id", "order number", "采购单号", "id", entity="orders")]
Product_ = Annotated[str, Slot("product", "name of the product", "产品名称")]
Sku = Annotated[str, Slot("sku", "article number", "货号")]
ShelfName = Annotated[str, Slot("shelf", "shelf", "货架")]
Supplier_ = Annotated[str, Slot("supplier", "supplier", "供应商")]
Units = Annotated[int, Slot("units", "number of units", "数量", "count")]
Due = Annotated[str, Slot("due", "delivery date", "交货日期", "date")]
StateName = Literal["open", "received", "cancelled"]
State = Annotated[StateName, Slot("state", "state of the order", "采购单状态")]


@dataclass(frozen=True, slots=True)
class Product:
    """Something that is kept."""

    id: ProductId
    product: Product_
    sku: Sku
    price: int
    minimum: int
    discontinued: bool = False


@dataclass(frozen=True, slots=True)
class Shelf:
    """A place where products lie."""

    id: ShelfId
    shelf: ShelfName


@dataclass(frozen=True, slots=True)
class Stock:
    """How much of a product lies on a shelf."""

    id: str
    product_id: ProductId
    shelf_id: ShelfId
    shelf: ShelfName
    units: int


@dataclass(frozen=True, slots=True)
class Supplier:
    """Somebody who delivers within a number of days."""

    id: SupplierId
    supplier: Supplier_
    lead_days: int


@dataclass(frozen=True, slots=True)
class Order:
    """What was ordered from a supplier."""

    id: OrderId
    supplier_id: SupplierId
    product_id: ProductId
    units: int
    due: Due
    state: State = "open"


@dataclass(slots=True)
class Warehouse(World):
    """Everything there is."""

    products: dict[str, Product] = field(default_factory=dict[str, Product])
    shelves: dict[str, Shelf] = field(default_factory=dict[str, Shelf])
    stocks: dict[str, Stock] = field(default_factory=dict[str, Stock])
    suppliers: dict[str, Supplier] = field(default_factory=dict[str, Supplier])
    orders: dict[str, Order] = field(default_factory=dict[str, Order])


MATERIALS = (
    "steel", "nylon", "rubber", "oak", "copper", "canvas", "ceramic", "aluminium", "cotton",
    "bamboo", "brass", "felt", "zinc", "cork",
)  # fmt: skip
THINGS = (
    "hinges", "ropes", "gloves", "brackets", "tapes", "hooks", "washers", "sheets", "buckets",
    "handles", "mats", "clamps", "pipes", "straps", "rollers", "pads",
)  # fmt: skip
SUPPLIERS = (
    "Nordwerk", "Halden Tools", "Okafor Supply", "Trento Metalli", "Baltic Trade", "Sunrise Parts",
    "Kestrel & Sons", "Yamato Shoji", "Rio Ferragens", "Atlas Hardware", "Delta Goods", "Minerva",
)  # fmt: skip


def seed(rng: Random) -> Warehouse:
    """Make a stocked warehouse; one product's name stands for two articles."""
    today = date(2026, 1, 12) + timedelta(days=rng.randrange(300))
    world = Warehouse(f"{today} 06:45")
    for name in rng.sample(
        [f"{row}-{number:02}" for row in "ABCDEF" for number in range(1, 30)], 7
    ):
        key = new_id(world.shelves, "L", name)
        world.shelves[key] = Shelf(key, name)
    names = rng.sample([f"{material} {thing}" for material in MATERIALS for thing in THINGS], 8)
    for number, name in enumerate((*names, names[0])):
        sku = f"{name[:2].upper()}-{rng.randint(1000, 9999)}"
        key, price = new_id(world.products, "P", sku), rng.randint(2, 90)
        world.products[key] = Product(key, name, sku, price, rng.choice((10, 20, 50)), number > 6)
        for shelf in rng.sample(list(world.shelves.values()), rng.randint(1, 3)):
            _put(world, key, shelf.id, rng.randint(4, 40))
    for name in rng.sample(SUPPLIERS, 5):
        key = new_id(world.suppliers, "S", name)
        world.suppliers[key] = Supplier(key, name, rng.choice((2, 5, 9)))
    for day in rng.sample(range(1, 40), 9):
        due, units = str(today + timedelta(days=day)), rng.randrange(20, 300, 10)
        supplier, product = rng.choice(list(world.suppliers)), rng.choice(list(world.products))
        key = new_id(world.orders, "PO", supplier, product, due)
        state = "received" if len(world.orders) in (2, 5) else "open"
        world.orders[key] = Order(key, supplier, product, units, due, state)
    return world


def _units(world: Warehouse, product_id: str, shelf_id: str) -> int:
    stock = world.stocks.get(f"{product_id}/{shelf_id}")
    return stock.units if stock else 0


def _put(world: Warehouse, product_id: str, shelf_id: str, units: int) -> Stock:
    key = f"{product_id}/{shelf_id}"
    world.stocks[key] = Stock(key, product_id, shelf_id, world.shelves[shelf_id].shelf, units)
    return world.stocks[key]


def _take(world: Warehouse, product_id: str, shelf_id: str, units: int) -> Stock:
    find(world.products, product_id, "product")
    find(world.shelves, shelf_id, "shelf")
    left = _units(world, product_id, shelf_id) - units
    check(left >= 0, "insufficient_stock", f"Only {left + units} units are on that shelf.")
    return _put(world, product_id, shelf_id, left)


def _open_order(world: Warehouse, order_id: str) -> Order:
    order = find(world.orders, order_id, "order")
    check(order.state == "open", "not_open", f"The order is {order.state}.")
    return order


# --- tools ---------------------------------------------------------------------------------------


@tool("Find products by name or article number.", "按名称或货号查找产品。")
def find_products(
    world: Warehouse, product: Product_ | None = None, sku: Sku | None = None
) -> list[Product]:
    """Return at most five."""
    products = [one for one in world.products.values() if has(product, one.product)]
    return [one for one in products if same(sku, one.sku)][:5]


@tool("Show one product.", "查看一个产品。", errors=("not_found",))
def product_card(world: Warehouse, product_id: ProductId) -> Product:
    """Return the product."""
    return find(world.products, product_id, "product")


@tool("Find shelves by name.", "按名称查找货架。")
def find_shelves(world: Warehouse, shelf: ShelfName) -> list[Shelf]:
    """Return at most five."""
    return [one for one in world.shelves.values() if has(shelf, one.shelf)][:5]


@tool("Tell on which shelves a product lies.", "查询产品在哪些货架上。", errors=("not_found",))
def where_is(world: Warehouse, product_id: ProductId) -> list[Stock]:
    """Return at most five, the largest stock first."""
    find(world.products, product_id, "product")
    found = [s for s in world.stocks.values() if s.product_id == product_id and s.units]
    return sorted(found, key=lambda stock: (-stock.units, stock.shelf))[:5]


@tool("Take units of a product from a shelf.", "从货架取出产品。", writes=True,
      errors=("not_found", "insufficient_stock"))  # fmt: skip
def take_out(world: Warehouse, product_id: ProductId, shelf_id: ShelfId, units: Units) -> Stock:
    """Lower the stock on a shelf."""
    return _take(world, product_id, shelf_id, units)


@tool("Move units of a product from one shelf to another.", "把产品从一个货架移到另一个货架。",
      writes=True, errors=("not_found", "insufficient_stock", "same_shelf"))  # fmt: skip
def move_stock(
    world: Warehouse, product_id: ProductId, source_id: SourceId, target_id: TargetId, units: Units
) -> Stock:
    """Take from one shelf and put on another."""
    find(world.shelves, target_id, "shelf")
    check(source_id != target_id, "same_shelf", "Source and target are the same shelf.")
    _take(world, product_id, source_id, units)
    return _put(world, product_id, target_id, _units(world, product_id, target_id) + units)


@tool("Correct how many units were counted on a shelf.", "更正货架上盘点的数量。", writes=True,
      errors=("not_found",))  # fmt: skip
def recount(world: Warehouse, product_id: ProductId, shelf_id: ShelfId, units: Units) -> Stock:
    """Set the stock on a shelf."""
    find(world.products, product_id, "product")
    find(world.shelves, shelf_id, "shelf")
    return _put(world, product_id, shelf_id, units)


@tool("Tell how many units of a product there are and what they are worth.",
      "查询产品的总数量和总价值。", errors=("not_found",))  # fmt: skip
def stock_value(world: Warehouse, product_id: ProductId) -> dict[str, int]:
    """Return both."""
    product = find(world.products, product_id, "product")
    total = sum(s.units for s in world.stocks.values() if s.product_id == product_id)
    return {"total": total, "value": total * product.price}


@tool("List suppliers, all or by name.", "列出供应商，可按名称筛选。")
def list_suppliers(world: Warehouse, supplier: Supplier_ | None = None) -> list[Supplier]:
    """Return at most five."""
    return [one for one in world.suppliers.values() if has(supplier, one.supplier)][:5]


@tool("List the orders from a supplier, the earliest delivery first.",
      "按交货日期列出某供应商的采购单。", errors=("not_found",))  # fmt: skip
def supplier_orders(
    world: Warehouse, supplier_id: SupplierId, state: State | None = None
) -> list[Order]:
    """Return at most five."""
    find(world.suppliers, supplier_id, "supplier")
    orders = [one for one in world.orders.values() if one.supplier_id == supplier_id]
    return sorted((o for o in orders if same(state, o.state)), key=lambda order: order.due)[:5]


@tool("Order units of a product. Returns the order.", "采购产品，返回采购单。", writes=True,
      errors=("not_found", "too_soon"))  # fmt: skip
def order_stock(
    world: Warehouse, supplier_id: SupplierId, product_id: ProductId, units: Units, due: Due
) -> Order:
    """Add an order that the supplier can deliver in time."""
    supplier = find(world.suppliers, supplier_id, "supplier")
    find(world.products, product_id, "product")
    first = str(date.fromisoformat(world.today) + timedelta(days=supplier.lead_days))
    check(due >= first, "too_soon", f"{supplier.supplier} delivers on {first} at the earliest.")
    key = new_id(world.orders, "PO", supplier_id, product_id, due)
    world.orders[key] = Order(key, supplier_id, product_id, units, due)
    return world.orders[key]


@tool("Cancel an open order.", "取消未完成的采购单。", writes=True,
      errors=("not_found", "not_open"))  # fmt: skip
def call_off_purchase(world: Warehouse, order_id: OrderId) -> Order:
    """Mark an order as cancelled."""
    world.orders[order_id] = replace(_open_order(world, order_id), state="cancelled")
    return world.orders[order_id]


@tool("Put the goods of an open order on a shelf.", "把采购单的货物入库到货架。", writes=True,
      errors=("not_found", "not_open"))  # fmt: skip
def receive_order(world: Warehouse, order_id: OrderId, shelf_id: ShelfId) -> Stock:
    """Mark an order as received and add its units to the stock."""
    order = _open_order(world, order_id)
    find(world.shelves, shelf_id, "shelf")
    world.orders[order_id] = replace(order, state="received")
    there = _units(world, order.product_id, shelf_id)
    return _put(world, order.product_id, shelf_id, there + order.units)


# --- what users want -----------------------------------------------------------------------------


def _about(world: Warehouse, product_id: str, *calls: Call, **facts: Json) -> Goal:
    """Make a goal about a product; its article number tells it from its namesake."""
    product = world.products[product_id]
    return Goal(calls, told(product=product.product, **facts), told(sku=product.sku))


def _stock(world: Warehouse, rng: Random) -> Stock:
    return rng.choice([stock for stock in world.stocks.values() if stock.units])


def _other_shelf(world: Warehouse, shelf_id: str, rng: Random) -> Shelf:
    return rng.choice([shelf for shelf in world.shelves.values() if shelf.id != shelf_id])


def _taking(world: Warehouse, stock: Stock, units: int) -> Goal:
    arguments = {"product_id": stock.product_id, "shelf_id": stock.shelf_id, "units": units}
    call = Call("take_out", arguments)
    return _about(world, stock.product_id, call, shelf=stock.shelf, units=units)


def _ordering(world: Warehouse, rng: Random, product_id: str, days: int, units: int) -> Goal:
    supplier = rng.choice(list(world.suppliers.values()))
    due = str(date.fromisoformat(world.today) + timedelta(days=supplier.lead_days + days))
    arguments = {"supplier_id": supplier.id, "product_id": product_id, "units": units, "due": due}
    call = Call("order_stock", arguments)
    return _about(world, product_id, call, supplier=supplier.supplier, units=units, due=due)


def _product(world: Warehouse, rng: Random, *, discontinued: bool) -> str:
    return rng.choice([p.id for p in world.products.values() if p.discontinued == discontinued])


@intent(
    en=("I took {units} {product} from {shelf}.",
        "Book out {product}: {units} pieces, shelf {shelf}.",
        "{units} {product} leave shelf {shelf}, please write them off.",
        "Take {product} out of {shelf}[, {units} of them]."),
    zh=("从{shelf}取出{units}件{product}。", "{product}出库[{units}件]，货架{shelf}。"),
    reply_en=("{units} {product} are taken from {shelf}; left there: {result.units}.",),
    reply_zh=("已从{shelf}取出{units}件{product}，还剩{result.units}件。",),
)  # fmt: skip
def take(world: Warehouse, rng: Random) -> Goal:
    """Take what is there."""
    stock = _stock(world, rng)
    return _taking(world, stock, rng.randint(1, stock.units))


@intent(
    en=("Take {units} {product} from {shelf}.", "We need {units} {product}, get them off {shelf}.",
        "Book out {units} pieces of {product} on shelf {shelf}."),
    zh=("从{shelf}取{units}件{product}。", "需要{units}件{product}，从{shelf}出库。"),
    reply_en=("There are fewer than {units} {product} on {shelf}, so I took none.",),
    reply_zh=("{shelf}上的{product}不足{units}件，未出库。",), kind="fails",
)  # fmt: skip
def take_too_many(world: Warehouse, rng: Random) -> Goal:
    """Take more than there is."""
    stock = _stock(world, rng)
    return _taking(world, stock, stock.units + rng.randint(1, 30))


@intent(
    en=("Move {units} {product} from {shelf} to {to_shelf}.",
        "{product}: {units} of those on {shelf} go[ to {to_shelf}].",
        "Please shift {product} over[ to {to_shelf}] from {shelf}, {units} pieces."),
    zh=("把{units}件{product}从{shelf}移到{to_shelf}。",
        "{shelf}上的{product}移{units}件[到{to_shelf}]。"),
    reply_en=("{units} {product} are on {to_shelf} now, which holds {result.units}.",),
    reply_zh=("{units}件{product}已移到{to_shelf}，该货架现有{result.units}件。",),
)  # fmt: skip
def move(world: Warehouse, rng: Random) -> Goal:
    """Move stock between shelves."""
    stock = _stock(world, rng)
    target, units = _other_shelf(world, stock.shelf_id, rng), rng.randint(1, stock.units)
    route = {"source_id": stock.shelf_id, "target_id": target.id}
    call = Call("move_stock", {"product_id": stock.product_id, **route, "units": units})
    shelves = {"shelf": stock.shelf, "to_shelf": Fact("shelf", target.shelf)}
    return _about(world, stock.product_id, call, units=units, **shelves)


@intent(
    en=("I counted {units} {product} on {shelf}.", "Stocktaking, {shelf}: {product}, {units}.",
        "The number of {product} on {shelf} is wrong[, it should be {units}]."),
    zh=("盘点：{shelf}上有{units}件{product}。", "{shelf}的{product}数量不对[，应为{units}]。"),
    reply_en=("The number of {product} on {shelf} is now {units}.",),
    reply_zh=("{shelf}的{product}已更正为{units}件。",),
)  # fmt: skip
def correct(world: Warehouse, rng: Random) -> Goal:
    """Correct a count."""
    stock = _stock(world, rng)
    units = stock.units + rng.choice((-3, -1, 2, 5, 11))
    arguments = {"product_id": stock.product_id, "shelf_id": stock.shelf_id, "units": units}
    call = Call("recount", arguments)
    return _about(world, stock.product_id, call, shelf=stock.shelf, units=units)


@intent(
    en=("Order {units} {product} from {supplier} for {due}.",
        "{supplier} should send us {product}[, {units} of them][, by {due}].",
        "We need more {product}: {units}, supplier {supplier}[, delivery {due}]."),
    zh=("向{supplier}采购{units}件{product}，{due}交货。",
        "请{supplier}送{product}[，{units}件][，{due}到]。"),
    reply_en=("{units} {product} are ordered from {supplier} for {due}: {result.id}.",),
    reply_zh=("已向{supplier}采购{units}件{product}，{due}交货，单号{result.id}。",),
)  # fmt: skip
def order(world: Warehouse, rng: Random) -> Goal:
    """Order what can come in time."""
    product = _product(world, rng, discontinued=False)
    return _ordering(world, rng, product, rng.randint(0, 20), rng.randrange(10, 500, 10))


@intent(
    en=("Get {units} {product} from {supplier} by {due}.",
        "Urgent: {product} from {supplier}, {units} pieces, here on {due}.",
        "Order {product} at {supplier}: {units}, due {due}."),
    zh=("{due}前向{supplier}订{units}件{product}。",
        "急用：{supplier}的{product}，{units}件，{due}到。"),
    reply_en=("{supplier} cannot deliver {product} by {due}; that is too soon.",),
    reply_zh=("{supplier}无法在{due}前交付{product}，时间太紧。",), kind="fails",
)  # fmt: skip
def order_too_soon(world: Warehouse, rng: Random) -> Goal:
    """Order what cannot come in time."""
    product = _product(world, rng, discontinued=False)
    return _ordering(world, rng, product, -1, rng.randrange(10, 500, 10))


@intent(
    en=("Order {units} {product} from {supplier} for {due}.",
        "{supplier}, {units} {product}, delivery on {due}: please order.",
        "Could {supplier} bring {units} more {product} on {due}?"),
    zh=("向{supplier}采购{units}件{product}，{due}交货。",
        "请{supplier}在{due}再送{units}件{product}。"),
    reply_en=("{product} are discontinued, so I may not order them again.",),
    reply_zh=("{product}已停产，不能再采购。",), kind="policy",
)  # fmt: skip
def order_discontinued(world: Warehouse, rng: Random) -> Goal:
    """Order what the operator no longer keeps."""
    product = _product(world, rng, discontinued=True)
    goal = _ordering(world, rng, product, rng.randint(0, 20), rng.randrange(10, 500, 10))
    return Goal((Call("product_card", {"product_id": product}),), goal.facts, goal.clues)


@intent(
    en=("Cancel the {supplier} order that is due on {due}.",
        "We don't want the {due} delivery from {supplier}.",
        "Call {supplier} off, the one for {due}."),
    zh=("取消{supplier}在{due}交货的采购单。", "{supplier}在{due}到的那批货不要了。"),
    reply_en=("The order from {supplier} for {due} is cancelled.",),
    reply_zh=("{supplier}在{due}的采购单已取消。",),
)  # fmt: skip
def cancel(world: Warehouse, rng: Random) -> Goal:
    """Cancel an open order."""
    one = rng.choice([one for one in world.orders.values() if one.state == "open"])
    call = Call("call_off_purchase", {"order_id": one.id})
    return Goal((call,), told(supplier=world.suppliers[one.supplier_id].supplier, due=one.due))


@intent(
    en=("{order_id} has arrived, put it on {shelf}.", "Goods in: {order_id}, shelf {shelf}.",
        "The truck brought {order_id}[. It goes to {shelf}]."),
    zh=("{order_id}到货，放到{shelf}。", "{order_id}到了[，入库到{shelf}]。"),
    reply_en=("{order_id} is received; {shelf} now holds {result.units}.",),
    reply_zh=("{order_id}已入库，{shelf}现有{result.units}件。",),
)  # fmt: skip
def receive(world: Warehouse, rng: Random) -> Goal:
    """Receive an order by its number."""
    one = rng.choice([one for one in world.orders.values() if one.state == "open"])
    shelf = rng.choice(list(world.shelves.values()))
    call = Call("receive_order", {"order_id": one.id, "shelf_id": shelf.id})
    return Goal((call,), told(order_id=one.id, shelf=shelf.shelf))


@intent(
    en=("Where are the {product}?", "On which shelf do I find {product}?", "{product}, where?"),
    zh=("{product}在哪里？", "{product}放在哪个货架？"),
    reply_en=("You find {product} on {rows.shelf}.",), reply_zh=("{product}在{rows.shelf}。",),
)  # fmt: skip
def ask_where(world: Warehouse, rng: Random) -> Goal:
    """Learn where a product lies."""
    product = _stock(world, rng).product_id
    return _about(world, product, Call("where_is", {"product_id": product}))


@intent(
    en=("What is our stock of {product} worth?",
        "How many {product} are there in all, and what value?",
        "Total and value of {product}, please."),
    zh=("{product}的库存值多少钱？", "{product}一共有多少，价值多少？"),
    reply_en=("There are {result.total} {product}, worth {result.value}.",),
    reply_zh=("{product}共{result.total}件，价值{result.value}。",),
)  # fmt: skip
def ask_value(world: Warehouse, rng: Random) -> Goal:
    """Learn what a stock is worth."""
    product = rng.choice(list(world.products))
    return _about(world, product, Call("stock_value", {"product_id": product}))


DOMAIN = domain_of(
    sys.modules[__name__], "a warehouse", "仓库", seed,
    policies_en=("Never order a product that is discontinued.",),
    policies_zh=("不得采购已停产的产品。",),
)  # fmt: skip
