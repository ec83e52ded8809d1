"""A personnel office: employees, leave, payslips and expenses."""

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

EmployeeId = Annotated[
    str, Slot("employee_id", "employee id", "员工编号", "id", entity="employees")
]
LeaveId = Annotated[str, Slot("leave_id", "leave id", "休假编号", "id", entity="leaves")]
SlipId = Annotated[str, Slot("slip_id", "payslip id", "工资单编号", "id", entity="slips")]
ExpenseId = Annotated[str, Slot("expense_id", "expense id", "报销编号", "id", entity="expenses")]
Employee_ = Annotated[str, Slot("employee", "name of the employee", "员工姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
First = Annotated[str, Slot("first", "first day of leave", "休假开始日期", "date")]
Last = Annotated[str, Slot("last", "last day of leave", "休假结束日期", "date")]
KindName = Literal["vacation", "sick", "parental", "study"]
Kind = Annotated[KindName, Slot("leave_kind", "kind of leave", "休假类型")]
LeaveState = Literal["requested", "approved", "rejected"]
Verdict = Annotated[Literal["approved", "rejected"], Slot("verdict", "decision", "审批结果")]
Month = Annotated[str, Slot("month", "month (YYYY-MM)", "月份（YYYY-MM）")]
Bonus = Annotated[int, Slot("bonus", "amount of the bonus", "奖金金额", "money")]
PERCENT = {"minimum": 1, "maximum": 30}
Percent = Annotated[int, Slot("percent", "raise in percent", "加薪百分比", schema=PERCENT)]
Purpose = Annotated[str, Slot("purpose", "purpose of the expense", "报销用途")]
Amount = Annotated[float, Slot("amount", "amount of the expense", "报销金额", "money")]
Gross = Annotated[int, Slot("gross", "monthly gross pay", "税前月薪", "money")]
Children = Annotated[int, Slot("children", "number of children", "子女人数", "count")]


@dataclass(frozen=True, slots=True)
class Employee:
    """Somebody who works here."""

    id: EmployeeId
    employee: Employee_
    email: Email
    team: str
    salary: int
    leave_days: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Days off, asked for or decided."""

    id: LeaveId
    employee_id: EmployeeId
    leave_kind: Kind
    first: First
    last: str
    state: LeaveState = "requested"


@dataclass(frozen=True, slots=True)
class Slip:
    """What somebody gets for a month."""

    id: SlipId
    employee_id: EmployeeId
    month: Month
    total: int
    net: int
    paid: bool = False


@dataclass(frozen=True, slots=True)
class Expense:
    """Money that somebody laid out."""

    id: ExpenseId
    employee_id: EmployeeId
    purpose: Purpose
    cost: float
    refunded: bool = False


@dataclass(slots=True)
class Office(World):
    """Everything there is."""

    employees: dict[str, Employee] = field(default_factory=dict[str, Employee])
    leaves: dict[str, Leave] = field(default_factory=dict[str, Leave])
    slips: dict[str, Slip] = field(default_factory=dict[str, Slip])
    expenses: dict[str, Expense] = field(default_factory=dict[str, Expense])


FIRST = ("Abena", "Benedikt", "Clio", "Dorota", "Efua", "Florin", "Gwen", "Henrik", "Ivy", "Jamal",
         "Kateryna", "Lars", "Manuela", "Nadia", "Orhan", "Piotr", "Sipho")  # fmt: skip
LAST = ("Asante", "Blom", "Cardoso", "Dahl", "Eze", "Fuchs", "Garza", "Hassan", "Irving", "Jonsson",
        "Kruger", "Leclerc", "Mazur", "Nwosu", "Orlov")  # fmt: skip
PURPOSES = (
    "train tickets", "client dinner", "two hotel nights", "office chair", "taxi rides",
    "conference fee", "keyboard", "work shoes", "parking", "postage", "phone bill",
)  # fmt: skip
TEAMS = ("design", "kitchen", "sales", "support", "workshop")
KINDS: dict[KindName, tuple[str, str]] = {
    "vacation": ("vacation", "年假"), "sick": ("sick leave", "病假"),
    "parental": ("parental leave", "育儿假"), "study": ("study leave", "进修假"),
}  # fmt: skip
VERDICTS = {"approved": ("approved", "批准"), "rejected": ("rejected", "拒绝")}
MOST_PERCENT = 10
"""The largest raise that an assistant may give."""


def seed(rng: Random) -> Office:
    """Make eight people with leave, payslips of two months and expenses; two share a name."""
    today = date(2026, 2, 1) + timedelta(days=rng.randrange(270))
    world, last = Office(f"{today} 09:00"), f"{today.replace(day=1) - timedelta(days=1)}"[:7]
    names = [f"{first} {rng.choice(LAST)}" for first in rng.sample(FIRST, 7)]
    for name in (*names, names[0]):
        address = f"{name.split()[1]}.{rng.randint(10, 99)}@example.com".lower()
        key, team = new_id(world.employees, "E", address), rng.choice(TEAMS)
        pay, left = rng.randrange(2100, 7000, 50), rng.randint(4, 24)
        world.employees[key] = Employee(key, name, address, team, pay, left)
        for month in (last, world.today[:7]):
            slip = new_id(world.slips, "P", key, month)
            world.slips[slip] = Slip(slip, key, month, pay, _net(pay, 0), month == last)
    for number, start in enumerate(rng.sample(range(3, 60), 8)):
        key, kind = list(world.employees)[number], rng.choice(list(KINDS))
        first, end = _in(world, start), _in(world, start + rng.randint(1, 9))
        leave = new_id(world.leaves, "L", key, first)
        state = "approved" if number % 3 == 2 else "requested"
        world.leaves[leave] = Leave(leave, key, kind, first, end, state)
    for number, purpose in enumerate(rng.sample(PURPOSES, 9)):
        key = rng.choice(list(world.employees))
        expense = new_id(world.expenses, "X", key, purpose)
        cost = rng.randrange(*((300, 15_000), (15_100, 40_000))[number % 2]) / 100
        world.expenses[expense] = Expense(expense, key, purpose, cost, number in (0, 6))
    return world


def _in(world: Office, days: int) -> str:
    return str(date.fromisoformat(world.today) + timedelta(days=days))


def _net(gross: int, children: int) -> int:
    return gross * (68 + min(children, 4)) // 100


# --- tools ---------------------------------------------------------------------------------------


@tool("Find employees by name, e-mail, or both.", "按姓名、邮箱或两者查找员工。")
def find_employees(
    world: Office, employee: Employee_ | None = None, email: Email | None = None
) -> list[Employee]:
    """Return at most five."""
    people = world.employees.values()
    return [p for p in people if has(employee, p.employee) and same(email, p.email)][:5]


@tool("Show one employee, with the days of leave that are left.", "查看员工信息，含剩余假期天数。",
      errors=("not_found",))  # fmt: skip
def employee_card(world: Office, employee_id: EmployeeId) -> Employee:
    """Return the employee."""
    return find(world.employees, employee_id, "employee")


@tool("List an employee's leave, the earliest first.", "按日期列出员工的休假。",
      errors=("not_found",))  # fmt: skip
def employee_leaves(world: Office, employee_id: EmployeeId) -> list[Leave]:
    """Return at most five."""
    find(world.employees, employee_id, "employee")
    found = [one for one in world.leaves.values() if one.employee_id == employee_id]
    return sorted(found, key=lambda leave: leave.first)[:5]


@tool("Ask for leave. Returns the request.", "申请休假，返回该申请。", writes=True,
      errors=("not_found", "bad_dates", "not_enough_days"))  # fmt: skip
def ask_leave(
    world: Office, employee_id: EmployeeId, first: First, last: Last, leave_kind: Kind = "vacation"
) -> Leave:
    """Add a request; vacation takes days off the balance at once."""
    employee = find(world.employees, employee_id, "employee")
    days = (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
    check(
        first > world.today and days > 0,
        "bad_dates",
        "Leave starts after today and before it ends.",
    )
    if leave_kind == "vacation":
        left = employee.leave_days - days
        check(left >= 0, "not_enough_days", f"Only {employee.leave_days} days are left.")
        world.employees[employee_id] = replace(employee, leave_days=left)
    key = new_id(world.leaves, "L", employee_id, first)
    world.leaves[key] = Leave(key, employee_id, leave_kind, first, last)
    return world.leaves[key]


@tool("Approve or reject a leave request.", "批准或拒绝休假申请。", writes=True,
      errors=("not_found", "already_decided"))  # fmt: skip
def decide_leave(world: Office, leave_id: LeaveId, verdict: Verdict) -> Leave:
    """Set the state of a request."""
    leave = find(world.leaves, leave_id, "leave")
    check(leave.state == "requested", "already_decided", f"The leave is {leave.state} already.")
    world.leaves[leave_id] = replace(leave, state=verdict)
    return world.leaves[leave_id]


@tool("Show an employee's payslip of a month.", "查看员工某月的工资单。", errors=("not_found",))
def payslip(world: Office, employee_id: EmployeeId, month: Month) -> Slip:
    """Return the payslip."""
    slips = world.slips.values()
    found = [one for one in slips if one.employee_id == employee_id and one.month == month]
    check(bool(found), "not_found", f"There is no payslip for {month}.")
    return found[0]


@tool("Add a bonus to a payslip that is not paid yet.", "为未发放的工资单添加奖金。", writes=True,
      errors=("not_found", "already_paid"))  # fmt: skip
def add_bonus(world: Office, slip_id: SlipId, bonus: Bonus) -> Slip:
    """Raise what a payslip pays."""
    slip = find(world.slips, slip_id, "payslip")
    check(not slip.paid, "already_paid", f"The payslip of {slip.month} is paid.")
    total = slip.total + bonus
    world.slips[slip_id] = replace(slip, total=total, net=_net(total, 0))
    return world.slips[slip_id]


@tool("Raise an employee's salary by percent.", "按百分比给员工加薪。", writes=True,
      errors=("not_found",))  # fmt: skip
def raise_salary(world: Office, employee_id: EmployeeId, percent: Percent) -> Employee:
    """Change the salary from the next month on."""
    employee = find(world.employees, employee_id, "employee")
    salary = employee.salary * (100 + percent) // 100
    world.employees[employee_id] = replace(employee, salary=salary)
    return world.employees[employee_id]


@tool("List an employee's expenses.", "列出员工的报销。", errors=("not_found",))
def employee_expenses(world: Office, employee_id: EmployeeId) -> list[Expense]:
    """Return at most five."""
    find(world.employees, employee_id, "employee")
    return [one for one in world.expenses.values() if one.employee_id == employee_id][:5]


@tool("Hand in an expense of an employee. Returns it.", "提交员工报销，返回该报销。", writes=True,
      errors=("not_found",))  # fmt: skip
def hand_in(world: Office, employee_id: EmployeeId, purpose: Purpose, amount: Amount) -> Expense:
    """Add an expense."""
    find(world.employees, employee_id, "employee")
    key = new_id(world.expenses, "X", employee_id, purpose)
    world.expenses[key] = Expense(key, employee_id, purpose, amount)
    return world.expenses[key]


@tool("Pay an expense back.", "支付报销款。", writes=True, errors=("not_found", "already_refunded"))
def refund(world: Office, expense_id: ExpenseId) -> Expense:
    """Mark an expense as refunded."""
    expense = find(world.expenses, expense_id, "expense")
    check(not expense.refunded, "already_refunded", "The expense was paid back already.")
    world.expenses[expense_id] = replace(expense, refunded=True)
    return world.expenses[expense_id]


@tool("Estimate what is left of a gross pay.", "估算税后工资。")
def net_pay(world: Office, gross: Gross, children: Children | None = None) -> dict[str, int]:
    """Return the net pay; children lower the tax."""
    return {"net": _net(gross, children or 0), "year": 12 * _net(gross, children or 0)}


# --- what users want -----------------------------------------------------------------------------


def _about(world: Office, employee_id: str, *calls: Call, **facts: Json) -> Goal:
    """Make a goal about a person; the address tells two of one name apart."""
    person = world.employees[employee_id]
    return Goal(calls, told(employee=person.employee, **facts), told(email=person.email))


def _anyone(world: Office, rng: Random) -> Employee:
    return rng.choice(list(world.employees.values()))


def _leave(person: Employee, kind: KindName, first: str, last: str) -> Call:
    days = {"first": first, "last": last, "leave_kind": kind}
    return Call("ask_leave", {"employee_id": person.id, **days})


@intent(
    en=("{employee} wants {leave_kind} from {first} to {last}.",
        "I'm {employee} and would like {leave_kind}[, {first}][ to {last}].",
        "Please enter {leave_kind} for {employee}[: first day {first}][, last day {last}]."),
    zh=("{employee}要请{leave_kind}，{first}到{last}。",
        "我是{employee}，想休{leave_kind}[，从{first}][到{last}]。"),
    reply_en=("The {leave_kind} of {employee} from {first} to {last} is requested.",),
    reply_zh=("已为{employee}申请{leave_kind}，{first}至{last}。",),
)  # fmt: skip
def request(world: Office, rng: Random) -> Goal:
    """Ask for leave that the balance allows."""
    person, (kind, words) = _anyone(world, rng), rng.choice(list(KINDS.items()))
    start = rng.randint(70, 150)
    first, last = _in(world, start), _in(world, start + rng.randrange(person.leave_days))
    said = Fact("leave_kind", kind, words)
    call = _leave(person, kind, first, last)
    return _about(world, person.id, call, first=first, last=last, leave_kind=said)


@intent(
    en=("{employee} takes {leave_kind} from {first} to {last}.",
        "A long trip! {leave_kind} for {employee}: {first} until {last}, please.",
        "Enter {leave_kind}: {employee}, {first} to {last}."),
    zh=("{employee}休{leave_kind}，{first}到{last}。",
        "要去长途旅行，给{employee}申请{leave_kind}：{first}至{last}。"),
    reply_en=("{employee} does not have enough days left for {first} to {last}.",),
    reply_zh=("{employee}剩余假期不足，不能休{first}至{last}。",), kind="fails",
)  # fmt: skip
def request_too_long(world: Office, rng: Random) -> Goal:
    """Ask for more vacation than is left."""
    person, start = _anyone(world, rng), rng.randint(70, 150)
    first, last = _in(world, start), _in(world, start + person.leave_days + rng.randint(1, 9))
    said = Fact("leave_kind", "vacation", KINDS["vacation"])
    call = _leave(person, "vacation", first, last)
    return _about(world, person.id, call, first=first, last=last, leave_kind=said)


@intent(
    en=("The leave of {employee} from {first} on is {verdict}.",
        "{employee} asked for leave[ starting {first}]: {verdict}.",
        "My decision on {employee}[, {first}]: {verdict}."),
    zh=("{employee}从{first}开始的休假：{verdict}。",
        "{employee}的休假申请[（{first}起）]我决定{verdict}。"),
    reply_en=("The leave of {employee} from {first} is {verdict}.",),
    reply_zh=("{employee}从{first}开始的休假已{verdict}。",),
)  # fmt: skip
def decide(world: Office, rng: Random) -> Goal:
    """Decide on a request."""
    leave = rng.choice([one for one in world.leaves.values() if one.state == "requested"])
    verdict, words = rng.choice(list(VERDICTS.items()))
    call = Call("decide_leave", {"leave_id": leave.id, "verdict": verdict})
    said = Fact("verdict", verdict, words)
    return _about(world, leave.employee_id, call, first=leave.first, verdict=said)


@intent(
    en=("How many days of leave does {employee} have left?",
        "{employee} here, how much leave do I have?", "Remaining vacation of {employee}?"),
    zh=("{employee}还剩几天假？", "我是{employee}，我还有多少天年假？"),
    reply_en=("{employee} has {result.leave_days} days left.",),
    reply_zh=("{employee}还剩{result.leave_days}天。",),
)  # fmt: skip
def ask_days(world: Office, rng: Random) -> Goal:
    """Learn how much leave is left."""
    person = _anyone(world, rng)
    return _about(world, person.id, Call("employee_card", {"employee_id": person.id}))


@intent(
    en=("What did {employee} get in {month}?", "Net pay of {employee}[ for {month}], please.",
        "I'm {employee}. What is on my payslip[ of {month}]?"),
    zh=("{employee}在{month}的工资是多少？", "我是{employee}，我[{month}]的税后工资是多少？"),
    reply_en=("In {month}, {employee} gets {result.net} net of {result.total}.",),
    reply_zh=("{employee}在{month}税前{result.total}，税后{result.net}。",),
)  # fmt: skip
def ask_pay(world: Office, rng: Random) -> Goal:
    """Learn what a payslip says."""
    slip = rng.choice(list(world.slips.values()))
    call = Call("payslip", {"employee_id": slip.employee_id, "month": slip.month})
    return _about(world, slip.employee_id, call, month=slip.month)


def _bonus(world: Office, rng: Random, *, paid: bool) -> Goal:
    slip = rng.choice([one for one in world.slips.values() if one.paid == paid])
    bonus = rng.randrange(100, 2000, 50)
    call = Call("add_bonus", {"slip_id": slip.id, "bonus": bonus})
    return _about(world, slip.employee_id, call, month=slip.month, bonus=bonus)


@intent(
    en=("Give {employee} a bonus of {bonus} in {month}.",
        "{employee} did great work[: {bonus} on top][ for {month}], please.",
        "Add {bonus} to the {month} payslip of {employee}."),
    zh=("给{employee}在{month}的工资加奖金{bonus}。",
        "{employee}表现很好，加奖金[{bonus}][，{month}发]。"),
    reply_en=("With the bonus, {employee} gets {result.total} in {month}.",),
    reply_zh=("加上奖金，{employee}在{month}共{result.total}。",),
)  # fmt: skip
def reward(world: Office, rng: Random) -> Goal:
    """Add a bonus."""
    return _bonus(world, rng, paid=False)


@intent(
    en=("Add a bonus of {bonus} for {employee}, {month}.",
        "{employee} should get {bonus} more for {month}.",
        "Put {bonus} on {employee}'s {month} payslip."),
    zh=("给{employee}在{month}补发奖金{bonus}。", "{employee}在{month}的工资单加{bonus}奖金。"),
    reply_en=("The {month} payslip of {employee} is paid already; no bonus was added.",),
    reply_zh=("{employee}在{month}的工资已发放，无法添加奖金。",), kind="fails",
)  # fmt: skip
def reward_late(world: Office, rng: Random) -> Goal:
    """Add a bonus to what is paid."""
    return _bonus(world, rng, paid=True)


@intent(
    en=("Raise the salary of {employee} by {percent} percent.",
        "{employee} gets a raise[ of {percent}%].",
        "{percent} percent more for {employee} from now on."),
    zh=("给{employee}加薪{percent}%。", "{employee}要涨工资[，涨{percent}%]。"),
    reply_en=("{employee} now earns {result.salary}.",),
    reply_zh=("{employee}的月薪现为{result.salary}。",),
)  # fmt: skip
def more_pay(world: Office, rng: Random) -> Goal:
    """Raise a salary as far as an assistant may."""
    person, percent = _anyone(world, rng), rng.randint(1, MOST_PERCENT)
    call = Call("raise_salary", {"employee_id": person.id, "percent": percent})
    return _about(world, person.id, call, percent=percent)


@intent(
    en=("Raise {employee}'s salary by {percent} percent.",
        "{employee} has an offer: pay {percent}% more.",
        "Make it {percent} percent more for {employee}."),
    zh=("给{employee}涨薪{percent}%。", "{employee}有别家的录用，加薪{percent}%。"),
    reply_en=("I may not raise {employee} by more than 10 percent; {percent} is too much.",),
    reply_zh=("加薪不得超过10%，{employee}的{percent}%我不能办理。",), kind="policy",
)  # fmt: skip
def much_more_pay(world: Office, rng: Random) -> Goal:
    """Raise a salary by more than an assistant may."""
    percent = rng.randint(MOST_PERCENT + 1, 30)
    return Goal((), told(employee=_anyone(world, rng).employee, percent=percent))


@intent(
    en=("{employee} paid {amount} for {purpose}.", "Expense of {employee}: {purpose}, {amount}.",
        "I'm {employee} and had an expense, {purpose}[: {amount}]."),
    zh=("{employee}垫付了{purpose}，{amount}。", "我是{employee}，要报销{purpose}[，{amount}]。"),
    reply_en=("The expense of {employee} for {purpose} is handed in: {result.id}.",),
    reply_zh=("{employee}的{purpose}已提交报销，编号{result.id}。",),
)  # fmt: skip
def spend(world: Office, rng: Random) -> Goal:
    """Hand in an expense."""
    person, purpose = _anyone(world, rng), rng.choice(PURPOSES)
    values = {"purpose": purpose, "amount": rng.randrange(300, 30_000) / 100}
    return _about(world, person.id, Call("hand_in", {"employee_id": person.id, **values}), **values)


@intent(
    en=("Pay {employee} back for the {purpose}.", "{employee} still waits for the {purpose} money.",
        "Refund the {purpose} of {employee}."),
    zh=("把{employee}的{purpose}报销款付了。", "{employee}的{purpose}还没报，请支付。"),
    reply_en=("{employee} gets {result.cost} back for the {purpose}.",),
    reply_zh=("{employee}的{purpose}已报销{result.cost}。",),
)  # fmt: skip
def pay_back(world: Office, rng: Random) -> Goal:
    """Refund an expense."""
    expense = rng.choice([x for x in world.expenses.values() if not x.refunded and x.cost <= 150])
    call = Call("refund", {"expense_id": expense.id})
    return _about(world, expense.employee_id, call, purpose=expense.purpose)


@intent(
    en=("Pay back the {purpose} of {employee}.", "{employee}: refund for the {purpose}, please.",
        "Settle {employee}'s {purpose}."),
    zh=("请支付{employee}的{purpose}报销。", "{employee}的{purpose}给报一下。"),
    reply_en=("{employee} paid more than 150 for {purpose}; I may not refund that.",),
    reply_zh=("{employee}的{purpose}超过150，我不能报销。",), kind="policy",
)  # fmt: skip
def pay_back_large(world: Office, rng: Random) -> Goal:
    """Refund more than an assistant may."""
    expense = rng.choice([one for one in world.expenses.values() if one.cost > 150])
    read = Call("employee_expenses", {"employee_id": expense.employee_id})
    return _about(world, expense.employee_id, read, purpose=expense.purpose)


@intent(
    en=("What is left of {gross} a month with {children} children?",
        "Net pay for {gross} gross[, {children} children]?",
        "I have {children} children and earn {gross}. Net?"),
    zh=("月薪{gross}，{children}个孩子，税后多少？", "税前{gross}到手多少[，{children}个孩子]？"),
    reply_en=("That leaves {result.net} a month, {result.year} a year.",),
    reply_zh=("每月税后{result.net}，全年{result.year}。",),
)  # fmt: skip
def estimate(_world: Office, rng: Random) -> Goal:
    """Learn what is left of a pay."""
    values = {"gross": rng.randrange(1800, 9000, 50), "children": rng.randint(1, 4)}
    return Goal((Call("net_pay", values),), told(**values))


DOMAIN = domain_of(
    sys.modules[__name__], "a personnel office", "人事部门", seed,
    policies_en=("Never raise pay by more than 10 percent.", "Never refund more than 150."),
    policies_zh=("加薪不得超过10%。", "报销不得超过150。"),
)  # fmt: skip
