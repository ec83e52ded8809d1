"""The front desk of a medical practice: patients, doctors, visits and prescriptions."""

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

PatientId = Annotated[str, Slot("patient_id", "patient id", "患者编号", "id", entity="patients")]
DoctorId = Annotated[str, Slot("doctor_id", "doctor id", "医生编号", "id", entity="doctors")]
VisitId = Annotated[str, Slot("visit_id", "visit id", "就诊编号", "id", entity="visits")]
ScriptId = Annotated[str, Slot("script_id", "prescription id", "处方编号", "id", entity="scripts")]
Name = Annotated[str, Slot("name", "name of the patient", "患者姓名")]
Born = Annotated[str, Slot("born", "date of birth", "出生日期", "date")]
Phone = Annotated[str, Slot("phone", "phone number", "电话号码", "phone")]
DoctorName = Annotated[str, Slot("doctor_name", "name of the doctor", "医生姓名")]
SpecialtyName = Literal["general", "skin", "heart", "children", "eyes", "bones"]
Specialty = Annotated[SpecialtyName, Slot("specialty", "specialty", "专科")]
Day = Annotated[str, Slot("day", "day of the visit", "就诊日期", "date")]
Start = Annotated[str, Slot("start", "start of the visit", "就诊时间", "datetime")]
After = Annotated[str, Slot("after", "earliest time of day", "最早的时间", "time")]
Reason = Annotated[str, Slot("reason", "reason for the visit", "就诊原因")]
Drug = Annotated[str, Slot("drug", "name of the drug", "药品名称")]
Insured = Annotated[bool, Slot("insured", "insurance status", "保险情况")]
First = Annotated[bool, Slot("first_visit", "first visit or not", "是否初诊")]


@dataclass(frozen=True, slots=True)
class Patient:
    """Somebody who is treated here."""

    id: PatientId
    name: Name
    born: Born
    phone: Phone


@dataclass(frozen=True, slots=True)
class Doctor:
    """Somebody who treats."""

    id: DoctorId
    doctor_name: DoctorName
    specialty: Specialty


@dataclass(frozen=True, slots=True)
class Visit:
    """Half an hour of a doctor for a patient."""

    id: VisitId
    patient_id: PatientId
    doctor_id: DoctorId
    day: Day
    start: str
    reason: Reason
    state: Literal["booked", "cancelled"] = "booked"


@dataclass(frozen=True, slots=True)
class Script:
    """A prescription that can be renewed a number of times."""

    id: ScriptId
    patient_id: PatientId
    drug: Drug
    renewals: int


@dataclass(slots=True)
class Clinic(World):
    """Everything there is."""

    patients: dict[str, Patient] = field(default_factory=dict[str, Patient])
    doctors: dict[str, Doctor] = field(default_factory=dict[str, Doctor])
    visits: dict[str, Visit] = field(default_factory=dict[str, Visit])
    scripts: dict[str, Script] = field(default_factory=dict[str, Script])


FIRST = ("Amara", "Bodil", "Cyrus", "Delphine", "Eitan", "Farida", "Gustav", "Hyun", "Ines",
         "Jarek", "Kalinda", "Lorenzo", "Mireille", "Nnamdi", "Oksana", "Priya",
         "Qasim")  # fmt: skip
LAST = ("Abara", "Brandt", "Castellano", "Dlamini", "Eriksen", "Fontaine", "Gupta", "Haddad",
        "Ishida", "Kowalski", "Lindqvist", "Moreau", "Oyelaran", "Pham", "Rosario")  # fmt: skip
DOCTORS = ("Dr. Albrecht", "Dr. Banerjee", "Dr. Chukwu", "Dr. Dumont", "Dr. Eskola", "Dr. Ferreira",
           "Dr. Gallagher", "Dr. Hosseini", "Dr. Imani", "Dr. Jimenez", "Dr. Kaplan",
           "Dr. Liang")  # fmt: skip
REASONS = (
    "knee pain", "yearly check-up", "skin rash", "blood test", "flu vaccination", "back pain",
    "sore throat", "allergy test", "headaches", "follow-up", "travel advice", "ear infection",
)  # fmt: skip
DRUGS = (
    "Metformin", "Lisinopril", "Salbutamol", "Omeprazole", "Levothyroxine", "Cetirizine",
    "Amlodipine", "Sertraline", "Pantoprazole", "Bisoprolol", "Naproxen", "Ramipril",
)  # fmt: skip
TIMES = tuple(f"{hour:02}:{half}" for hour in range(9, 17) for half in ("00", "30"))
SPECIALTIES: dict[SpecialtyName, tuple[str, str, int]] = {
    "general": ("general practice", "全科", 45), "skin": ("dermatology", "皮肤科", 70),
    "heart": ("cardiology", "心内科", 120), "children": ("pediatrics", "儿科", 50),
    "eyes": ("eye care", "眼科", 65), "bones": ("orthopedics", "骨科", 95),
}  # fmt: skip


def seed(rng: Random) -> Clinic:
    """Make a practice with visits of a fortnight; now and then two patients share a name."""
    first = date(2026, 2, 2) + timedelta(days=rng.randrange(280))
    world = Clinic(f"{first} 07:30")
    names = [f"{rng.choice(FIRST)} {rng.choice(LAST)}" for _ in range(7)]
    for name in (*names, rng.choice(names)):
        born = str(date(1938, 1, 1) + timedelta(days=rng.randrange(30_000)))
        key = new_id(world.patients, "PT", name, born)
        world.patients[key] = Patient(key, name, born, f"555-{rng.randint(1000, 9999)}")
    for name in rng.sample(DOCTORS, 5):
        key = new_id(world.doctors, "DR", name)
        world.doctors[key] = Doctor(key, name, rng.choice(list(SPECIALTIES)))
    reasons, drugs = rng.sample(REASONS, 12), rng.sample(DRUGS, 10)
    for number, reason in enumerate(reasons):
        patient = list(world.patients)[number % 8]
        doctor = rng.choice(list(world.doctors))
        start = _free_start(world, doctor, rng, 0 if number in (2, 5, 7) else rng.randint(2, 14))
        key = new_id(world.visits, "V", patient, doctor, start)
        state = "cancelled" if number in (1, 6) else "booked"
        world.visits[key] = Visit(key, patient, doctor, start[:10], start, reason, state)
    for number, drug in enumerate(drugs):
        patient = rng.choice(list(world.patients))
        key = new_id(world.scripts, "RX", patient, drug)
        world.scripts[key] = Script(key, patient, drug, number % 4)
    return world


def _taken(world: Clinic, doctor_id: str) -> set[str]:
    visits = world.visits.values()
    return {v.start for v in visits if v.doctor_id == doctor_id and v.state != "cancelled"}


def _free_start(world: Clinic, doctor_id: str, rng: Random, days: int = 0) -> str:
    day, taken = date.fromisoformat(world.today) + timedelta(days=days), _taken(world, doctor_id)
    return rng.choice([start for time in TIMES if (start := f"{day} {time}") not in taken])


def _check_start(world: Clinic, doctor_id: str, start: str) -> None:
    check(start > world.now, "in_the_past", "The start is in the past.")
    check(start not in _taken(world, doctor_id), "slot_taken", "The doctor is not free then.")


# --- tools ---------------------------------------------------------------------------------------


@tool("Find patients by name, date of birth, or both.", "按姓名、出生日期或两者查找患者。")
def search_patients(
    world: Clinic, name: Name | None = None, born: Born | None = None
) -> list[Patient]:
    """Return at most five."""
    everyone = world.patients.values()
    return [p for p in everyone if has(name, p.name) and same(born, p.born)][:5]


@tool("Register a new patient. Returns the record.", "登记新患者，返回其档案。", writes=True,
      errors=("already_registered",))  # fmt: skip
def register_patient(world: Clinic, name: Name, born: Born, phone: Phone) -> Patient:
    """Add a patient who is not known yet."""
    known = any(p.name == name and p.born == born for p in world.patients.values())
    check(not known, "already_registered", "There is a patient of that name and date of birth.")
    key = new_id(world.patients, "PT", name, born)
    world.patients[key] = Patient(key, name, born, phone)
    return world.patients[key]


@tool("List doctors, all or by name or specialty.", "列出医生，可按姓名或专科筛选。")
def list_doctors(
    world: Clinic, doctor_name: DoctorName | None = None, specialty: Specialty | None = None
) -> list[Doctor]:
    """Return at most five."""
    doctors = [d for d in world.doctors.values() if has(doctor_name, d.doctor_name)]
    return [d for d in doctors if same(specialty, d.specialty)][:5]


@tool("Tell the first free times of a doctor on a day.", "查询医生某天最早的空闲时间。",
      errors=("not_found",))  # fmt: skip
def open_times(
    world: Clinic, doctor_id: DoctorId, day: Day, after: After = "09:00"
) -> dict[str, list[str]]:
    """Return at most four times."""
    find(world.doctors, doctor_id, "doctor")
    taken = _taken(world, doctor_id)
    free = [time for time in TIMES if time >= after and f"{day} {time}" not in taken]
    return {"free": free[:4]}


@tool("List the visits of a patient, the earliest first.", "按时间列出患者的就诊。")
def patient_visits(
    world: Clinic, patient_id: PatientId, day: Day | None = None, reason: Reason | None = None
) -> list[Visit]:
    """Return at most five."""
    found = [v for v in world.visits.values() if v.patient_id == patient_id and same(day, v.day)]
    return sorted((v for v in found if has(reason, v.reason)), key=lambda v: v.start)[:5]


@tool("Show one visit.", "查看一次就诊。", errors=("not_found",))
def show_visit(world: Clinic, visit_id: VisitId) -> Visit:
    """Return the visit."""
    return find(world.visits, visit_id, "visit")


@tool("Book a visit of a patient to a doctor. Returns it.", "为患者预约医生，返回该次就诊。",
      writes=True, errors=("not_found", "in_the_past", "slot_taken"))  # fmt: skip
def book_visit(
    world: Clinic, patient_id: PatientId, doctor_id: DoctorId, start: Start, reason: Reason
) -> Visit:
    """Add a visit where the doctor is free."""
    find(world.patients, patient_id, "patient")
    find(world.doctors, doctor_id, "doctor")
    _check_start(world, doctor_id, start)
    key = new_id(world.visits, "V", patient_id, doctor_id, start)
    world.visits[key] = Visit(key, patient_id, doctor_id, start[:10], start, reason)
    return world.visits[key]


@tool("Move a visit to another time with the same doctor.", "把就诊改到同一医生的另一时间。",
      writes=True, errors=("not_found", "already_cancelled", "in_the_past", "slot_taken")
)  # fmt: skip
def move_visit(world: Clinic, visit_id: VisitId, start: Start) -> Visit:
    """Change when a visit begins."""
    visit = find(world.visits, visit_id, "visit")
    check(visit.state != "cancelled", "already_cancelled", "The visit is cancelled.")
    _check_start(world, visit.doctor_id, start)
    world.visits[visit_id] = replace(visit, start=start, day=start[:10])
    return world.visits[visit_id]


@tool("Cancel a visit.", "取消就诊。", writes=True, errors=("not_found", "already_cancelled"))
def cancel_visit(world: Clinic, visit_id: VisitId) -> Visit:
    """Mark a visit as cancelled."""
    visit = find(world.visits, visit_id, "visit")
    check(visit.state != "cancelled", "already_cancelled", "The visit is cancelled already.")
    world.visits[visit_id] = replace(visit, state="cancelled")
    return world.visits[visit_id]


@tool("List a patient's prescriptions.", "列出患者的处方。")
def list_prescriptions(world: Clinic, patient_id: PatientId) -> list[Script]:
    """Return at most five."""
    return [s for s in world.scripts.values() if s.patient_id == patient_id][:5]


@tool("Renew a prescription once. Returns it.", "续开一次处方，返回该处方。", writes=True,
      errors=("not_found", "no_renewals"))  # fmt: skip
def renew_prescription(world: Clinic, script_id: ScriptId) -> Script:
    """Use one of the renewals that are left."""
    script = find(world.scripts, script_id, "prescription")
    check(script.renewals > 0, "no_renewals", "No renewals are left; a doctor must decide.")
    world.scripts[script_id] = replace(script, renewals=script.renewals - 1)
    return world.scripts[script_id]


@tool("Tell what a visit costs the patient.", "计算患者一次就诊的费用。")
def visit_fee(
    world: Clinic, specialty: Specialty, insured: Insured, first_visit: First = False
) -> dict[str, int]:
    """Return the fee: a fifth with insurance, 15 more at the first visit."""
    full = SPECIALTIES[specialty][2] + (15 if first_visit else 0)
    return {"fee": full // 5 if insured else full}


# --- what users want -----------------------------------------------------------------------------


def _name(world: Clinic, patient_id: str) -> dict[str, Fact]:
    return told(name=world.patients[patient_id].name)


def _born(world: Clinic, patient_id: str) -> dict[str, Fact]:
    return told(born=world.patients[patient_id].born)


def _visit(world: Clinic, rng: Random, when: str, state: str) -> tuple[Visit, dict[str, Fact]]:
    """Draw a visit of today or a later one, with what its patient says of it."""
    visits = [v for v in world.visits.values() if v.state == state]
    visit = rng.choice([v for v in visits if (v.day == world.today) == (when == "today")])
    return visit, {**_name(world, visit.patient_id), **told(reason=visit.reason)}


def _booking(world: Clinic, rng: Random, doctor: Doctor, start: str) -> Goal:
    patient, reason = rng.choice(list(world.patients)), rng.choice(REASONS)
    booking = {"patient_id": patient, "doctor_id": doctor.id, "start": start, "reason": reason}
    facts = told(doctor_name=doctor.doctor_name, start=start, reason=reason)
    facts |= _name(world, patient)
    return Goal((Call("book_visit", booking),), facts, _born(world, patient))


@intent(
    en=("Book {name} with {doctor_name} on {start} because of {reason}.",
        "{name} needs to see {doctor_name}[, {start} would suit][; it is about {reason}].",
        "Hi, this is {name}. Could I come in to {doctor_name}[ on {start}]? It's for {reason}.",
        "One visit please: {name}, {doctor_name}, {start}[, reason {reason}]."),
    zh=("请帮{name}预约{doctor_name}，时间{start}，原因是{reason}。",
        "你好，我是{name}，想挂{doctor_name}的号[，{start}][，看{reason}]。",
        "{name}要看{doctor_name}[，{start}可以吗]？原因：{reason}。"),
    reply_en=("{name} is booked with {doctor_name} on {start}.",
              "Booked: {name}, {doctor_name}, {start}."),
    reply_zh=("已为{name}预约{doctor_name}，时间{start}。",),
)  # fmt: skip
def book(world: Clinic, rng: Random) -> Goal:
    """Book a visit with a doctor by name."""
    doctor = rng.choice(list(world.doctors.values()))
    return _booking(world, rng, doctor, _free_start(world, doctor.id, rng, rng.randint(2, 14)))


@intent(
    en=("{name} would like {doctor_name} at {start} for {reason}.",
        "Please put {name} down with {doctor_name} at {start}; reason: {reason}.",
        "I'm {name}. Any chance of {doctor_name} on {start}? I have {reason}."),
    zh=("给{name}约{doctor_name}，{start}，{reason}。",
        "{name}想在{start}看{doctor_name}，原因是{reason}。"),
    reply_en=("Sorry, {doctor_name} already has a patient at {start}; {name} is not booked.",),
    reply_zh=("抱歉，{doctor_name}在{start}已有患者，无法为{name}预约。",), kind="fails",
)  # fmt: skip
def book_taken(world: Clinic, rng: Random) -> Goal:
    """Want a time at which the doctor is not free."""
    other, _ = _visit(world, rng, "later", "booked")
    return _booking(world, rng, world.doctors[other.doctor_id], other.start)


@intent(
    en=("{name} can't make the {reason} appointment. Move it[ to {start}].",
        "Can we shift my {reason} visit[ to {start}]? {name} here.",
        "Reschedule {name}, {reason}[, new time {start}]."),
    zh=("{name}的{reason}预约改一下时间[，改到{start}]。",
        "我是{name}，{reason}那次想换到{start}。"),
    reply_en=("The {reason} visit of {name} is now on {start}.",),
    reply_zh=("{name}的{reason}就诊已改到{start}。",),
)  # fmt: skip
def reschedule(world: Clinic, rng: Random) -> Goal:
    """Move a later visit."""
    visit, facts = _visit(world, rng, "later", "booked")
    start = _free_start(world, visit.doctor_id, rng, rng.randint(2, 14))
    goal = (Call("move_visit", {"visit_id": visit.id, "start": start}),)
    return Goal(goal, {**facts, **told(start=start)}, _born(world, visit.patient_id))


@intent(
    en=("Please cancel {name}'s appointment for {reason}.",
        "I don't need my {reason} visit any more. My name is {name}.",
        "{name} called: drop the {reason} appointment."),
    zh=("取消{name}的{reason}预约。", "我是{name}，{reason}那次就诊不来了，帮我取消。"),
    reply_en=("The {reason} visit of {name} is cancelled.",),
    reply_zh=("{name}的{reason}就诊已取消。",),
)  # fmt: skip
def cancel(world: Clinic, rng: Random) -> Goal:
    """Cancel a later visit."""
    visit, facts = _visit(world, rng, "later", "booked")
    goal = (Call("cancel_visit", {"visit_id": visit.id}),)
    return Goal(goal, facts, _born(world, visit.patient_id))


@intent(
    en=("{name} wants {doctor_name} instead for {reason}: drop the old visit and book {start}.",
        "Cancel my {reason} appointment and give me one with {doctor_name}[ on {start}]. {name}.",
        "For {reason}, {name} would rather see {doctor_name}[, {start}]; the old visit can go."),
    zh=("{name}的{reason}想换成{doctor_name}：取消原来的预约，改约{start}。",
        "我是{name}，取消{reason}的预约，帮我换{doctor_name}[，{start}]。"),
    reply_en=("{name} now sees {doctor_name} on {start}; the old {reason} visit is cancelled.",),
    reply_zh=("{name}已改约{doctor_name}，时间{start}，原来的{reason}就诊已取消。",),
)  # fmt: skip
def change_doctor(world: Clinic, rng: Random) -> Goal:
    """Cancel a visit and book one with another doctor."""
    visit, facts = _visit(world, rng, "later", "booked")
    doctor = rng.choice([d for d in world.doctors.values() if d.id != visit.doctor_id])
    start = _free_start(world, doctor.id, rng, rng.randint(2, 14))
    booking = {"patient_id": visit.patient_id, "doctor_id": doctor.id, "start": start}
    book_it = Call("book_visit", {**booking, "reason": visit.reason})
    facts |= told(doctor_name=doctor.doctor_name, start=start)
    goal = (Call("cancel_visit", {"visit_id": visit.id}), book_it)
    return Goal(goal, facts, _born(world, visit.patient_id))


@intent(
    en=("{name} has to cancel today's {reason} visit.",
        "I can't come today, please cancel. {name}, {reason}.",
        "Cancel {reason} today for {name}."),
    zh=("{name}今天的{reason}来不了，请取消。", "我是{name}，请取消我今天的{reason}就诊。"),
    reply_en=("The {reason} visit is today, so I may not cancel it; please phone the desk.",),
    reply_zh=("{reason}就诊就在今天，我不能取消，请致电前台。",), kind="policy",
)  # fmt: skip
def cancel_today(world: Clinic, rng: Random) -> Goal:
    """Want a visit of today cancelled."""
    visit, facts = _visit(world, rng, "today", "booked")
    goal = (Call("show_visit", {"visit_id": visit.id}),)
    return Goal(goal, facts, _born(world, visit.patient_id))


@intent(
    en=("When does {doctor_name} have time on {day}[, not before {after}]?",
        "Is {doctor_name} free on {day}[ after {after}]?",
        "Free slots of {doctor_name}, {day}[, from {after}]?"),
    zh=("{doctor_name}在{day}什么时候有空[，不早于{after}]？",
        "{day}[{after}以后]{doctor_name}还有号吗？"),
    reply_en=("On {day}, {doctor_name} is free at {result.free}.",),
    reply_zh=("{doctor_name}在{day}的空闲时间：{result.free}。",),
)  # fmt: skip
def ask_free(world: Clinic, rng: Random) -> Goal:
    """Learn when a doctor is free."""
    doctor, after = rng.choice(list(world.doctors.values())), rng.choice(TIMES[4:12])
    day = str(date.fromisoformat(world.today) + timedelta(days=rng.randint(1, 14)))
    goal = (Call("open_times", {"doctor_id": doctor.id, "day": day, "after": after}),)
    return Goal(goal, told(doctor_name=doctor.doctor_name, day=day, after=after))


@intent(
    en=("New patient: {name}, born {born}[, phone {phone}].",
        "I've never been here before. I'm {name}[, born on {born}][, you reach me at {phone}].",
        "Add {name}, {born}, {phone}."),
    zh=("新患者{name}，{born}出生[，电话{phone}]。",
        "我第一次来，叫{name}[，生日{born}][，电话{phone}]。"),
    reply_en=("{name} is registered with the number {result.id}.",),
    reply_zh=("已登记{name}，编号{result.id}。",),
)  # fmt: skip
def register(world: Clinic, rng: Random) -> Goal:
    """Register somebody new."""
    name = f"{rng.choice(FIRST)} {rng.choice(LAST)}-{rng.choice(LAST)}"
    born = str(date(1950, 1, 1) + timedelta(days=rng.randrange(27_000)))
    values = {"name": name, "born": born, "phone": f"555-{rng.randint(1000, 9999)}"}
    return Goal((Call("register_patient", values),), told(**values))


def _renewal(world: Clinic, rng: Random, left: bool) -> Goal:
    script = rng.choice([s for s in world.scripts.values() if (s.renewals > 0) == left])
    facts = {**_name(world, script.patient_id), **told(drug=script.drug)}
    goal = (Call("renew_prescription", {"script_id": script.id}),)
    return Goal(goal, facts, _born(world, script.patient_id))


@intent(
    en=("{name} needs more {drug}.", "Renew my {drug}, please. {name}.",
        "Could you renew the {drug} prescription of {name}?"),
    zh=("{name}的{drug}要续方。", "我是{name}，{drug}快吃完了，帮我续开。"),
    reply_en=("{drug} is renewed. Renewals left: {result.renewals}.",),
    reply_zh=("{drug}已续开，还可续{result.renewals}次。",),
)  # fmt: skip
def renew(world: Clinic, rng: Random) -> Goal:
    """Renew a prescription."""
    return _renewal(world, rng, left=True)


@intent(
    en=("Please renew {drug} for {name}.", "{name} here, I ran out of {drug}.",
        "Is there more {drug} for {name}?"),
    zh=("请为{name}续开{drug}。", "我是{name}，{drug}用完了，想续方。"),
    reply_en=("No renewals of {drug} are left for {name}; a doctor has to decide.",),
    reply_zh=("{name}的{drug}已没有续方次数，需要医生决定。",), kind="fails",
)  # fmt: skip
def renew_used_up(world: Clinic, rng: Random) -> Goal:
    """Want a prescription renewed that has no renewals."""
    return _renewal(world, rng, left=False)


@intent(
    en=("What does a {specialty} visit cost[, {insured}]?",
        "How much do I pay for {specialty}? I'm {insured}.", "Price of {specialty}, {insured}?"),
    zh=("看{specialty}要多少钱[，{insured}]？", "{insured}的话，{specialty}就诊费用是多少？"),
    reply_en=("That costs {result.fee}.",), reply_zh=("费用是{result.fee}。",),
)  # fmt: skip
def ask_fee(_world: Clinic, rng: Random) -> Goal:
    """Learn what a visit costs."""
    specialty, insured = rng.choice(list(SPECIALTIES)), rng.random() < 0.5
    words = ("insured", "有保险") if insured else ("not insured", "没有保险")
    said = Fact("specialty", specialty, SPECIALTIES[specialty][:2])
    goal = (Call("visit_fee", {"specialty": specialty, "insured": insured}),)
    return Goal(goal, told(insured=Fact("insured", insured, words), specialty=said))


@intent(
    en=("Should I double my {drug}? It isn't helping.", "How much {drug} may I take in a day?",
        "Can I stop {drug}?"),
    zh=("{drug}没什么效果，我可以加倍吃吗？", "{drug}一天最多能吃多少？"),
    reply_en=("I may not give advice on doses; please ask your doctor about {drug}.",),
    reply_zh=("我不能提供用药剂量建议，{drug}的用量请咨询医生。",), kind="policy",
)  # fmt: skip
def ask_dose(_world: Clinic, rng: Random) -> Goal:
    """Want medical advice."""
    return Goal((), told(drug=rng.choice(DRUGS)))


DOMAIN = domain_of(
    sys.modules[__name__], "the front desk of a medical practice", "诊所前台", seed,
    policies_en=("Never cancel or move a visit of today.", "Never advise on doses or treatment."),
    policies_zh=("不得取消或更改当天的就诊。", "不得就剂量或治疗提供建议。"),
)  # fmt: skip
