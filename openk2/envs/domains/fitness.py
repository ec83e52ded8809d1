"""A fitness studio: members, their memberships, trainers, classes and bookings."""

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

# Slots, rows and requests read best as lists, on as few lines as they need.
# fmt: off
MemberId = Annotated[str, Slot("member_id", "member id", "会员编号", "id", entity="members")]
PassId = Annotated[str, Slot("pass_id", "membership id", "会籍编号", "id", entity="passes")]
ToPassId = Annotated[str,
                     Slot("to_pass_id", "target membership id", "目标会籍编号", "id", "passes")]
TrainerId = Annotated[str, Slot("trainer_id", "trainer id", "教练编号", "id", entity="trainers")]
ClassId = Annotated[str, Slot("class_id", "class id", "课程编号", "id", entity="classes")]
BookingId = Annotated[str, Slot("booking_id", "booking id", "预约编号", "id", entity="bookings")]
Member = Annotated[str, Slot("member", "name of the member", "会员姓名")]
Phone = Annotated[str, Slot("phone", "phone number", "电话号码", "phone")]
PlanName = Literal["bronze", "silver", "gold"]
Plan = Annotated[PlanName, Slot("plan", "plan", "会籍档次")]
NewPlan = Annotated[PlanName, Slot("new_plan", "new plan", "新的会籍档次")]
PassState = Annotated[Literal["active", "frozen"],
                      Slot("pass_state", "state of the membership", "会籍状态")]
Credits = Annotated[int, Slot("credits", "number of class credits", "课时数", "count")]
Trainer = Annotated[str, Slot("trainer", "name of the trainer", "教练姓名")]
Skill = Annotated[Literal["yoga", "strength", "cycling", "dance", "boxing"],
                  Slot("skill", "kind of training", "训练类型")]
Title = Annotated[str, Slot("title", "name of the class", "课程名称")]
Level = Annotated[Literal["easy", "medium", "expert"], Slot("level", "level", "难度")]
Day = Annotated[str, Slot("day", "day", "日期", "date")]
Start = Annotated[str, Slot("start", "start time", "开始时间", "time")]


@dataclass(frozen=True, slots=True)
class MemberRow:
    """Somebody who trains here."""
    id: MemberId
    member: Member
    phone: Phone


@dataclass(frozen=True, slots=True)
class Pass:
    """What a member has paid for."""
    id: PassId
    member_id: MemberId
    plan: Plan
    credits: int
    state: PassState = "active"


@dataclass(frozen=True, slots=True)
class TrainerRow:
    """Somebody who teaches one kind of training."""
    id: TrainerId
    trainer: Trainer
    skill: Skill


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class at a time; a name occurs on several days."""
    id: ClassId
    title: Title
    skill: Skill
    level: Level
    day: Day
    start: Start
    trainer_id: TrainerId
    places: int


@dataclass(frozen=True, slots=True)
class Booking:
    """A member's place in a class."""
    id: BookingId
    member_id: MemberId
    class_id: ClassId
    title: Title
    day: Day


@dataclass(slots=True)
class Studio(World):
    """Everything there is."""
    members: dict[str, MemberRow] = field(default_factory=dict[str, MemberRow])
    passes: dict[str, Pass] = field(default_factory=dict[str, Pass])
    trainers: dict[str, TrainerRow] = field(default_factory=dict[str, TrainerRow])
    classes: dict[str, ClassRow] = field(default_factory=dict[str, ClassRow])
    bookings: dict[str, Booking] = field(default_factory=dict[str, Booking])


FIRST = ("Agnes", "Bruno", "Camila", "Dieter", "Esra", "Fabio", "Gemma", "Halima", "Igor", "Jasmin",
         "Kwame", "Lucia", "Marek", "Nina", "Orla", "Pedro", "Ravi", "Svea")
LAST = ("Andersson", "Bosch", "Costa", "Demir", "Elliott", "Fabre", "Ghosh", "Hansen", "Ibrahim",
        "Juhasz", "Kelly", "Lehmann", "Marin", "Ngata", "Osman", "Petit")
COACHES = ("Coach Amira", "Coach Bjorn", "Coach Celeste", "Coach Diego", "Coach Emi", "Coach Finn",
           "Coach Gao", "周教练")
NAMES: dict[Skill, tuple[str, ...]] = {"yoga": ("Sunrise Flow", "Yin Hour", "Power Yoga"),
                                       "strength": ("Kettlebell Lab", "Core Forge"),
                                       "cycling": ("Hill Sprint", "Disco Spin"),
                                       "dance": ("Salsa Burn", "Afro Groove", "街舞入门"),
                                       "boxing": ("Ring Ready", "Bag Work")}
PLANS: dict[PlanName, tuple[str, str]] = {"bronze": ("bronze", "铜卡"),
                                          "silver": ("silver", "银卡"), "gold": ("gold", "金卡")}
PRICES: dict[PlanName, int] = {"bronze": 29, "silver": 45, "gold": 69}


def seed(rng: Random) -> Studio:
    """Make a week of classes; some names of classes and members occur twice."""
    today = date(2026, 1, 19) + timedelta(days=rng.randrange(320))
    world = Studio(f"{today} 06:30")
    names = [f"{rng.choice(FIRST)} {rng.choice(LAST)}" for _ in range(7)]
    for name in (*names, *names[: rng.randint(0, 1)]):
        phone = f"+44 20 7946 0{rng.randint(100, 999)}"
        key = new_id(world.members, "M", name, phone)
        world.members[key] = MemberRow(key, name, phone)
        own, state = (new_id(world.passes, "P", key),
                      rng.choice(("active", "active", "active", "frozen")))
        plan = rng.choice(list(PRICES))
        world.passes[own] = Pass(own, key, plan, rng.choice((0, 1, 3, 6, 10)), state)
    skills = list(NAMES)
    for number, name in enumerate(rng.sample(COACHES, 7)):
        key = new_id(world.trainers, "T", name)
        world.trainers[key] = TrainerRow(key, name, skills[number % 5])
    for number in range(9):
        trainer = rng.choice(list(world.trainers.values()))
        title, start = (rng.choice(NAMES[trainer.skill]),
                        f"{rng.randint(7, 20):02}:{rng.choice(('00', '15', '30'))}")
        day = f"{today + timedelta(days=number // 2 + 1)}"
        level: Level = "expert" if number in (2, 5) else rng.choice(("easy", "medium"))
        key = new_id(world.classes, "C", title, day, start)
        if all((one.title, one.day) != (title, day) for one in world.classes.values()):
            world.classes[key] = ClassRow(key, title, trainer.skill, level, day, start, trainer.id,
                                          rng.randint(1, 4))
    for member in world.members.values():
        for lesson in rng.sample(list(world.classes.values()), 3):
            if lesson.level != "expert" and _taken(world, lesson.id) < lesson.places:
                _book(world, member.id, lesson)
    return world


def _taken(world: Studio, class_id: str) -> int:
    return sum(one.class_id == class_id for one in world.bookings.values())


def _book(world: Studio, member_id: str, lesson: ClassRow) -> Booking:
    key = new_id(world.bookings, "B", member_id, lesson.id)
    world.bookings[key] = Booking(key, member_id, lesson.id, lesson.title, lesson.day)
    return world.bookings[key]


def _pass(world: Studio, member_id: str) -> Pass:
    return next(one for one in world.passes.values() if one.member_id == member_id)


# --- tools ---------------------------------------------------------------------------------------


@tool("Find members by name or phone number.", "按姓名或电话查找会员。")
def find_members(world: Studio, member: Member | None = None, phone: Phone | None = None
                 ) -> list[MemberRow]:
    """Return at most five."""
    return [one for one in world.members.values() if has(member, one.member)
            and same(phone, one.phone)][:5]


@tool("Show the membership of a member.", "查看会员的会籍。", errors=("not_found",))
def show_pass(world: Studio, member_id: MemberId) -> Pass:
    """Return the membership."""
    return _pass(world, find(world.members, member_id, "member").id)


@tool("Find trainers by name or kind of training.", "按姓名或训练类型查找教练。")
def find_trainers(world: Studio, trainer: Trainer | None = None, skill: Skill | None = None
                  ) -> list[TrainerRow]:
    """Return at most five."""
    return [one for one in world.trainers.values() if has(trainer, one.trainer)
            and same(skill, one.skill)][:5]


@tool("Find classes by name, day, trainer, or several of them.",
      "按名称、日期、教练或其中几项查找课程。")
def find_classes(world: Studio, title: Title | None = None, day: Day | None = None,
                 trainer_id: TrainerId | None = None) -> list[ClassRow]:
    """Return at most five, the next first."""
    found = [one for one in world.classes.values() if has(title, one.title) and same(day, one.day)
             and same(trainer_id, one.trainer_id)]
    return sorted(found, key=lambda one: (one.day, one.start))[:5]


@tool("List the bookings of a member.", "列出会员的预约。", errors=("not_found",))
def list_bookings(world: Studio, member_id: MemberId) -> list[Booking]:
    """Return at most five, the next first."""
    find(world.members, member_id, "member")
    found = [one for one in world.bookings.values() if one.member_id == member_id]
    return sorted(found, key=lambda one: (one.day, one.id))[:5]


@tool("Work out what changing a membership to another plan costs more or less a month.",
      "计算更换会籍档次后每月的差价。", errors=("not_found", "same_plan"))
def quote_plan(world: Studio, pass_id: PassId, new_plan: NewPlan) -> dict[str, int]:
    """Return the new price and the difference."""
    one = find(world.passes, pass_id, "membership")
    check(one.plan != new_plan, "same_plan", "The membership has this plan.")
    return {"price": PRICES[new_plan], "difference": PRICES[new_plan] - PRICES[one.plan]}


@tool("Change a membership to another plan.", "更换会籍档次。", writes=True,
      errors=("not_found", "same_plan"))
def change_plan(world: Studio, pass_id: PassId, new_plan: NewPlan) -> Pass:
    """Upgrade or downgrade."""
    one = find(world.passes, pass_id, "membership")
    check(one.plan != new_plan, "same_plan", "The membership has this plan.")
    world.passes[pass_id] = replace(one, plan=new_plan)
    return world.passes[pass_id]


@tool("Add class credits to a membership.", "为会籍增加课时。", writes=True, errors=("not_found",))
def add_credits(world: Studio, pass_id: PassId, credits: Credits = 1) -> Pass:
    """Sell credits."""
    one = find(world.passes, pass_id, "membership")
    world.passes[pass_id] = replace(one, credits=one.credits + credits)
    return world.passes[pass_id]


@tool("Give class credits of one membership to another.", "把一个会籍的课时转给另一个会籍。",
      writes=True, errors=("not_found", "not_enough_credits"))
def give_credits(world: Studio, pass_id: PassId, to_pass_id: ToPassId, credits: Credits) -> Pass:
    """Move credits; the giver's membership comes back."""
    one, other = (find(world.passes, pass_id, "membership"),
                  find(world.passes, to_pass_id, "membership"))
    check(credits <= one.credits, "not_enough_credits", f"There are only {one.credits} credits.")
    world.passes[other.id] = replace(other, credits=other.credits + credits)
    world.passes[pass_id] = replace(one, credits=one.credits - credits)
    return world.passes[pass_id]


@tool("Book a class for a member; it takes one credit.", "为会员预约课程，扣一个课时。",
      writes=True,
      errors=("not_found", "already_booked", "class_full", "frozen", "not_enough_credits"))
def book_class(world: Studio, member_id: MemberId, class_id: ClassId) -> Booking:
    """Give a member a place."""
    find(world.members, member_id, "member")
    lesson, own = find(world.classes, class_id, "class"), _pass(world, member_id)
    pairs = {(one.member_id, one.class_id) for one in world.bookings.values()}
    check((member_id, class_id) not in pairs, "already_booked", "The member has a place.")
    check(_taken(world, class_id) < lesson.places, "class_full", "The class is full.")
    check(own.state == "active", "frozen", "The membership is frozen.")
    check(own.credits > 0, "not_enough_credits", "The membership has no credits left.")
    world.passes[own.id] = replace(own, credits=own.credits - 1)
    return _book(world, member_id, lesson)


@tool("Cancel a booking; the credit comes back. Returns the membership.",
      "取消预约并退回课时，返回会籍。", writes=True, errors=("not_found",))
def drop_booking(world: Studio, booking_id: BookingId) -> Pass:
    """Free a place."""
    booking = find(world.bookings, booking_id, "booking")
    del world.bookings[booking_id]
    return add_credits.run(world, _pass(world, booking.member_id).id)


@tool("Let another trainer, who teaches this kind of training, give a class.",
      "让教同类训练的另一位教练代课。", writes=True, errors=("not_found", "wrong_skill"))
def replace_trainer(world: Studio, class_id: ClassId, trainer_id: TrainerId) -> ClassRow:
    """Change who teaches."""
    lesson, trainer = (find(world.classes, class_id, "class"),
                       find(world.trainers, trainer_id, "trainer"))
    check(trainer.skill == lesson.skill, "wrong_skill",
          f"{trainer.trainer} teaches {trainer.skill}.")
    world.classes[class_id] = replace(lesson, trainer_id=trainer_id)
    return world.classes[class_id]


# --- what users want -----------------------------------------------------------------------------


def _lesson(world: Studio, rng: Random, full: bool, expert: bool = False) -> ClassRow | None:
    found = [one for one in world.classes.values() if (one.level == "expert") == expert
             and (_taken(world, one.id) >= one.places) == full]
    return rng.choice(found) if found else None


def _booking(world: Studio, rng: Random, full: bool, rich: bool = True) -> Goal | None:
    lesson = _lesson(world, rng, full)
    there = [one.member_id for one in world.bookings.values() if lesson
             and one.class_id == lesson.id]
    able = [world.members[one.member_id] for one in world.passes.values() if one.state == "active"
            and (one.credits > 0) == rich and one.member_id not in there]
    if lesson is None or not able:
        return None
    member = rng.choice(able)
    call = Call("book_class", {"member_id": member.id, "class_id": lesson.id})
    facts = told(member=member.member, title=lesson.title, day=lesson.day)
    return Goal((call,), facts, told(phone=member.phone))


def _on_pass(world: Studio, own: Pass, call: Call, **facts: Fact | str | int) -> Goal:
    member = world.members[own.member_id]
    return Goal((call,), told(member=member.member, **facts), told(phone=member.phone))


JOIN_EN = ("{member} would like to join {title} on {day}.", "Book {title}, {day}, for {member}.",
           "Hey, it's {member}. Is there a spot in {title} on {day}? I'd take it.")
JOIN_ZH = ("{member}想上{day}的{title}。", "我是{member}，帮我约{day}的{title}。")


@intent(
    en=JOIN_EN, zh=JOIN_ZH,
    reply_en=("{member} has a place in {title} on {day}.",),
    reply_zh=("已为{member}预约 {day} 的{title}。",),
)
def join(world: Studio, rng: Random) -> Goal | None:
    """Book a class."""
    return _booking(world, rng, full=False)


@intent(
    en=("{member} is out of credits: sell {credits} and then book {title} on {day}.",
        "{member} buys {credits} credits and takes {title}, {day}.",
        "Top {member} up with {credits} credits first. After that: {title} on {day}."),
    zh=("{member}没有课时了，先买{credits}个，再约{day}的{title}。",
        "给{member}加{credits}个课时，然后预约{day}的{title}。"),
    reply_en=("{member} has {credits} new credits and a place in {title} on {day}.",),
    reply_zh=("{member}已增加 {credits} 个课时，并约好 {day} 的{title}。",),
)
def stock_up_and_join(world: Studio, rng: Random) -> Goal | None:
    """Buy credits, then book."""
    goal, credits = _booking(world, rng, full=False, rich=False), rng.randint(2, 12)
    if goal is None:
        return None
    own = _pass(world, str(goal.calls[0].arguments["member_id"]))
    buy = Call("add_credits", {"pass_id": own.id, "credits": credits})
    return Goal((buy, *goal.calls), {**goal.facts, **told(credits=credits)}, goal.clues)


@intent(
    en=("{member} can't make it to {title} on {day}.",
        "Please cancel {title} on {day} for {member}.",
        "{member} here, take me off the {title} list of {day}. How many credits do I have then?"),
    zh=("{member}来不了{day}的{title}，请取消。",
        "取消{member}在{day}的{title}预约，还剩几个课时？"),
    reply_en=("{title} on {day} is cancelled; credits of {member}: {result.credits}.",),
    reply_zh=("已取消 {day} 的{title}，{member}还有 {result.credits} 个课时。",),
)
def drop_out(world: Studio, rng: Random) -> Goal:
    """Cancel a booking."""
    one = rng.choice(list(world.bookings.values()))
    call = Call("drop_booking", {"booking_id": one.id})
    return _on_pass(world, _pass(world, one.member_id), call, title=one.title, day=one.day)


def _planning(world: Studio, rng: Random, name: str) -> Goal:
    own = rng.choice(list(world.passes.values()))
    plans: list[PlanName] = [one for one in PRICES if one != own.plan]
    plan = rng.choice(plans)
    call = Call(name, {"pass_id": own.id, "new_plan": plan})
    return _on_pass(world, own, call, new_plan=Fact("new_plan", plan, PLANS[plan]))


@intent(
    en=("{member} wants the {new_plan} plan from now on.", "Switch {member} to {new_plan}.",
        "Change the membership of {member}[ to {new_plan}], please."),
    zh=("{member}要改成{new_plan}会籍。", "把{member}的会籍换个档次[，换成{new_plan}]。"),
    reply_en=("{member} has the {new_plan} plan.",), reply_zh=("{member}的会籍已改为{new_plan}。",),
)
def switch(world: Studio, rng: Random) -> Goal:
    """Change a plan."""
    return _planning(world, rng, "change_plan")


@intent(
    en=("What would {new_plan} cost {member}, and how much is that on top?",
        "{member} asks for the price of {new_plan} and the difference to now.",
        "Price check for {member}: {new_plan} instead of the current plan?"),
    zh=("{member}换成{new_plan}会籍要多少钱，差多少？", "{member}想知道{new_plan}的价格和差价。"),
    reply_en=("{new_plan} costs {result.price} a month, a difference of {result.difference}.",),
    reply_zh=("{new_plan}每月 {result.price}，差价 {result.difference}。",),
)
def ask_price(world: Studio, rng: Random) -> Goal:
    """Learn what a plan costs."""
    return _planning(world, rng, "quote_plan")


@intent(
    en=("{member} gives {credits} credits to {friend}.",
        "Move {credits} class credits from {member} to {friend}.",
        "{friend} should get {credits} of {member}'s credits."),
    zh=("{member}送{credits}个课时给{friend}。", "把{member}的{credits}个课时转给{friend}。"),
    reply_en=("{friend} got {credits} credits; {member} has {result.credits} left.",),
    reply_zh=("已转给{friend} {credits} 个课时，{member}还剩 {result.credits} 个。",),
)
def share(world: Studio, rng: Random) -> Goal | None:
    """Give credits to somebody else; both have names of their own."""
    own, other = rng.sample(list(world.passes.values()), 2)
    names = [one.member for one in world.members.values()]
    member, friend = world.members[own.member_id].member, world.members[other.member_id].member
    if own.credits == 0 or names.count(member) + names.count(friend) > 2:
        return None
    credits = rng.randint(1, own.credits)
    call = Call("give_credits", {"pass_id": own.id, "to_pass_id": other.id, "credits": credits})
    return _on_pass(world, own, call, credits=credits, friend=Fact("member", friend))


TEACH_EN = ("{trainer} takes over {title} on {day}.",
            "The trainer of {title}, {day}, is ill. {trainer} can do it.",
            "Put {trainer} down for {title} on {day}.")
TEACH_ZH = ("{day}的{title}由{trainer}代课。", "{day}的{title}教练病了，换{trainer}。")


@intent(
    en=TEACH_EN, zh=TEACH_ZH,
    reply_en=("{trainer} teaches {title} on {day}.",),
    reply_zh=("{day} 的{title}由{trainer}上课。",),
)
def stand_in(world: Studio, rng: Random) -> Goal | None:
    """Replace a trainer."""
    return _standing_in(world, rng, able=True)


def _standing_in(world: Studio, rng: Random, able: bool) -> Goal | None:
    lesson = rng.choice(list(world.classes.values()))
    others = [one for one in world.trainers.values() if one.id != lesson.trainer_id
              and (one.skill == lesson.skill) == able]
    if not others:
        return None
    trainer = rng.choice(others)
    call = Call("replace_trainer", {"class_id": lesson.id, "trainer_id": trainer.id})
    return Goal((call,), told(trainer=trainer.trainer, title=lesson.title, day=lesson.day))


@intent(
    en=("What's on with {trainer}?", "Which classes does {trainer} give, and when?",
        "I only like {trainer}. Show me the days."),
    zh=("{trainer}都有哪些课，在哪天？", "查一下{trainer}的课。"),
    reply_en=("{trainer} gives {rows.title} on {rows.day}.",),
    reply_zh=("{trainer}的课：{rows.title}，日期 {rows.day}。",),
)
def ask_classes(world: Studio, rng: Random) -> Goal:
    """Learn what a trainer teaches."""
    trainer = world.trainers[rng.choice(list(world.classes.values())).trainer_id]
    return Goal((Call("find_classes", {"trainer_id": trainer.id}),), told(trainer=trainer.trainer))


@intent(
    en=JOIN_EN, zh=JOIN_ZH,
    reply_en=("{title} on {day} is full, so {member} has no place.",),
    reply_zh=("{day} 的{title}已满，{member}约不上。",), kind="fails",
)
def join_full(world: Studio, rng: Random) -> Goal | None:
    """Book a class that is full."""
    return _booking(world, rng, full=True)


@intent(
    en=TEACH_EN, zh=TEACH_ZH,
    reply_en=("{trainer} doesn't teach this kind of training, so {title} stays as it is.",),
    reply_zh=("{trainer}不教这类训练，{title}没有更改。",), kind="fails",
)
def stand_in_wrongly(world: Studio, rng: Random) -> Goal | None:
    """Ask for a trainer of something else."""
    return _standing_in(world, rng, able=False)


@intent(
    en=JOIN_EN, zh=JOIN_ZH,
    reply_en=("{title} is for experts: a trainer has to assess {member} first.",),
    reply_zh=("{title}是高阶课程，{member}需要先由教练评估。",), kind="policy",
)
def join_experts(world: Studio, rng: Random) -> Goal | None:
    """Ask for a class that needs an assessment."""
    lesson, member = (_lesson(world, rng, full=False, expert=True),
                      rng.choice(list(world.members.values())))
    if lesson is None:
        return None
    look = Call("find_classes", {"title": lesson.title, "day": lesson.day})
    return Goal((look,), told(member=member.member, title=lesson.title, day=lesson.day))


DOMAIN = domain_of(
    sys.modules[__name__], "the front desk of a fitness studio", "健身房前台", seed,
    policies_en=("Never book expert classes; a trainer does that after an assessment.",),
    policies_zh=("不得预约高阶（expert）课程，须由教练评估后办理。",),
)
