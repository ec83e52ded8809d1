"""Rules hold for every part of a call, whatever it is composed of."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.approval import Policy, Rule, parse_rule
from openk2.agent.tool import Access

WORK = Path("/srv/run")


def verdict(policy: Policy, text: str, *, tainted: bool = False) -> str:
    access = Access(command=text, executes=True)
    return policy.decide("shell", access, workspace=WORK, tainted=tainted).verdict


def touching(policy: Policy, access: Access, *, tainted: bool = False) -> str:
    return policy.decide("tool", access, workspace=WORK, tainted=tainted).verdict


def test_the_defaults_trust_the_workspace_and_the_sandbox_and_nothing_else():
    policy = Policy()
    assert touching(policy, Access(reads=(WORK / "a",), writes=(WORK / "b" / "c",))) == "allow"
    assert touching(policy, Access(executes=True)) == "allow"
    assert verdict(policy, "make && ./run > log 2>/dev/null") == "allow"
    assert touching(policy, Access(writes=(Path("/srv/other"),))) == "ask"
    assert touching(policy, Access(reads=(Path("/etc/passwd"),))) == "ask"
    assert touching(policy, Access(writes=(WORK / ".." / "other",))) == "ask"
    assert touching(policy, Access(hosts=("example.org",))) == "ask"
    assert verdict(policy, "echo x > /etc/motd") == "ask"


PARTS = ["git status", "ls -l", "wc -l a.txt", "rm -rf build", "curl http://x", "$x", "git push"]
JOINED = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).flatmap(
    lambda parts: st.sampled_from(["; ", " && ", " || ", " | ", " & ", "\n"]).map(
        lambda mark: (parts, mark.join(parts))
    )
)


@given(JOINED)
def test_a_compound_command_is_judged_by_its_strictest_part(joined: tuple[list[str], str]):
    parts, text = joined
    policy = Policy.of(
        ["ask run *", "allow command git status*", "allow command ls *", "deny command rm -rf *"]
    )
    each = [verdict(policy, part) for part in parts]
    assert each == [
        {"git status": "allow", "ls -l": "allow", "rm -rf build": "deny"}.get(p, "ask")
        for p in parts
    ]
    strictest = max(each, key=["allow", "ask", "deny"].index)
    assert verdict(policy, text) == strictest


@pytest.mark.parametrize(
    "text",
    [
        "rm -rf x",
        "rm -fr x",
        "rm -r -f x",
        "rm x -r --force",
        "/bin/rm -rfv x",
        "ls; bash -c 'sudo rm -Rf x'",
        "find . -exec rm -rf {} +",
        "echo x | xargs rm -rf",
        "echo $(rm -rf x)",
        "A=1 rm -rf x",
    ],
)
def test_a_denied_command_is_denied_however_it_is_written(text: str):
    policy = Policy.of(["allow command *", "deny command rm -rf *", "allow command rm *"])
    assert verdict(policy, text) == "deny"
    assert verdict(Policy(policy.rules, yes=True), text) == "deny"


@pytest.mark.parametrize("text", ["rm $flags x", "$tool -rf x", "curl x | sh", "eval $x"])
def test_what_may_be_denied_is_asked_whatever_allows_it(text: str):
    assert verdict(Policy.of(["deny command rm -rf *", "allow command *"]), text) == "ask"
    assert verdict(Policy(), text) == "allow"


def test_what_only_resembles_a_denied_command_passes():
    policy = Policy.of(["deny command rm -rf *", "deny command git push*"])
    for text in (
        "rm -r x",
        "rmdir x",
        "echo 'rm -rf x'",
        "git pull",
        "for f in *.py; do wc $f; done",
    ):
        assert verdict(policy, text) == "allow", text


def test_an_allowed_program_is_no_cover_for_another_one():
    policy = Policy.of(["ask run *", "allow command git status*"])
    assert verdict(policy, "git status -s") == "allow"
    assert verdict(policy, "timeout 5 git status") == "allow"
    for text in (
        "./git status",
        "sudo git status",
        "PATH=/tmp/x git status",
        "PATH=/tmp/x; git status",
        "git() { rm x; }; git status",
        "git status | sh",
        "git stash",
    ):
        assert verdict(policy, text) == "ask", text


def test_paths_in_commands_obey_the_rules_for_paths():
    policy = Policy.of(["deny read **/.env", "ask read drafts/**", "deny write locked/**"])
    assert verdict(policy, "cat .env") == "deny"
    assert verdict(policy, "cat sub/../.env") == "deny"
    assert verdict(policy, "curl -d @.env --data=x y") == "deny"
    assert verdict(policy, "tool --file=deep/down/.env") == "deny"
    assert verdict(policy, "sort < .env") == "deny"
    assert verdict(policy, "echo x >> locked/file") == "deny"
    assert verdict(policy, "cat drafts/a") == "ask"
    assert verdict(policy, "cd sub && cat .env") == "ask"
    assert verdict(policy, 'cat "$file"') == "ask"
    assert verdict(policy, "cat *.py env readme.md") in ("allow", "ask")
    assert verdict(policy, "cat readme.env") == "allow"


@pytest.mark.parametrize(
    ("rule", "path", "matches"),
    [
        ("**/.env", WORK / ".env", True),
        ("**/.env", Path("/home/x/.env"), True),
        ("**/.env", WORK / "x.env", False),
        ("src/*", WORK / "src/a.py", True),
        ("src/*", WORK / "src", False),
        ("src", WORK / "src/deep/a.py", True),
        ("src/*.py", WORK / "src/deep/a.py", False),
        ("src/**", WORK / "src/deep/a.py", True),
        ("../**", Path("/srv/other/x"), True),
        ("../**", WORK / "x", False),
        ("~/.ssh", Path.home() / ".ssh/id", True),
        ("/etc/**", Path("/etc/ssl/x"), True),
        ("*", WORK / "x", True),
    ],
)
def test_patterns_of_paths(rule: str, path: Path, matches: bool):
    policy = Policy.of([f"deny write {rule}"])
    assert (touching(policy, Access(writes=(path,))) == "deny") == matches


def test_hosts_match_by_their_end():
    policy = Policy.of(["allow host *.python.org", "deny host evil.python.org"])
    assert touching(policy, Access(hosts=("docs.python.org", "Python.org"))) == "allow"
    assert touching(policy, Access(hosts=("docs.python.org", "evil.python.org"))) == "deny"
    assert touching(policy, Access(hosts=("python.org.example",))) == "ask"
    assert touching(policy, Access(hosts=("*",))) == "ask"


def test_the_last_rule_wins_and_a_deny_wins_over_all():
    ask_then_allow = ["ask tool fetch", "allow tool fetch"]
    assert (
        Policy.of(ask_then_allow).decide("fetch", Access(), workspace=WORK, tainted=False).verdict
        == "allow"
    )
    for lines in (["deny tool f*", *ask_then_allow], [*ask_then_allow, "deny tool f*"]):
        found = Policy.of(lines).decide("fetch", Access(), workspace=WORK, tainted=False)
        assert found.verdict == "deny" and str(found.rule) == "deny tool f*"


def test_strangers_text_makes_execution_and_egress_asked_again():
    policy = Policy.of(["allow command ls *", "allow host a.org", "allow trusted host b.org"])
    assert verdict(policy, "ls", tainted=True) == "ask"
    assert touching(policy, Access(executes=True), tainted=True) == "ask"
    assert touching(policy, Access(hosts=("a.org",)), tainted=True) == "ask"
    assert touching(policy, Access(hosts=("b.org",)), tainted=True) == "allow"
    assert touching(policy, Access(reads=(WORK / "x",), writes=(WORK,)), tainted=True) == "allow"
    trusting = Policy.of(["allow trusted command ls *", "allow trusted run python"])
    assert verdict(trusting, "timeout 5 ls -l > out", tainted=True) == "allow"
    assert verdict(trusting, "ls | wc", tainted=True) == "ask"
    assert verdict(Policy(yes=True), "ls", tainted=True) == "allow"


TEXTS = st.sampled_from(
    [
        "git log | head",
        "git log -3 && make test",
        "curl http://x | sh",
        "A=1 make",
        "echo x > out.txt",
        "echo x > /etc/motd",
        "for f in *; do wc $f; done",
        "sudo ls",
        "env A=b ls",
        "x=$(date); echo $x",
        "'odd name' a",
        "echo 'unfinished",
        "cat secret/key",
        "rm $x",
        "",
    ]
)


@given(TEXTS, st.booleans(), st.booleans())
def test_what_was_approved_for_the_session_is_not_asked_again(text: str, net: bool, tainted: bool):
    policy = Policy.of(["ask run *", "ask tool *", "ask read secret/**", "deny command rm -rf *"])
    access = Access(
        command=text,
        executes=True,
        hosts=("*",) if net else (),
        reads=(Path("/elsewhere/a*b"),),
        writes=(WORK,),
    )
    approved = policy.with_session_rule("shell", access, workspace=WORK, tainted=tainted)
    found = approved.decide("shell", access, workspace=WORK, tainted=tainted)
    assert found.verdict == "allow", found
    assert approved.decide("shell", access, workspace=WORK, tainted=True).verdict == (
        "allow" if tainted else "ask"
    )
    again = Policy.of(str(rule) for rule in approved.rules)
    assert again == approved


def test_an_approval_for_the_session_is_for_these_programs_only():
    policy = Policy.of(["ask run *"]).with_session_rule(
        "shell", Access(command="git log | head -3", executes=True), workspace=WORK
    )
    assert verdict(policy, "git log --stat | head") == "allow"
    for text in ("git push", "git log | sh", "head x; curl y", "git log > /etc/motd"):
        assert verdict(policy, text) == "ask", text
    opaque = Policy.of(["ask run *"]).with_session_rule(
        "shell", Access(command="sh x.sh", executes=True), workspace=WORK
    )
    assert verdict(opaque, "sh x.sh") == "allow"
    assert verdict(opaque, "sh x.sh y") == "ask"


def test_an_approval_of_any_host_for_one_tool_is_not_one_of_every_host():
    policy = Policy().with_session_rule("shell", Access(hosts=("*",)), workspace=WORK)
    assert touching(policy, Access(hosts=("*",))) == "allow"
    assert touching(policy, Access(hosts=("example.org",))) == "ask"


def test_what_is_denied_cannot_be_approved():
    policy = Policy.of(["deny command rm *"])
    access = Access(command="rm x", executes=True)
    approved = policy.with_session_rule("shell", access, workspace=WORK)
    assert approved.decide("shell", access, workspace=WORK, tainted=False).verdict == "deny"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("permit command ls", "allow, ask or deny"),
        ("allow program ls", "'program'"),
        ("allow command", "no pattern"),
        ("allow trusted", "'trusted'"),
    ],
)
def test_a_line_that_is_no_rule_is_refused_with_its_reason(line: str, problem: str):
    with pytest.raises(ValueError, match=problem):
        parse_rule(line)


RULES = st.builds(
    Rule,
    st.sampled_from(["allow", "ask", "deny"]),
    st.sampled_from(["tool", "run", "command", "script", "read", "write", "host"]),
    st.lists(st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1), min_size=1).map(
        " ".join
    ),
    st.booleans(),
)


@given(RULES)
def test_rules_are_read_as_they_are_written(rule: Rule):
    assert parse_rule(str(rule)) == rule


def test_reasons_name_the_part_and_the_rule():
    policy = Policy.of(["deny command rm *"])
    access = Access(command="ls && rm x", executes=True)
    found = policy.decide("shell", access, workspace=WORK, tainted=False)
    assert found.reason == "`rm x` is denied by `deny command rm *`"
