"""A school office: students, courses, who sits in which, marks and rooms."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from random import Random
from typing import Annotated, Literal

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

# Slots, rows and requests read best as lists, on as few lines as they need.
# fmt: off
PERCENT = {"minimum": 0, "maximum": 100}
StudentId = Annotated[str, Slot("student_id", "student id", "学生编号", "id", entity="students")]
CourseId = Annotated[str, Slot("course_id", "course id", "课程编号", "id", entity="courses")]
PlaceId = Annotated[str, Slot("place_id", "enrolment id", "选课编号", "id", entity="places")]
RoomId = Annotated[str, Slot("room_id", "room id", "教室编号", "id", entity="rooms")]
Student = Annotated[str, Slot("student", "name of the student", "学生姓名")]
Form = Annotated[str, Slot("form", "form, such as 9B", "班级，如 9B")]
Course = Annotated[str, Slot("course", "title of the course", "课程名称")]
Level = Annotated[Literal["basic", "advanced", "honours"], Slot("level", "level", "难度")]
Teacher = Annotated[str, Slot("teacher", "teacher", "任课教师")]
Day = Annotated[Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"],
                Slot("weekday", "day of the week", "星期")]
Period = Annotated[int, Slot("period", "period of the day", "节次", "count")]
Seats = Annotated[int, Slot("seats", "number of seats", "座位数", "count")]
Room = Annotated[str, Slot("room", "name of the room", "教室名称")]
Mark = Annotated[int, Slot("mark", "mark from 0 to 100", "分数（0 到 100）", schema=PERCENT)]
Cause = Annotated[Literal["miscounted", "late_work", "second_exam"],
                  Slot("cause", "cause of the correction", "更正原因")]


@dataclass(frozen=True, slots=True)
class StudentRow:
    """Somebody who learns here."""
    id: StudentId
    student: Student
    form: Form


@dataclass(frozen=True, slots=True)
class CourseRow:
    """A weekly lesson."""
    id: CourseId
    course: Course
    level: Level
    teacher: Teacher
    weekday: Day
    period: Period
    seats: int
    room_id: RoomId


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """A student in a course."""
    id: PlaceId
    student_id: StudentId
    student: Student
    course_id: CourseId
    course: Course
    mark: int | None = None


@dataclass(frozen=True, slots=True)
class RoomRow:
    """Where lessons take place."""
    id: RoomId
    room: Room
    seats: Seats


@dataclass(slots=True)
class School(World):
    """Everything there is."""
    students: dict[str, StudentRow] = field(default_factory=dict[str, StudentRow])
    courses: dict[str, CourseRow] = field(default_factory=dict[str, CourseRow])
    places: dict[str, PlaceRow] = field(default_factory=dict[str, PlaceRow])
    rooms: dict[str, RoomRow] = field(default_factory=dict[str, RoomRow])


FIRST = ("Alba", "Benedek", "Ciara", "Dawit", "Esme", "Filip", "Giulia", "Hugo", "Ines", "Jamal",
         "Keiko", "Leon", "Malik", "Niamh", "Omar", "Paula", "Rohan", "Signe", "Tariq", "Yara")
LAST = ("Aalto", "Benitez", "Chaudhry", "Diallo", "Engel", "Fontaine", "Greco", "Hoang", "Ivanova",
        "Jovanovic", "Khan", "Laurent", "Murphy", "Nagy", "Oduya", "Pham", "Quiroga", "Rossi")
SUBJECTS = ("Algebra", "Biology", "Choir", "Chemistry", "Drawing", "French", "Geography",
            "Robotics", "Latin", "Philosophy", "Physics", "Pottery", "Spanish", "Statistics",
            "Theatre", "书法", "中国历史")
TEACHERS = ("Ms Arden", "Mr Boateng", "Dr Castro", "Ms Dogan", "Mr Eriksen", "Ms Fujita",
            "Dr Grant", "王老师")
ROOMS = ("Lab 1", "Lab 2", "North Hall", "Studio", "Atrium", "Room 104", "Room 207", "Room 311",
         "Music Room", "Greenhouse")
DAYS: tuple[Day, ...] = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
CAUSES: dict[Cause, tuple[str, str]] = {"miscounted": ("it was miscounted", "分数统计有误"),
                                        "late_work": ("late work was handed in", "补交了作业"),
                                        "second_exam": ("there was a second exam", "参加了补考")}


def seed(rng: Random) -> School:
    """Make one year's plan; a student's name sometimes occurs twice, in two forms."""
    world = School(f"2026-{rng.randint(9, 12):02}-{rng.randint(1, 28):02} 07:50")
    names = [f"{rng.choice(FIRST)} {rng.choice(LAST)}" for _ in range(8)]
    for number, name in enumerate((*names, *rng.choices(names, k=rng.randint(0, 1)))):
        form = f"{7 + number % 5}{rng.choice('ABCD')}"
        key = new_id(world.students, "S", name, form)
        world.students[key] = StudentRow(key, name, form)
    for name in rng.sample(ROOMS, 6):
        key = new_id(world.rooms, "R", name)
        world.rooms[key] = RoomRow(key, name, rng.choice((3, 4, 6, 9)))
    for number, subject in enumerate(rng.sample(SUBJECTS, 9)):
        day, period = rng.choice(DAYS), rng.randint(1, 3)
        level: Level = "honours" if number < 2 else rng.choice(("basic", "advanced"))
        room = rng.choice(list(world.rooms.values()))
        key = new_id(world.courses, "C", subject)
        seats = rng.randint(2, room.seats)
        world.courses[key] = CourseRow(key, subject, level, rng.choice(TEACHERS), day, period,
                                       seats, room.id)
    open_to_all = [one for one in world.courses.values() if one.level != "honours"]
    for student in world.students.values():
        for course in rng.sample(open_to_all, 4):
            if _problem(world, student.id, course) == "":
                _sit(world, student, course, rng.choice((None, rng.randint(35, 99))))
    return world


def _sit(world: School, student: StudentRow, course: CourseRow, mark: int | None = None
         ) -> PlaceRow:
    key = new_id(world.places, "E", student.id, course.id)
    world.places[key] = PlaceRow(key, student.id, student.student, course.id, course.course, mark)
    return world.places[key]


def _problem(world: School, student_id: str, course: CourseRow, leaving: str = "") -> str:
    """Say with which code a student can't take a course."""
    mine = [one.course_id for one in world.places.values() if one.student_id == student_id]
    if course.id in mine:
        return "already_enrolled"
    if sum(one.course_id == course.id for one in world.places.values()) >= course.seats:
        return "course_full"
    busy = [world.courses[key] for key in mine if key != leaving]
    clash = any((one.weekday, one.period) == (course.weekday, course.period) for one in busy)
    return "clash" if clash else ""


# --- tools ---------------------------------------------------------------------------------------


@tool("Find students by name or form.", "按姓名或班级查找学生。")
def find_students(world: School, student: Student | None = None, form: Form | None = None
                  ) -> list[StudentRow]:
    """Return at most five."""
    return [one for one in world.students.values() if has(student, one.student)
            and same(form, one.form)][:5]


@tool("Find courses by words of the title, teacher, day, or several of them.",
      "按课程名、教师、星期或其中几项查找课程。")
def find_courses(world: School, course: Course | None = None, teacher: Teacher | None = None,
                 weekday: Day | None = None) -> list[CourseRow]:
    """Return at most five."""
    return [one for one in world.courses.values() if has(course, one.course)
            and has(teacher, one.teacher) and same(weekday, one.weekday)][:5]


@tool("Find rooms by name or by how many seats they need to have.", "按名称或所需座位数查找教室。")
def find_rooms(world: School, room: Room | None = None, seats: Seats = 1) -> list[RoomRow]:
    """Return at most five, the smallest first."""
    found = [one for one in world.rooms.values() if has(room, one.room) and one.seats >= seats]
    return sorted(found, key=lambda one: (one.seats, one.room))[:5]


@tool("List the courses that a student takes, with marks.", "列出学生所选的课程及分数。",
      errors=("not_found",))
def list_plan(world: School, student_id: StudentId) -> list[PlaceRow]:
    """Return at most five, by course."""
    find(world.students, student_id, "student")
    found = [one for one in world.places.values() if one.student_id == student_id]
    return sorted(found, key=lambda one: one.course)[:5]


@tool("List who sits in a course.", "列出选了一门课的学生。", errors=("not_found",))
def list_class(world: School, course_id: CourseId) -> list[PlaceRow]:
    """Return at most five, by name."""
    find(world.courses, course_id, "course")
    found = [one for one in world.places.values() if one.course_id == course_id]
    return sorted(found, key=lambda one: (one.student, one.id))[:5]


@tool("Work out a student's average over the courses that have a mark.",
      "计算学生已有分数课程的平均分。", errors=("not_found", "no_marks"))
def average_mark(world: School, student_id: StudentId) -> dict[str, int]:
    """Return the rounded average and how many marks it has."""
    find(world.students, student_id, "student")
    mine = [one for one in world.places.values() if one.student_id == student_id]
    marks = [one.mark for one in mine if one.mark is not None]
    check(bool(marks), "no_marks", "This student has no marks yet.")
    return {"average": round(sum(marks) / len(marks)), "courses": len(marks)}


@tool("Enrol a student in a course with a free seat.", "让学生选一门有空位的课。", writes=True,
      errors=("not_found", "already_enrolled", "course_full", "clash"))
def enrol(world: School, student_id: StudentId, course_id: CourseId) -> PlaceRow:
    """Give a student a seat."""
    student, course = (find(world.students, student_id, "student"),
                       find(world.courses, course_id, "course"))
    problem = _problem(world, student_id, course)
    check(not problem, problem, f"This student can't take {course.course}.")
    return _sit(world, student, course)


@tool("Move an enrolment to another course; a mark is not kept.",
      "把选课换成另一门课，分数不保留。", writes=True,
      errors=("not_found", "already_enrolled", "course_full", "clash"))
def switch_course(world: School, place_id: PlaceId, course_id: CourseId) -> PlaceRow:
    """Give a student another seat instead."""
    place, course = (find(world.places, place_id, "enrolment"),
                     find(world.courses, course_id, "course"))
    problem = _problem(world, place.student_id, course, leaving=place.course_id)
    check(not problem, problem, f"This student can't take {course.course}.")
    del world.places[place_id]
    return _sit(world, world.students[place.student_id], course)


@tool("Take a student out of a course that has no mark yet.", "让学生退掉还没有分数的课。",
      writes=True, errors=("not_found", "already_marked"))
def withdraw(world: School, place_id: PlaceId) -> PlaceRow:
    """Free a seat."""
    place = find(world.places, place_id, "enrolment")
    check(place.mark is None, "already_marked", "This course has been marked.")
    return world.places.pop(place_id)


@tool("Record the mark of an enrolment that has none.", "为还没有分数的选课登记分数。", writes=True,
      errors=("not_found", "already_marked"))
def record_mark(world: School, place_id: PlaceId, mark: Mark) -> PlaceRow:
    """Set a first mark."""
    place = find(world.places, place_id, "enrolment")
    check(place.mark is None, "already_marked", "It has a mark; correct that one.")
    world.places[place_id] = replace(place, mark=mark)
    return world.places[place_id]


@tool("Correct a mark, for a cause.", "以某个原因更正分数。", writes=True,
      errors=("not_found", "not_marked"))
def correct_mark(world: School, place_id: PlaceId, mark: Mark, cause: Cause
                 ) -> dict[str, str | int]:
    """Replace a mark and say what it was."""
    place = find(world.places, place_id, "enrolment")
    check(place.mark is not None, "not_marked", "It has no mark yet.")
    world.places[place_id] = replace(place, mark=mark)
    return {"course": place.course, "before": place.mark or 0, "after": mark, "cause": cause}


@tool("Move a course to another room.", "把课程换到另一间教室。", writes=True,
      errors=("not_found", "too_small", "room_taken"))
def move_course(world: School, course_id: CourseId, room_id: RoomId) -> CourseRow:
    """Change where a lesson takes place."""
    course, room = find(world.courses, course_id, "course"), find(world.rooms, room_id, "room")
    check(room.seats >= course.seats, "too_small", f"{room.room} has only {room.seats} seats.")
    taken = {(one.room_id, one.weekday, one.period) for one in world.courses.values()}
    free = (room_id, course.weekday, course.period) not in taken
    check(free, "room_taken", f"{room.room} is taken at that time.")
    world.courses[course_id] = replace(course, room_id=room_id)
    return world.courses[course_id]


# --- what users want -----------------------------------------------------------------------------


def _student(world: School, rng: Random) -> StudentRow:
    return rng.choice(list(world.students.values()))


def _place(world: School, rng: Random, marked: bool) -> PlaceRow | None:
    found = [one for one in world.places.values() if (one.mark is not None) == marked]
    return rng.choice(found) if found else None


def _on(world: School, place: PlaceRow, call: Call, **more: Fact | str | int) -> Goal:
    form = world.students[place.student_id].form
    return Goal((call,), told(student=place.student, course=place.course, **more), told(form=form))


def _signing(world: School, rng: Random, problem: str, honours: bool = False
             ) -> tuple[StudentRow, CourseRow] | None:
    student = _student(world, rng)
    found = [one for one in world.courses.values() if (one.level == "honours") == honours
             and _problem(world, student.id, one) == problem]
    return (student, rng.choice(found)) if found else None


def _enrolment(pair: tuple[StudentRow, CourseRow] | None) -> Goal | None:
    if pair is None:
        return None
    student, course = pair
    call = Call("enrol", {"student_id": student.id, "course_id": course.id})
    return Goal((call,), told(student=student.student, course=course.course),
                told(form=student.form))


JOIN_EN = ("{student} wants to take {course}.", "Please sign {student} up for {course}.",
           "Is there a seat in {course} for {student}? If so, take it.")
JOIN_ZH = ("{student}想选{course}。", "请给{student}报名{course}这门课。")


@intent(
    en=JOIN_EN, zh=JOIN_ZH,
    reply_en=("{student} is in {course} now.",), reply_zh=("{student}已选上{course}。",),
)
def sign_up(world: School, rng: Random) -> Goal | None:
    """Enrol a student."""
    return _enrolment(_signing(world, rng, ""))


@intent(
    en=("{student} would rather do {other} than {course}, please switch.",
        "Swap {course} for {other} in the plan of {student}.",
        "{student}: out of {course}, into {other}, if you can."),
    zh=("{student}想把{course}换成{other}。", "请把{student}的{course}改选为{other}。"),
    reply_en=("{student} has {other} instead of {course}.",),
    reply_zh=("{student}的{course}已换成{other}。",),
)
def switch(world: School, rng: Random) -> Goal | None:
    """Change one course for another."""
    pair = _signing(world, rng, "")
    mine = [one for one in world.places.values() if pair and one.student_id == pair[0].id]
    if pair is None or not mine:
        return None
    place = rng.choice(mine)
    call = Call("switch_course", {"place_id": place.id, "course_id": pair[1].id})
    return _on(world, place, call, other=Fact("course", pair[1].course))


@intent(
    en=("{student} drops {course}.", "Take {student} off the {course} list.",
        "I'd like to leave {course}. {student}."),
    zh=("{student}要退{course}。", "把{student}从{course}里退掉。"),
    reply_en=("{student} is no longer in {course}.",), reply_zh=("{student}已退出{course}。",),
)
def leave(world: School, rng: Random) -> Goal | None:
    """Withdraw from a course."""
    place = _place(world, rng, marked=False)
    return place and _on(world, place, Call("withdraw", {"place_id": place.id}))


@intent(
    en=("{student} got {mark} in {course}.", "Enter a {mark} for {student}, course {course}.",
        "Mark for {student} in {course}[: {mark}]."),
    zh=("{student}的{course}得了{mark}分。", "登记一下{student}的{course}成绩[：{mark}分]。"),
    reply_en=("Recorded: {mark} for {student} in {course}.",),
    reply_zh=("已登记：{student}的{course}为 {mark} 分。",),
)
def mark_work(world: School, rng: Random) -> Goal | None:
    """Record a mark."""
    place, mark = _place(world, rng, marked=False), rng.randint(30, 100)
    if place is None:
        return None
    return _on(world, place, Call("record_mark", {"place_id": place.id, "mark": mark}), mark=mark)


@intent(
    en=("{student}'s mark in {course} should be {mark}: {cause}.",
        "Please fix {course} for {student}. New mark {mark}[, because {cause}].",
        "Correction for {student} in {course}[: {mark} points][; {cause}]."),
    zh=("{student}的{course}分数应为{mark}，因为{cause}。",
        "更正{student}的{course}成绩[，改为{mark}分][，原因：{cause}]。"),
    reply_en=("The mark of {student} in {course} went from {result.before} to {mark}.",),
    reply_zh=("{student}的{course}分数由 {result.before} 改为 {mark}。",),
)
def fix_mark(world: School, rng: Random) -> Goal | None:
    """Correct a mark."""
    place, mark, cause = (_place(world, rng, marked=True), rng.randint(30, 100),
                          rng.choice(list(CAUSES)))
    if place is None or place.mark == mark:
        return None
    call = Call("correct_mark", {"place_id": place.id, "mark": mark, "cause": cause})
    return _on(world, place, call, mark=mark, cause=Fact("cause", cause, CAUSES[cause]))


MOVE_EN = ("{course} should meet in {room} from now on.", "Move {course} to {room}.",
           "Can {course} have {room}? Please change the plan.")
MOVE_ZH = ("{course}以后在{room}上课。", "把{course}换到{room}。")


@intent(
    en=MOVE_EN, zh=MOVE_ZH,
    reply_en=("{course} takes place in {room}, {result.weekday}.",),
    reply_zh=("{course}改到{room}，时间是{result.weekday}。",),
)
def relocate(world: School, rng: Random) -> Goal | None:
    """Give a course another room."""
    course = rng.choice(list(world.courses.values()))
    busy = {one.room_id for one in world.courses.values() if one.weekday == course.weekday}
    rooms = [one for one in world.rooms.values() if one.seats >= course.seats
             and one.id not in busy]
    return _moving(course, rng.choice(rooms)) if rooms else None


def _moving(course: CourseRow, room: RoomRow) -> Goal:
    call = Call("move_course", {"course_id": course.id, "room_id": room.id})
    return Goal((call,), told(course=course.course, room=room.room))


@intent(
    en=("What is the average of {student}, and over how many courses?",
        "How is {student} doing overall? Average and number of marked courses, please.",
        "Average mark for {student}? And from how many courses?"),
    zh=("{student}的平均分是多少，有几门课？", "{student}总体成绩怎么样？请给平均分和课程数。"),
    reply_en=("{student} has an average of {result.average} over {result.courses} courses.",),
    reply_zh=("{student}的平均分是 {result.average}，共 {result.courses} 门课。",),
)
def ask_average(world: School, rng: Random) -> Goal | None:
    """Learn an average."""
    place = _place(world, rng, marked=True)
    if place is None:
        return None
    form = world.students[place.student_id].form
    return Goal((Call("average_mark", {"student_id": place.student_id}),),
                told(student=place.student), told(form=form))


@intent(
    en=("Which courses does {student} take?", "What's on the plan of {student}?",
        "I need the course list of {student}."),
    zh=("{student}选了哪些课？", "查一下{student}的课程安排。"),
    reply_en=("{student} takes {count}: {rows.course}.",),
    reply_zh=("{student}选了{count}门课：{rows.course}。",),
)
def ask_plan(world: School, rng: Random) -> Goal:
    """Learn what a student takes."""
    place = rng.choice(list(world.places.values()))
    call = Call("list_plan", {"student_id": place.student_id})
    form = world.students[place.student_id].form
    return Goal((call,), told(student=place.student), told(form=form))


@intent(
    en=("Who is in {course}?", "Give me the class list of {course}.",
        "How many sit in {course}, and who?"),
    zh=("{course}有哪些学生？", "把{course}的名单给我。"),
    reply_en=("{course} has {count}: {rows.student}.",),
    reply_zh=("{course}有{count}人：{rows.student}。",),
)
def ask_class(world: School, rng: Random) -> Goal | None:
    """Learn who takes a course."""
    place = rng.choice(list(world.places.values()))
    return Goal((Call("list_class", {"course_id": place.course_id}),), told(course=place.course))


@intent(
    en=JOIN_EN, zh=JOIN_ZH,
    reply_en=("{course} has no free seat for {student}.",),
    reply_zh=("{course}已满，{student}无法加入。",), kind="fails",
)
def sign_up_when_full(world: School, rng: Random) -> Goal | None:
    """Enrol in a course that has no seat."""
    return _enrolment(_signing(world, rng, "course_full"))


@intent(
    en=MOVE_EN, zh=MOVE_ZH,
    reply_en=("{room} is too small for {course}.",), reply_zh=("{room}太小，容不下{course}。",),
    kind="fails",
)
def relocate_too_small(world: School, rng: Random) -> Goal | None:
    """Move a course where it does not fit."""
    course = rng.choice(list(world.courses.values()))
    rooms = [one for one in world.rooms.values() if one.seats < course.seats]
    return _moving(course, rng.choice(rooms)) if rooms else None


@intent(
    en=JOIN_EN, zh=JOIN_ZH,
    reply_en=("{course} is an honours course: the head has to approve {student} first.",),
    reply_zh=("{course}是荣誉课程，需要校长先批准{student}。",), kind="policy",
)
def sign_up_for_honours(world: School, rng: Random) -> Goal | None:
    """Ask for a course that the office may not give."""
    pair = _signing(world, rng, "", honours=True)
    if pair is None:
        return None
    return Goal((Call("find_courses", {"course": pair[1].course}),),
                told(student=pair[0].student, course=pair[1].course))


DOMAIN = domain_of(
    sys.modules[__name__], "the office of a school with small groups", "小班制学校的教务处", seed,
    policies_en=("Never enrol anybody in an honours course; the head of school does that.",),
    policies_zh=("不得为任何人选荣誉课程（honours），由校长办理。",),
)
