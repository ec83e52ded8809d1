"""A code repository: issues, branches, pull requests and the people who work on them."""

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
IssueId = Annotated[str, Slot("issue_id", "issue id", "议题编号", "id", entity="issues")]
BranchId = Annotated[str, Slot("branch_id", "branch id", "分支编号", "id", entity="branches")]
PullId = Annotated[str, Slot("pull_id", "pull request id", "合并请求编号", "id", entity="pulls")]
PersonId = Annotated[str, Slot("person_id", "person id", "成员编号", "id", entity="people")]
Summary = Annotated[str, Slot("summary", "summary of the issue", "议题摘要")]
Severity = Annotated[Literal["low", "normal", "high"], Slot("severity", "severity", "严重程度")]
IssueState = Annotated[Literal["open", "closed"],
                       Slot("issue_state", "state of the issue", "议题状态")]
Reason = Annotated[Literal["done", "duplicate", "not_planned"],
                   Slot("reason", "reason", "关闭原因")]
Opened = Annotated[str, Slot("opened", "day when it was opened", "提出日期", "date")]
Labels = Annotated[list[str], Slot("labels", "labels", "标签")]
BranchName = Annotated[str, Slot("branch", "name of the branch", "分支名")]
Title = Annotated[str, Slot("title", "title of the pull request", "合并请求标题")]
Target = Annotated[Literal["main", "release"], Slot("target", "branch to merge into", "目标分支")]
PullState = Annotated[Literal["open", "merged"],
                      Slot("pull_state", "state of the pull request", "合并请求状态")]
Checks = Annotated[Literal["passing", "failing"],
                   Slot("checks", "result of the checks", "检查结果")]
Method = Annotated[Literal["merge", "squash", "rebase"], Slot("method", "way to merge", "合并方式")]
Name = Annotated[str, Slot("name", "name of the person", "成员姓名")]
Handle = Annotated[str, Slot("handle", "user name", "用户名")]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who writes code."""
    id: PersonId
    name: Name
    handle: Handle


@dataclass(frozen=True, slots=True)
class Issue:
    """Something to be done."""
    id: IssueId
    summary: Summary
    severity: Severity
    opened: Opened
    state: IssueState = "open"
    person_id: PersonId | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of work."""
    id: BranchId
    branch: BranchName
    ahead: int
    behind: int


@dataclass(frozen=True, slots=True)
class Pull:
    """A wish to merge a branch."""
    id: PullId
    title: Title
    branch_id: BranchId
    person_id: PersonId
    target: Target
    checks: Checks
    state: PullState = "open"


@dataclass(slots=True)
class Repository(World):
    """Everything there is."""
    people: dict[str, Person] = field(default_factory=dict[str, Person])
    issues: dict[str, Issue] = field(default_factory=dict[str, Issue])
    branches: dict[str, Branch] = field(default_factory=dict[str, Branch])
    pulls: dict[str, Pull] = field(default_factory=dict[str, Pull])


FIRST = ("Anneke", "Bashir", "Cosima", "Dmitri", "Eun-ji", "Farid", "Gwen", "Hiro", "Ilse", "Jonas",
         "Kamala", "Lior", "Maren", "Nils", "Odette", "Pavel")
LAST = ("Achterberg", "Baptiste", "Cho", "Dragan", "Eze", "Falk", "Gupta", "Horvat", "Ito",
        "Jensen", "Kruger", "Lopes", "Mbeki", "Nowak", "Park")
TROUBLES = ("Crash", "Memory leak", "Wrong total", "Blank page", "Slow response", "Missing icon",
            "Typo", "Timeout", "Flaky test", "Broken link")
PLACES = ("export dialog", "login form", "image cache", "date picker", "sync worker", "audit log",
          "search index", "settings page", "upload queue", "map view", "token parser",
          "invoice printer")
DEEDS = ("Rewrite", "Harden", "Simplify", "Speed up", "Document", "Split up", "Retire", "Localise")
PREFIXES = ("fix", "feature", "chore", "spike", "docs")
LABELS = ("ui", "backend", "security", "performance", "good-first-issue", "needs-design",
          "regression", "docs", "blocked", "customer")
SEVERITIES: dict[Severity, tuple[str, str]] = {
    "low": ("low", "低"), "normal": ("normal", "一般"), "high": ("high", "高")}
REASONS: dict[Reason, tuple[str, str]] = {"done": ("done", "已完成"),
                                          "duplicate": ("a duplicate", "重复"),
                                          "not_planned": ("not planned", "不打算做")}
METHODS: dict[Method, tuple[str, str]] = {"merge": ("a merge commit", "普通合并"),
                                          "squash": ("squash", "压缩合并"),
                                          "rebase": ("rebase", "变基")}


def seed(rng: Random) -> Repository:
    """Make a few weeks of work; an issue's summary sometimes occurs twice."""
    world = Repository(f"{date(2026, 3, 2) + timedelta(days=rng.randrange(250))} 09:30")
    for name in {f"{rng.choice(FIRST)} {rng.choice(LAST)}": None for _ in range(7)}:
        handle = (name[0] + name.split()[1] + str(rng.randint(1, 99))).lower()
        key = new_id(world.people, "U", handle)
        world.people[key] = Person(key, name, handle)
    people = [*world.people, None]
    places = rng.sample(PLACES, 9)
    summaries = [f"{rng.choice(TROUBLES)} in the {place}" for place in places]
    for number, summary in enumerate((*summaries, *rng.choices(summaries, k=rng.randint(0, 2)))):
        days = timedelta(days=3 * number + rng.randint(1, 3))
        opened = f"{date.fromisoformat(world.today) - days}"
        key = new_id(world.issues, "I", summary, opened)
        state: IssueState = rng.choice(("open", "open", "open", "closed"))
        severity = rng.choice(list(SEVERITIES))
        world.issues[key] = Issue(key, summary, severity, opened, state, rng.choice(people))
    for number, place in enumerate(places[:7]):
        branch = f"{rng.choice(PREFIXES)}/{place.replace(' ', '-')}-{rng.randint(2, 480)}"
        key = new_id(world.branches, "B", branch)
        world.branches[key] = Branch(key, branch, rng.randint(1, 24), rng.choice((0, 0, 3, 11)))
        if number < 5:
            _propose(world, rng, key, f"{rng.choice(DEEDS)} the {place}")
    return world


def _propose(world: Repository, rng: Random, branch_id: str, title: str) -> None:
    key = new_id(world.pulls, "P", title, branch_id)
    checks: Checks = rng.choice(("passing", "passing", "failing"))
    target: Target = rng.choice(("main", "main", "release"))
    person = rng.choice(list(world.people))
    world.pulls[key] = Pull(key, title, branch_id, person, target, checks)


# --- tools ---------------------------------------------------------------------------------------


@tool("Find people by name or user name.", "按姓名或用户名查找成员。")
def find_people(world: Repository, name: Name | None = None, handle: Handle | None = None
                ) -> list[Person]:
    """Return at most five."""
    return [person for person in world.people.values() if has(name, person.name)
            and same(handle, person.handle)][:5]


@tool("Find issues by words of the summary, state or assigned person; the latest first.",
      "按摘要中的词、状态或负责人查找议题，最新的在前。")
def find_issues(world: Repository, summary: Summary | None = None, state: IssueState | None = None,
                person_id: PersonId | None = None) -> list[Issue]:
    """Return at most five."""
    found = [issue for issue in world.issues.values() if has(summary, issue.summary)
             and same(state, issue.state) and same(person_id, issue.person_id)]
    return sorted(found, key=lambda issue: (issue.opened, issue.id), reverse=True)[:5]


@tool("Find branches by a part of their name.", "按名称的一部分查找分支。")
def find_branches(world: Repository, branch: BranchName) -> list[Branch]:
    """Return at most five."""
    return [one for one in world.branches.values() if has(branch, one.branch)][:5]


@tool("Find pull requests by words of the title, their branch, or their author.",
      "按标题中的词、分支或作者查找合并请求。")
def find_pulls(world: Repository, title: Title | None = None, branch_id: BranchId | None = None,
               person_id: PersonId | None = None) -> list[Pull]:
    """Return at most five."""
    return [pull for pull in world.pulls.values() if has(title, pull.title)
            and same(branch_id, pull.branch_id) and same(person_id, pull.person_id)][:5]


@tool("Compare a branch with main: commits ahead, commits behind, whether it merges cleanly.",
      "比较分支与 main：领先和落后的提交数，以及能否直接合并。", errors=("not_found",))
def compare_branch(world: Repository, branch_id: BranchId) -> dict[str, int | bool]:
    """Return the counts."""
    branch = find(world.branches, branch_id, "branch")
    return {"ahead": branch.ahead, "behind": branch.behind, "clean": branch.behind < 10}


@tool("Open an issue. Returns it.", "提出一个议题，返回该议题。", writes=True,
      errors=("duplicate",))
def open_issue(world: Repository, summary: Summary, severity: Severity = "normal") -> Issue:
    """Add an issue."""
    taken = {issue.summary for issue in world.issues.values() if issue.state == "open"}
    check(summary not in taken, "duplicate", "An open issue says the same.")
    key = new_id(world.issues, "I", summary, world.today)
    world.issues[key] = Issue(key, summary, severity, world.today)
    return world.issues[key]


@tool("Assign an open issue to a person.", "把未关闭的议题指派给成员。", writes=True,
      errors=("not_found", "already_closed"))
def assign_issue(world: Repository, issue_id: IssueId, person_id: PersonId) -> Issue:
    """Say who does it."""
    issue = _open_issue(world, issue_id)
    find(world.people, person_id, "person")
    world.issues[issue_id] = replace(issue, person_id=person_id)
    return world.issues[issue_id]


def _open_issue(world: Repository, issue_id: str) -> Issue:
    issue = find(world.issues, issue_id, "issue")
    check(issue.state == "open", "already_closed", "This issue is closed.")
    return issue


@tool("Add labels to an open issue; those that it has are kept.",
      "给未关闭的议题添加标签，保留原有标签。", writes=True, errors=("not_found", "already_closed"))
def label_issue(world: Repository, issue_id: IssueId, labels: Labels) -> Issue:
    """Add labels."""
    issue = _open_issue(world, issue_id)
    world.issues[issue_id] = replace(issue, labels=tuple(sorted({*issue.labels, *labels})))
    return world.issues[issue_id]


@tool("Close an issue for a reason.", "以某个原因关闭议题。", writes=True,
      errors=("not_found", "already_closed"))
def close_issue(world: Repository, issue_id: IssueId, reason: Reason = "done") -> Issue:
    """Close an issue; the reason becomes a label."""
    issue = _open_issue(world, issue_id)
    labels = tuple(sorted({*issue.labels, reason}))
    world.issues[issue_id] = replace(issue, state="closed", labels=labels)
    return world.issues[issue_id]


@tool("Open a pull request for a branch in somebody's name.", "以某成员的名义为分支发起合并请求。",
      writes=True, errors=("not_found", "already_proposed"))
def open_pull(world: Repository, branch_id: BranchId, person_id: PersonId, title: Title,
              target: Target = "main") -> Pull:
    """Propose a branch."""
    find(world.branches, branch_id, "branch")
    find(world.people, person_id, "person")
    taken = {pull.branch_id for pull in world.pulls.values() if pull.state == "open"}
    check(branch_id not in taken, "already_proposed", "The branch has an open pull request.")
    key = new_id(world.pulls, "P", title, branch_id)
    world.pulls[key] = Pull(key, title, branch_id, person_id, target, "passing")
    return world.pulls[key]


@tool("Merge a pull request whose checks pass.", "合并一个检查已通过的合并请求。", writes=True,
      errors=("not_found", "already_merged", "checks_failing"))
def merge_pull(world: Repository, pull_id: PullId, method: Method = "merge") -> Pull:
    """Merge a branch; only a merge commit keeps its single commits."""
    pull = find(world.pulls, pull_id, "pull request")
    check(pull.state == "open", "already_merged", "This pull request is merged.")
    check(pull.checks == "passing", "checks_failing", "The checks of this pull request fail.")
    world.pulls[pull_id] = replace(pull, state="merged")
    branch = world.branches[pull.branch_id]
    ahead = 0 if method == "merge" else branch.ahead
    world.branches[branch.id] = replace(branch, ahead=ahead)
    return world.pulls[pull_id]


@tool("Delete a branch that no open pull request needs.", "删除没有未合并请求的分支。", writes=True,
      errors=("not_found", "in_use"))
def delete_branch(world: Repository, branch_id: BranchId) -> Branch:
    """Remove a branch."""
    find(world.branches, branch_id, "branch")
    used = {pull.branch_id for pull in world.pulls.values() if pull.state == "open"}
    check(branch_id not in used, "in_use", "An open pull request needs this branch.")
    return world.branches.pop(branch_id)


# --- what users want -----------------------------------------------------------------------------


def _issue(world: Repository, rng: Random, state: IssueState) -> Issue | None:
    found = [issue for issue in world.issues.values() if issue.state == state]
    return rng.choice(found) if found else None


def _pull(world: Repository, rng: Random, checks: Checks, target: Target = "main") -> Pull | None:
    pulls = list(world.pulls.values())
    found = [pull for pull in pulls if (pull.checks, pull.target) == (checks, target)]
    return rng.choice(found) if found else None


def _about(issue: Issue, tool_name: str, arguments: dict[str, object], **facts: Fact | str) -> Goal:
    call = Call(tool_name, {"issue_id": issue.id, **arguments})
    return Goal((call,), told(summary=issue.summary, **facts), told(opened=issue.opened))


@intent(
    en=('Please file this: "{summary}". Severity {severity}.',
        "I found a bug. {summary}[, I'd call it {severity}].",
        "New issue for the tracker: {summary}[ ({severity} severity)]."),
    zh=("提个议题：{summary}[，严重程度{severity}]。",
        "我发现一个问题：{summary}，严重程度：{severity}。"),
    reply_en=("The issue is filed as {result.id}.", "Filed: {result.id}."),
    reply_zh=("议题已提交，编号{result.id}。",),
)
def report(world: Repository, rng: Random) -> Goal | None:
    """Open an issue."""
    summary = f"{rng.choice(TROUBLES)} in the {rng.choice(PLACES)}"
    severity = rng.choice(list(SEVERITIES))
    if any(issue.summary == summary for issue in world.issues.values()):
        return None
    call = Call("open_issue", {"summary": summary, "severity": severity})
    facts = told(summary=summary, severity=Fact("severity", severity, SEVERITIES[severity]))
    return Goal((call,), facts)


@intent(
    en=('{name} will take care of "{summary}".', "Can you give {summary} to {name}?",
        "Assign the issue about {summary}[ to {name}], please."),
    zh=("把“{summary}”交给{name}处理。", "{summary}这个议题请指派一下[，给{name}]。"),
    reply_en=("{name} has {summary} now.",), reply_zh=("{summary}已指派给{name}。",),
)
def hand_over(world: Repository, rng: Random) -> Goal | None:
    """Assign an issue."""
    issue, person = _issue(world, rng, "open"), rng.choice(list(world.people.values()))
    if issue is None or issue.person_id == person.id:
        return None
    return _about(issue, "assign_issue", {"person_id": person.id}, name=person.name)


@intent(
    en=("Tag {summary} with {labels}.", "The issue {summary} should carry these labels: {labels}.",
        "Could you label {summary}[ as {labels}]?"),
    zh=("给{summary}加上标签：{labels}。", "请给{summary}打标签[：{labels}]。"),
    reply_en=("{summary} is labelled {labels}.",), reply_zh=("{summary}已加上标签：{labels}。",),
)
def tag(world: Repository, rng: Random) -> Goal | None:
    """Label an issue."""
    issue, labels = _issue(world, rng, "open"), rng.sample(LABELS, rng.randint(1, 3))
    if issue is None:
        return None
    return _about(issue, "label_issue", {"labels": labels}, labels=Fact("labels", labels))


CLOSE_EN = ("{summary} can be closed, it is {reason}.", "Close {summary}[, reason: {reason}].",
            "We're through with {summary}: {reason}. Close it.")
CLOSE_ZH = ("{summary}可以关了，原因：{reason}。", "请关闭{summary}[，{reason}]。")


@intent(
    en=CLOSE_EN, zh=CLOSE_ZH,
    reply_en=("{summary} is closed.",), reply_zh=("{summary}已关闭。",),
)
def finish(world: Repository, rng: Random) -> Goal | None:
    """Close an issue."""
    return _closing(rng, _issue(world, rng, "open"))


def _closing(rng: Random, issue: Issue | None) -> Goal | None:
    reason = rng.choice(list(REASONS))
    words = Fact("reason", reason, REASONS[reason])
    return issue and _about(issue, "close_issue", {"reason": reason}, reason=words)


@intent(
    en=CLOSE_EN, zh=CLOSE_ZH,
    reply_en=("{summary} is closed already.",), reply_zh=("{summary}早已关闭。",), kind="fails",
)
def finish_twice(world: Repository, rng: Random) -> Goal | None:
    """Close an issue that is closed."""
    return _closing(rng, _issue(world, rng, "closed"))


@intent(
    en=("What is {name} working on?", "Which issues are with {name} right now?",
        "Show me the tracker for {name}."),
    zh=("{name}手上有哪些议题？", "查一下指派给{name}的议题。"),
    reply_en=("{name} has {count}: {rows.summary}.",),
    reply_zh=("{name}有{count}个议题：{rows.summary}。",),
)
def ask_whose(world: Repository, rng: Random) -> Goal | None:
    """Learn what is assigned to somebody."""
    busy = [issue.person_id for issue in world.issues.values() if issue.person_id]
    if not busy:
        return None
    person = world.people[rng.choice(busy)]
    return Goal((Call("find_issues", {"person_id": person.id}),), told(name=person.name))


@intent(
    en=("How far is {branch} ahead of main, and how far behind?",
        "Did {branch} drift from main? Give me both numbers.",
        "{branch} versus main: ahead and behind?"),
    zh=("{branch}比main领先多少、落后多少？", "对比一下{branch}和main的提交数。"),
    reply_en=("{branch} is {result.ahead} ahead and {result.behind} behind.",),
    reply_zh=("{branch}领先{result.ahead}个提交，落后{result.behind}个。",),
)
def ask_drift(world: Repository, rng: Random) -> Goal:
    """Compare a branch with main."""
    branch = rng.choice(list(world.branches.values()))
    return Goal((Call("compare_branch", {"branch_id": branch.id}),), told(branch=branch.branch))


@intent(
    en=('I pushed {branch}. Open a pull request "{title}" for it, I\'m {name}.',
        'Propose {branch} to {target} for {name}, title "{title}".',
        "{name} needs a pull request from {branch}[ into {target}], called {title}."),
    zh=("我是{name}，请把{branch}提成合并请求，标题{title}[，合到{target}]。",
        "用{name}的名义为{branch}发起合并请求“{title}”，目标分支{target}。"),
    reply_en=("{title} is open as {result.id}.",),
    reply_zh=("合并请求{title}已发起，编号{result.id}。",),
)
def propose(world: Repository, rng: Random) -> Goal:
    """Open a pull request for a branch that has none."""
    proposed = {pull.branch_id for pull in world.pulls.values()}
    branch = rng.choice([one for one in world.branches.values() if one.id not in proposed])
    person, target = rng.choice(list(world.people.values())), rng.choice(("main", "release"))
    title = f"{rng.choice(DEEDS)} the {rng.choice(PLACES)}"
    arguments = {"branch_id": branch.id, "person_id": person.id, "title": title, "target": target}
    facts = told(branch=branch.branch, name=person.name, title=title, target=target)
    return Goal((Call("open_pull", arguments),), facts)


@intent(
    en=('"{title}" is approved. Merge it with {method} and throw its branch away.',
        "Land {title}[ using {method}], then delete the branch.",
        "Get {title} in ({method}) and clean up: the branch can go."),
    zh=("合并{title}，方式：{method}，然后删掉它的分支。",
        "{title}可以合并了[，用{method}]，合完把分支删除。"),
    reply_en=("{title} is merged and {result.branch} is deleted.",),
    reply_zh=("{title}已合并，分支 {result.branch} 已删除。",),
)
def land_and_tidy(world: Repository, rng: Random) -> Goal | None:
    """Merge, then delete the branch."""
    pull, method = _pull(world, rng, "passing"), rng.choice(list(METHODS))
    if pull is None:
        return None
    merge = Call("merge_pull", {"pull_id": pull.id, "method": method})
    delete = Call("delete_branch", {"branch_id": pull.branch_id})
    facts = told(title=pull.title, method=Fact("method", method, METHODS[method]))
    return Goal((merge, delete), facts)


LAND_EN = ("Merge {title} now, please.", "{title} has to get in before lunch.",
           "Can you land {title} for me?")
LAND_ZH = ("现在合并{title}。", "请把{title}合进去。")


@intent(
    en=LAND_EN, zh=LAND_ZH,
    reply_en=("{title} is merged into {result.target}.",),
    reply_zh=("{title}已合并到 {result.target}。",),
)
def land(world: Repository, rng: Random) -> Goal | None:
    """Merge what passes."""
    return _landing(_pull(world, rng, "passing"))


def _landing(pull: Pull | None) -> Goal | None:
    return pull and Goal((Call("merge_pull", {"pull_id": pull.id}),), told(title=pull.title))


@intent(
    en=LAND_EN, zh=LAND_ZH,
    reply_en=("I can't merge {title}: its checks are failing.",),
    reply_zh=("{title}的检查没有通过，无法合并。",), kind="fails",
)
def land_red(world: Repository, rng: Random) -> Goal | None:
    """Merge what does not pass."""
    return _landing(_pull(world, rng, "failing"))


@intent(
    en=("Delete the branch {branch}.", "{branch} looks stale, remove it.",
        "We don't need {branch} any more."),
    zh=("删除分支{branch}。", "{branch}没用了，删掉吧。"),
    reply_en=("{branch} can't be deleted while its pull request is open.",),
    reply_zh=("{branch}还有未合并的请求，不能删除。",), kind="fails",
)
def drop_used(world: Repository, rng: Random) -> Goal:
    """Delete a branch that is proposed."""
    pull = rng.choice(list(world.pulls.values()))
    branch = world.branches[pull.branch_id]
    return Goal((Call("delete_branch", {"branch_id": branch.id}),), told(branch=branch.branch))


@intent(
    en=LAND_EN, zh=LAND_ZH,
    reply_en=("{title} goes into release, and only the release team merges there.",),
    reply_zh=("{title}的目标是release分支，只有发布团队可以合并。",), kind="policy",
)
def land_on_release(world: Repository, rng: Random) -> Goal | None:
    """Ask for a merge that is not ours to make."""
    pull = _pull(world, rng, "passing", "release")
    return pull and Goal((Call("find_pulls", {"title": pull.title}),), told(title=pull.title))


DOMAIN = domain_of(sys.modules[__name__], "a code repository", "代码仓库", seed,
                   policies_en=("Never merge into release; the release team does that.",),
                   policies_zh=("不得合并目标为 release 的合并请求，由发布团队处理。",))
