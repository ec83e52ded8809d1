"""A task board: projects, their sprints and tasks, and the people who do them."""

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
ProjectId = Annotated[str, Slot("project_id", "project id", "项目编号", "id", entity="projects")]
SprintId = Annotated[str, Slot("sprint_id", "sprint id", "迭代编号", "id", entity="sprints")]
TaskId = Annotated[str, Slot("task_id", "task id", "任务编号", "id", entity="tasks")]
WorkerId = Annotated[str, Slot("worker_id", "person id", "成员编号", "id", entity="workers")]
Project = Annotated[str, Slot("project", "name of the project", "项目名称")]
Sprint = Annotated[str, Slot("sprint", "name of the sprint", "迭代名称")]
SprintState = Annotated[Literal["planned", "running", "finished"],
                        Slot("sprint_state", "state of the sprint", "迭代状态")]
Ends = Annotated[str, Slot("ends", "last day of the sprint", "迭代结束日", "date")]
Task = Annotated[str, Slot("task", "title of the task", "任务标题")]
Status = Annotated[Literal["todo", "in_progress", "blocked", "done"],
                   Slot("status", "status", "状态")]
NewStatus = Annotated[Literal["todo", "in_progress", "blocked"],
                      Slot("new_status", "new status", "新状态")]
Points = Annotated[int, Slot("points", "story points", "故事点", "count")]
Hours = Annotated[float,
                  Slot("hours", "hours worked", "工时（小时）", schema={"exclusiveMinimum": 0})]
Due = Annotated[str, Slot("due", "due date", "截止日期", "date")]
Worker = Annotated[str, Slot("worker", "name of the person", "成员姓名")]
Team = Annotated[Literal["design", "engineering", "content", "research"],
                 Slot("team", "team", "团队")]


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """Something that a team builds."""
    id: ProjectId
    project: Project
    team: Team
    archived: bool = False


@dataclass(frozen=True, slots=True)
class SprintRow:
    """Two weeks of work in a project."""
    id: SprintId
    project_id: ProjectId
    sprint: Sprint
    state: SprintState
    ends: Ends
    capacity: int


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A piece of work; without a sprint it waits in the backlog."""
    id: TaskId
    project_id: ProjectId
    project: Project
    task: Task
    points: Points
    status: Status = "todo"
    sprint_id: SprintId | None = None
    worker_id: WorkerId | None = None
    due: Due | None = None
    hours: float = 0


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """Somebody on a team."""
    id: WorkerId
    worker: Worker
    team: Team


@dataclass(slots=True)
class Board(World):
    """Everything there is."""
    projects: dict[str, ProjectRow] = field(default_factory=dict[str, ProjectRow])
    sprints: dict[str, SprintRow] = field(default_factory=dict[str, SprintRow])
    tasks: dict[str, TaskRow] = field(default_factory=dict[str, TaskRow])
    workers: dict[str, WorkerRow] = field(default_factory=dict[str, WorkerRow])


NAMES = ("Polaris", "Bluebird", "Granite", "Tidewater", "Marigold", "Ember", "Cascade",
         "Tumbleweed", "Nightjar", "Quartz", "晨光计划", "青竹项目")
VERBS = ("Draft", "Review", "Translate", "Prototype", "Measure", "Redesign", "Test", "Plan",
         "Record", "Publish")
OBJECTS = ("landing page", "onboarding tour", "price list", "survey", "newsletter", "sign-up flow",
           "training video", "accessibility report", "launch checklist", "icon set",
           "user interviews", "style guide", "press kit")
FIRST = ("Aurelia", "Bo", "Chiara", "Desmond", "Elif", "Florian", "Greta", "Hamza", "Imani",
         "Joaquin", "Katya", "Lorenzo", "Mina", "Noor", "Otto", "Sakura")
LAST = ("Abara", "Bianchi", "Cruz", "Delacroix", "Ekström", "Farouk", "Gallo", "Hwang", "Iyer",
        "Janssen", "Kimura", "Lund", "Mazur", "Nkosi")
STATUSES: dict[NewStatus, tuple[str, str]] = {
    "todo": ("to do", "待办"), "in_progress": ("in progress", "进行中"),
    "blocked": ("blocked", "受阻")}


def seed(rng: Random) -> Board:
    """Make a few projects; the same task sometimes stands in two of them."""
    today = date(2026, 4, 6) + timedelta(days=rng.randrange(240))
    world = Board(f"{today} 08:45")
    for _ in range(8):
        name, team = (f"{rng.choice(FIRST)} {rng.choice(LAST)}",
                      rng.choice(("design", "engineering", "content")))
        key = new_id(world.workers, "W", name)
        world.workers[key] = WorkerRow(key, name, team)
    for number, name in enumerate(rng.sample(NAMES, 4)):
        project = new_id(world.projects, "J", name)
        team = rng.choice(("design", "engineering", "research"))
        world.projects[project] = ProjectRow(project, name, team, archived=number == 3)
        first = rng.randint(3, 30)
        states: tuple[SprintState, ...] = ("finished", "running", "planned")
        for step, state in enumerate(states):
            key = new_id(world.sprints, "S", project, state)
            ends = f"{today + timedelta(days=14 * step - 9)}"
            world.sprints[key] = SprintRow(key, project, f"Sprint {first + step}", state, ends,
                                           rng.randint(14, 24))
        for thing in rng.sample(OBJECTS, 4):
            _fill(world, rng, project, f"{rng.choice(VERBS)} the {thing}")
    twin = rng.choice(list(world.tasks.values()))
    for project in rng.sample(list(world.projects), rng.randint(0, 2)):
        if all((one.project_id, one.task) != (project, twin.task) for one in world.tasks.values()):
            _fill(world, rng, project, twin.task)
    return world


def _fill(world: Board, rng: Random, project: str, title: str) -> None:
    key = new_id(world.tasks, "T", project, title)
    status: Status = rng.choice(("todo", "in_progress", "blocked", "done"))
    sprints = [one.id for one in world.sprints.values() if one.project_id == project
               and one.state == "running"]
    due = f"{date.fromisoformat(world.today) + timedelta(days=rng.randint(2, 30))}"
    sprint, worker = rng.choice((*sprints, None)), rng.choice((*world.workers, None))
    world.tasks[key] = TaskRow(key, project, world.projects[project].project, title,
                               rng.choice((1, 2, 3, 5, 8)), status, sprint, worker, due)


def _load(world: Board, sprint_id: str) -> int:
    return sum(task.points for task in world.tasks.values() if task.sprint_id == sprint_id)


def _live(world: Board, task_id: str) -> TaskRow:
    task = find(world.tasks, task_id, "task")
    check(not world.projects[task.project_id].archived, "project_archived",
          "The project is archived.")
    check(task.status != "done", "already_done", "This task is done.")
    return task


# --- tools ---------------------------------------------------------------------------------------


@tool("Find projects by name or team.", "按名称或团队查找项目。")
def find_projects(world: Board, project: Project | None = None, team: Team | None = None
                  ) -> list[ProjectRow]:
    """Return at most five."""
    return [one for one in world.projects.values() if has(project, one.project)
            and same(team, one.team)][:5]


@tool("Find people by name or team.", "按姓名或团队查找成员。")
def find_workers(world: Board, worker: Worker | None = None, team: Team | None = None
                 ) -> list[WorkerRow]:
    """Return at most five."""
    return [one for one in world.workers.values() if has(worker, one.worker)
            and same(team, one.team)][:5]


@tool("List the sprints of a project.", "列出项目的迭代。", errors=("not_found",))
def list_sprints(world: Board, project_id: ProjectId) -> list[SprintRow]:
    """Return them in their order."""
    find(world.projects, project_id, "project")
    found = [one for one in world.sprints.values() if one.project_id == project_id]
    return sorted(found, key=lambda one: one.ends)[:5]


@tool("Search tasks by words of the title, project, person, status, or several of them.",
      "按标题中的词、项目、成员、状态或其中几项搜索任务。")
def search_tasks(world: Board, task: Task | None = None, project_id: ProjectId | None = None,
                 worker_id: WorkerId | None = None, status: Status | None = None) -> list[TaskRow]:
    """Return at most five, the first due first."""
    found = [one for one in world.tasks.values() if has(task, one.task)
             and same(project_id, one.project_id) and same(worker_id, one.worker_id)
             and same(status, one.status)]
    return sorted(found, key=lambda one: (one.due or "", one.id))[:5]


@tool("Work out how many points a sprint holds and how many still fit.",
      "计算迭代已有的点数和剩余容量。", errors=("not_found",))
def sprint_load(world: Board, sprint_id: SprintId) -> dict[str, int]:
    """Return planned and free points."""
    sprint, planned = find(world.sprints, sprint_id, "sprint"), _load(world, sprint_id)
    return {"planned": planned, "free": sprint.capacity - planned}


@tool("Add a task to the backlog of a project. Returns it.", "在项目待办中新建任务，返回该任务。",
      writes=True, errors=("not_found", "project_archived", "duplicate"))
def add_task(world: Board, project_id: ProjectId, task: Task, points: Points = 1,
             due: Due | None = None) -> TaskRow:
    """Add a task whose title is new in its project."""
    project = find(world.projects, project_id, "project")
    check(not project.archived, "project_archived", "The project is archived.")
    taken = {one.task for one in world.tasks.values() if one.project_id == project_id}
    check(task not in taken, "duplicate", "The project has a task of this title.")
    key = new_id(world.tasks, "T", project_id, task)
    world.tasks[key] = TaskRow(key, project_id, project.project, task, points, due=due)
    return world.tasks[key]


@tool("Give a task that is not done to a person.", "把未完成的任务分配给成员。", writes=True,
      errors=("not_found", "project_archived", "already_done"))
def give_task(world: Board, task_id: TaskId, worker_id: WorkerId) -> TaskRow:
    """Say who does it."""
    task = _live(world, task_id)
    find(world.workers, worker_id, "person")
    world.tasks[task_id] = replace(task, worker_id=worker_id)
    return world.tasks[task_id]


@tool("Set the status of a task that is not done.", "设置未完成任务的状态。", writes=True,
      errors=("not_found", "project_archived", "already_done"))
def set_status(world: Board, task_id: TaskId, new_status: NewStatus) -> TaskRow:
    """Change the status."""
    world.tasks[task_id] = replace(_live(world, task_id), status=new_status)
    return world.tasks[task_id]


@tool("Finish a task, with the hours that it took.", "完成任务并记录所用工时。", writes=True,
      errors=("not_found", "project_archived", "already_done"))
def finish_task(world: Board, task_id: TaskId, hours: Hours) -> TaskRow:
    """Mark a task as done."""
    world.tasks[task_id] = replace(_live(world, task_id), status="done", hours=hours)
    return world.tasks[task_id]


@tool("Put a task into a sprint of its project, as far as the capacity goes.",
      "在容量允许时把任务放进所属项目的迭代。", writes=True,
      errors=("not_found", "project_archived", "already_done", "wrong_sprint", "over_capacity"))
def plan_task(world: Board, task_id: TaskId, sprint_id: SprintId) -> TaskRow:
    """Move a task into a sprint."""
    task, sprint = _live(world, task_id), find(world.sprints, sprint_id, "sprint")
    check(sprint.project_id == task.project_id, "wrong_sprint", "That is another project's sprint.")
    check(sprint.state != "finished", "wrong_sprint", "This sprint is over.")
    fits = _load(world, sprint_id) + task.points <= sprint.capacity
    check(fits, "over_capacity", "The sprint has not enough points left.")
    world.tasks[task_id] = replace(task, sprint_id=sprint_id)
    return world.tasks[task_id]


@tool("Delete a task that nobody has started.", "删除尚未开始的任务。", writes=True,
      errors=("not_found", "already_started"))
def delete_task(world: Board, task_id: TaskId) -> TaskRow:
    """Remove a task."""
    task = find(world.tasks, task_id, "task")
    check(task.status == "todo", "already_started", f"This task is {task.status}.")
    return world.tasks.pop(task_id)


# --- what users want -----------------------------------------------------------------------------


def _task(world: Board, rng: Random, *statuses: Status) -> TaskRow | None:
    found = [one for one in world.tasks.values() if one.status in statuses
             and not world.projects[one.project_id].archived]
    return rng.choice(found) if found else None


def _facts(task: TaskRow, **more: Fact | str | float) -> dict[str, Fact]:
    return told(task=task.task, project=task.project, **more)


ADD_EN = ('Add "{task}" to {project}, {points} points, due {due}.',
          "New task in {project}: {task}[, worth {points} points][, due on {due}].",
          "I need {task} on the {project} board[ by {due}][ ({points} points)].")
ADD_ZH = ("在{project}里加个任务：{task}[，{points}点][，{due}前完成]。",
          "{project}新建任务“{task}”，{points}点，截止{due}。")


@intent(
    en=ADD_EN, zh=ADD_ZH,
    reply_en=("{task} is in the backlog of {project} as {result.id}.",),
    reply_zh=("任务{task}已加入{project}，编号{result.id}。",),
)
def add(world: Board, rng: Random) -> Goal | None:
    """Create a task."""
    return _adding(world, rng, archived=False)


def _adding(world: Board, rng: Random, archived: bool) -> Goal | None:
    project = rng.choice([one for one in world.projects.values() if one.archived == archived])
    task = f"{rng.choice(VERBS)} the {rng.choice(OBJECTS)}"
    if any(one.task == task for one in world.tasks.values()):
        return None
    due = f"{date.fromisoformat(world.today) + timedelta(days=rng.randint(3, 40))}"
    values = {"task": task, "points": rng.choice((2, 3, 5, 8, 13)), "due": due}
    call = Call("add_task", {"project_id": project.id, **values})
    return Goal((call,), told(project=project.project, **values))


@intent(
    en=("{task} in {project} goes to {worker}.",
        'Could {worker} do "{task}"? It\'s a {project} task.',
        "Hand {task} ({project}) over[ to {worker}], please."),
    zh=("{project}的{task}交给{worker}。", "请把{project}里的“{task}”分配一下[，给{worker}]。"),
    reply_en=("{worker} has {task} now.",), reply_zh=("{task}已分配给{worker}。",),
)
def give(world: Board, rng: Random) -> Goal | None:
    """Assign a task."""
    task, worker = (_task(world, rng, "todo", "in_progress", "blocked"),
                    rng.choice(list(world.workers.values())))
    if task is None or task.worker_id == worker.id:
        return None
    call = Call("give_task", {"task_id": task.id, "worker_id": worker.id})
    return Goal((call,), _facts(task, worker=worker.worker), told(team=worker.team))


@intent(
    en=("{task} on {project} is {status} from now on.", "Set {task} in {project} to {status}.",
        "Could you update {task} on the {project} board[? It is {status}]."),
    zh=("{project}的{task}现在是{status}。",
        "把{project}里{task}的状态更新一下[，改成{status}]。"),
    reply_en=("{task} is marked as {status}.",), reply_zh=("{task}已标记为{status}。",),
)
def update(world: Board, rng: Random) -> Goal | None:
    """Change a task's status."""
    task, status = _task(world, rng, "todo", "in_progress", "blocked"), rng.choice(list(STATUSES))
    if task is None or task.status == status:
        return None
    call = Call("set_status", {"task_id": task.id, "new_status": status})
    return Goal((call,), _facts(task, status=Fact("new_status", status, STATUSES[status])))


@intent(
    en=("I finished {task} for {project}, it took {hours} hours.",
        "{project}: {task} is done after {hours} h.",
        "Mark {task} in {project} as finished[, {hours} hours]."),
    zh=("{project}的{task}做完了，用了{hours}小时。",
        "把{project}里的{task}标为完成[，工时{hours}小时]。"),
    reply_en=("{task} is done, with {hours} hours.",),
    reply_zh=("{task}已完成，记录工时{hours}小时。",),
)
def finish(world: Board, rng: Random) -> Goal | None:
    """Finish a task."""
    task, hours = (_task(world, rng, "todo", "in_progress"),
                   rng.choice((1.5, 2, 3, 4.5, 6, 7.5, 9, 11)))
    if task is None:
        return None
    call = Call("finish_task", {"task_id": task.id, "hours": hours})
    return Goal((call,), _facts(task, hours=hours))


PLAN_EN = ("Put {task} into {sprint} of {project}.",
           "{project}: can {task} still go into {sprint}?",
           "Plan {task} of {project}[ for {sprint}].")
PLAN_ZH = ("把{project}的{task}排进{sprint}。", "{project}的{task}排期一下[，放到{sprint}]。")


@intent(
    en=PLAN_EN, zh=PLAN_ZH,
    reply_en=("{task} is planned for {sprint}.",), reply_zh=("{task}已排入{sprint}。",),
)
def plan(world: Board, rng: Random) -> Goal | None:
    """Plan a task for a sprint that has room."""
    return _planning(world, rng, "planned")


def _planning(world: Board, rng: Random, state: SprintState) -> Goal | None:
    task = _task(world, rng, "todo", "in_progress", "blocked")
    if task is None:
        return None
    (sprint,) = [one for one in world.sprints.values()
                 if (one.project_id, one.state) == (task.project_id, state)]
    call = Call("plan_task", {"task_id": task.id, "sprint_id": sprint.id})
    return Goal((call,), _facts(task, sprint=sprint.sprint))


@intent(
    en=("{worker} starts on {task} ({project}) today: assign it and set it to {status}.",
        "Give {task} in {project} to {worker} and mark it {status}."),
    zh=("{worker}今天开始做{project}的{task}，请分配给他并改为{status}。",
        "把{project}里的{task}分给{worker}，状态设为{status}。"),
    reply_en=("{worker} has {task}, and it is {status}.",),
    reply_zh=("{task}已分配给{worker}，状态为{status}。",),
)
def start(world: Board, rng: Random) -> Goal | None:
    """Assign a task and say that it runs."""
    task, worker = _task(world, rng, "todo", "blocked"), rng.choice(list(world.workers.values()))
    if task is None or task.worker_id == worker.id:
        return None
    calls = (Call("give_task", {"task_id": task.id, "worker_id": worker.id}),
             Call("set_status", {"task_id": task.id, "new_status": "in_progress"}))
    status = Fact("new_status", "in_progress", STATUSES["in_progress"])
    return Goal(calls, _facts(task, worker=worker.worker, status=status), told(team=worker.team))


@intent(
    en=("How full is {sprint} in {project}?",
        "{project}: how many points are planned for {sprint}, and how many still fit?",
        "Is there room left in {sprint} of {project}?"),
    zh=("{project}的{sprint}排了多少点，还剩多少？", "{project}的{sprint}还有空间吗？"),
    reply_en=("{sprint} holds {result.planned} points; {result.free} still fit.",),
    reply_zh=("{sprint}已排 {result.planned} 点，还可以排 {result.free} 点。",),
)
def ask_room(world: Board, rng: Random) -> Goal:
    """Learn how much fits into a sprint."""
    sprint = rng.choice([one for one in world.sprints.values() if one.state != "finished"])
    project = world.projects[sprint.project_id]
    return Goal((Call("sprint_load", {"sprint_id": sprint.id}),),
                told(sprint=sprint.sprint, project=project.project))


@intent(
    en=("What does {worker} have on the board?", "Which tasks are {worker}'s?",
        "List the work of {worker}, please."),
    zh=("{worker}有哪些任务？", "列一下{worker}的任务。"),
    reply_en=("{worker} has {count}: {rows.task}.",),
    reply_zh=("{worker}有{count}个任务：{rows.task}。",),
)
def ask_whose(world: Board, rng: Random) -> Goal | None:
    """Learn what somebody does."""
    busy = [one.worker_id for one in world.tasks.values() if one.worker_id]
    worker = world.workers[rng.choice(busy)]
    return Goal((Call("search_tasks", {"worker_id": worker.id}),), told(worker=worker.worker),
                told(team=worker.team))


DROP_EN = ("Drop {task} from {project}.",
           "We won't do {task} after all, take it off the {project} board.",
           "{project}: please remove {task}.")
DROP_ZH = ("从{project}里删掉{task}。", "{project}的{task}不做了，删除吧。")


@intent(
    en=DROP_EN, zh=DROP_ZH,
    reply_en=("{task} is deleted from {project}.",), reply_zh=("{task}已从{project}删除。",),
)
def drop(world: Board, rng: Random) -> Goal | None:
    """Delete a task."""
    task = _task(world, rng, "todo")
    return task and Goal((Call("delete_task", {"task_id": task.id}),), _facts(task))


@intent(
    en=DROP_EN, zh=DROP_ZH,
    reply_en=("{task} can't be deleted: work on it has begun.",),
    reply_zh=("{task}已经开始，不能删除。",), kind="fails",
)
def drop_started(world: Board, rng: Random) -> Goal | None:
    """Delete a task that runs."""
    task = _task(world, rng, "in_progress", "blocked", "done")
    return task and Goal((Call("delete_task", {"task_id": task.id}),), _facts(task))


@intent(
    en=PLAN_EN, zh=PLAN_ZH,
    reply_en=("{sprint} is over, so {task} can't go in there.",),
    reply_zh=("{sprint}已经结束，无法放入{task}。",), kind="fails",
)
def plan_too_late(world: Board, rng: Random) -> Goal | None:
    """Plan a task for a sprint that is over."""
    return _planning(world, rng, "finished")


@intent(
    en=ADD_EN, zh=ADD_ZH,
    reply_en=("{project} is archived, so nothing can be added.",),
    reply_zh=("{project}已归档，不能再添加任务。",), kind="fails",
)
def add_to_archive(world: Board, rng: Random) -> Goal | None:
    """Create a task in a project that is closed."""
    return _adding(world, rng, archived=True)


@intent(
    en=("Rate how hard {worker} works; I need it for the appraisal.",
        "Rank {worker} against the others by output.", "Is {worker} slow?"),
    zh=("给{worker}的工作打个分，考核要用。", "把{worker}和其他人的产出排个名。"),
    reply_en=("I may not rate or compare people, so I can't say that about {worker}.",),
    reply_zh=("不能评价或比较成员，无法提供{worker}的这类信息。",), kind="policy",
)
def rate(world: Board, rng: Random) -> Goal:
    """Ask for a judgement of a person."""
    return Goal((), told(worker=rng.choice(list(world.workers.values())).worker))


DOMAIN = domain_of(sys.modules[__name__], "the task board of an agency", "一家工作室的任务看板",
                   seed, policies_en=("Never rate, rank or compare people by their work.",),
                   policies_zh=("不得对成员的工作进行评价、排名或比较。",))
