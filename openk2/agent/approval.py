"""Which calls may go on, which are refused, and which a person must answer for.

In: rules, what a call would touch, and whether strangers' text is in the context. Out: a decision
with its reason. Must not know: the tools, who asks the person, or what they answered.

A rule is a line: a verdict, perhaps `trusted`, a subject, and a pattern.

    allow command git status*
    deny command rm -rf *
    ask write ../**
    deny read **/.env
    allow trusted host docs.python.org
    ask run code_interpreter

Whatever a call touches is judged by itself, and the strictest judgement counts: a compound command
is allowed when each of its parts is. For each thing a `deny` that matches wins; else the last rule
that matches; else the default: files in the workspace and code in the sandbox are allowed, all
other files and every host are asked. Denied commands are a guard against accidents: a program can
do anything its sandbox lets it do, so what must not happen is the sandbox's to prevent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from openk2.agent.commands import Command, Redirect, Script, parse_commands
from openk2.agent.patterns import command_match, host_matches, may_name, name_matches, path_matches
from openk2.agent.shell_words import UNKNOWN
from openk2.agent.tool import Access

Verdict = Literal["allow", "ask", "deny"]
Subject = Literal["tool", "run", "command", "script", "read", "write", "host"]
"""tool: calls of a tool by name. run: code, by the tool that runs it. command: one simple command
of a shell text. script: a whole shell text, to the letter. read, write: files. host: egress."""

_SEVERITY: dict[Verdict, int] = {"allow": 0, "ask": 1, "deny": 2}


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do with what matches a pattern."""

    verdict: Verdict
    """allow, ask or deny."""
    subject: Subject
    """What the pattern is about."""
    pattern: str
    """`*` stands for any text. In paths it stays within one folder's name and `**` does not;
    relative ones start in the workspace, `~` is the home folder."""
    trusted: bool = False
    """Holds even after text of strangers came into the context."""

    def __str__(self) -> str:
        """Write the rule as the line that `parse_rule` reads."""
        pattern = json.dumps(self.pattern) if self.subject == "script" else self.pattern
        trusted = "trusted " if self.trusted else ""
        return f"{self.verdict} {trusted}{self.subject} {pattern}"


def parse_rule(line: str) -> Rule:
    """Read a rule from its line.

    Raises:
        ValueError: The line is not a rule; the message says which word is wrong.
    """
    verdict, _, rest = line.strip().partition(" ")
    if verdict not in get_args(Verdict):
        raise ValueError(f"rule {line!r} must begin with allow, ask or deny")
    trusted = rest.lstrip().startswith("trusted ")
    rest = rest.strip().removeprefix("trusted ").strip() if trusted else rest.strip()
    subject, _, pattern = rest.partition(" ")
    if subject not in get_args(Subject):
        known = ", ".join(get_args(Subject))
        raise ValueError(f"rule {line!r} is about {subject!r}; known are {known}")
    if not pattern.strip():
        raise ValueError(f"rule {line!r} has no pattern; `*` matches everything")
    text = json.loads(pattern) if subject == "script" else pattern.strip()
    return Rule(cast(Verdict, verdict), cast(Subject, subject), text, trusted)


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a call."""

    verdict: Verdict
    reason: str
    """For people and for the model: what decided."""
    rule: Rule | None = None
    """None: a default decided."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a run."""

    rules: tuple[Rule, ...] = ()
    """Later ones win over earlier ones; a deny wins over all."""
    yes: bool = False
    """Answer every question with yes; what is denied stays denied."""

    @classmethod
    def of(cls, lines: Iterable[str], *, yes: bool = False) -> Policy:
        """Read rules from lines; empty ones and those that begin with # are left out.

        Raises:
            ValueError: A line is not a rule.
        """
        kept = (line for line in map(str.strip, lines) if line and not line.startswith("#"))
        return cls(tuple(parse_rule(line) for line in kept), yes)

    def decide(self, tool_name: str, access: Access, *, workspace: Path, tainted: bool) -> Decision:
        """Judge one call.

        Args:
            tool_name: The tool that is called.
            access: What the call would touch.
            workspace: The folder that belongs to the run.
            tainted: Text of strangers is in the context: what runs or sends is asked again, save
                where a rule says `trusted`.
        """
        judged = list(self._judge(tool_name, access, workspace, tainted))
        strictest = max(judged, key=lambda decision: _SEVERITY[decision.verdict])
        if self.yes and strictest.verdict == "ask":
            return replace(strictest, verdict="allow", reason=f"{strictest.reason}; --yes")
        return strictest

    def with_session_rule(
        self, tool_name: str, access: Access, *, workspace: Path, tainted: bool = False
    ) -> Policy:
        """Add the rules that let calls like this one pass for the rest of the run.

        Like this one: the same programs (and their subcommand), the same hosts, the same folders.
        A command that cannot be understood is approved to the letter only. What a person approves
        while strangers' text is in the context stays approved.
        """
        added = tuple(_session_rules(tool_name, access, tainted))
        policy = replace(self, rules=(*self.rules, *added))
        now = policy.decide(tool_name, access, workspace=workspace, tainted=tainted)
        if now.verdict == "ask" and access.command is not None:
            exact = Rule("allow", "script", access.command, tainted)
            return replace(self, rules=(*self.rules, *added, exact))
        return policy

    def hides(self, path: Path, workspace: Path) -> bool:
        """Whether a rule denies to read a file: tools that look through folders leave it out."""
        return any(
            rule.verdict == "deny"
            and rule.subject == "read"
            and path_matches(rule.pattern, path, workspace)
            for rule in self.rules
        )

    def _judge(
        self, tool_name: str, access: Access, workspace: Path, tainted: bool
    ) -> Iterator[Decision]:
        for path in access.reads:
            yield self._path("read", path, workspace)
        for path in access.writes:
            yield self._path("write", path, workspace)
        for host in access.hosts:
            asked = self._about("host", host, "ask", f"sending to {host}")
            yield _doubted(asked, tainted, f"sending to {host}")
        if access.executes or access.command is not None:
            run = self._about("run", tool_name, "allow", f"running code with {tool_name}")
            if access.command is None or run.verdict == "deny":
                yield _doubted(run, tainted, f"running code with {tool_name}")
            else:
                yield from self._script(access.command, run, workspace, tainted)
        yield self._about("tool", tool_name, "allow", f"tool {tool_name}")

    def _about(self, subject: Subject, name: str, default: Verdict, what: str) -> Decision:
        matches = host_matches if subject == "host" else name_matches
        found = [r for r in self.rules if r.subject == subject and matches(r.pattern, name)]
        return _chosen(found, default, what)

    def _path(self, subject: Literal["read", "write"], path: Path, workspace: Path) -> Decision:
        path = Path(os.path.normpath(path))
        found = [
            rule
            for rule in self.rules
            if rule.subject == subject and path_matches(rule.pattern, path, workspace)
        ]
        default = "allow" if path.is_relative_to(workspace) else "ask"
        where = "in" if default == "allow" else "outside"
        return _chosen(found, default, f"{subject} {path} {where} the workspace")

    def _script(
        self, text: str, run: Decision, workspace: Path, tainted: bool
    ) -> Iterator[Decision]:
        script = parse_commands(text)
        exact = [r for r in self.rules if r.subject == "script" and r.pattern == text]
        approved = _chosen(exact, "ask", "this command")
        for part in script.commands:
            for decision in self._part(part, script, run, workspace, tainted):
                if decision.verdict == "ask" and approved.verdict != "ask":
                    yield _doubted(approved, tainted, "running this command")
                else:
                    yield decision
        if not script.commands:
            yield _doubted(approved if exact else run, tainted, "running a command")

    def _part(
        self, part: Command, script: Script, run: Decision, workspace: Path, tainted: bool
    ) -> Iterator[Decision]:
        if part.words or part.environment:
            yield _doubted(self._command(part, run), tainted, f"running {_shown(part)}")
        for redirect in part.redirects:
            yield from self._redirected(redirect, script, workspace)
        for word in part.words[1:]:
            yield from self._named(word, script, workspace)

    def _command(self, part: Command, run: Decision) -> Decision:
        held = [
            (rule, command_match(rule.pattern, part, strict=rule.verdict == "allow"))
            for rule in self.rules
            if rule.subject == "command"
        ]
        for wanted in ("yes", "maybe"):
            for rule, match in held:
                if rule.verdict == "deny" and match == wanted:
                    verdict: Verdict = "deny" if match == "yes" else "ask"
                    how = "is" if match == "yes" else "might be"
                    return Decision(verdict, f"{_shown(part)} {how} denied by `{rule}`", rule)
        decision = None
        for rule, match in held:
            asks = rule.verdict == "ask" and match != "no"
            # A variable such as PATH or GIT_SSH makes a harmless program run another one.
            allows = rule.verdict == "allow" and match == "yes" and not part.environment
            if asks or allows:
                decision = Decision(rule.verdict, f"{_shown(part)} matches `{rule}`", rule)
        if decision is None and part.starts_next:
            return Decision("allow", f"{_shown(part)} only starts what follows", _HARMLESS)
        return decision or run

    def _named(self, word: str, script: Script, workspace: Path) -> Iterator[Decision]:
        """Judge what may be paths in a word: a guard for what rules name, no more."""
        for text in _paths_in(word):
            for rule in self.rules:
                denies = rule.verdict == "deny" and rule.subject in ("read", "write")
                asks = rule.verdict == "ask" and rule.subject == "read" and UNKNOWN not in text
                if denies or asks:
                    yield from _about_path(rule, text, script, workspace)

    def _redirected(
        self, redirect: Redirect, script: Script, workspace: Path
    ) -> Iterator[Decision]:
        rules = [rule for rule in self.rules if rule.subject == redirect.kind]
        path = _place(redirect.path, script, workspace)
        if UNKNOWN in str(path):
            for rule in rules:
                if rule.verdict != "allow":
                    yield from _about_path(rule, redirect.path, script, workspace)
            return
        judged = self._path(redirect.kind, path, workspace)
        # Both folders are the sandbox's own; every second command writes to /dev/null.
        own = path.is_relative_to("/dev") or path.is_relative_to("/tmp")
        harmless = own and judged.verdict == "ask" and not path.is_relative_to(workspace)
        yield Decision("allow", f"{path} is the sandbox's own") if harmless else judged


_HARMLESS = Rule("allow", "command", "*", trusted=True)
"""Stands for parts that only start others, which are judged themselves: they are not doubted."""


def _chosen(found: Sequence[Rule], default: Verdict, what: str) -> Decision:
    for rule in found:
        if rule.verdict == "deny":
            return Decision("deny", f"{what} is denied by `{rule}`", rule)
    if found:
        return Decision(found[-1].verdict, f"{what} matches `{found[-1]}`", found[-1])
    return Decision(default, f"{what} is {'allowed' if default == 'allow' else 'asked'} by default")


def _doubted(decision: Decision, tainted: bool, what: str) -> Decision:
    if not tainted or decision.verdict != "allow" or (decision.rule and decision.rule.trusted):
        return decision
    reason = f"{what}: text of strangers is in the context, it may have asked for this"
    return Decision("ask", reason, decision.rule)


def _shown(part: Command) -> str:
    if part.opaque:
        return f"a part that cannot be checked ({part.opaque})"
    words = [*(f"{name}=…" for name in part.environment), *part.words]
    text = " ".join(words).replace(UNKNOWN, "…")
    return f"`{text if len(text) <= 120 else text[:119] + '…'}`"


def _paths_in(word: str) -> list[str]:
    """List what may be a path in a word: itself, and what follows `=` or `@`."""
    found = [] if word.startswith("-") else [word]
    for mark in "=@":
        _, _, after = word.partition(mark)
        found += [after] if after else []
    return [text for text in found if text]


def _place(text: str, script: Script, workspace: Path) -> Path:
    """Where a path of a command leads; UNKNOWN stands for what cannot be told."""
    if script.moves and not text.startswith("/"):
        return Path(f"/{UNKNOWN}/{text}")
    return (
        Path(f"/{text}") if text.startswith(UNKNOWN) else Path(os.path.normpath(workspace / text))
    )


def _about_path(rule: Rule, text: str, script: Script, workspace: Path) -> Iterator[Decision]:
    path, shown = _place(text, script, workspace), text.replace(UNKNOWN, "…")
    if UNKNOWN not in str(path):
        if path_matches(rule.pattern, path, workspace):
            yield Decision(rule.verdict, f"`{shown}` matches `{rule}`", rule)
    elif may_name(rule.pattern, path, workspace):
        yield Decision("ask", f"`{shown}` might be what `{rule}` is about", rule)


_SUBCOMMANDS = frozenset(
    [
        "git",
        "pip",
        "pip3",
        "npm",
        "pnpm",
        "yarn",
        "cargo",
        "go",
        "uv",
        "docker",
        "kubectl",
        "apt",
        "apt-get",
        "brew",
        "conda",
        "poetry",
        "make",
        "just",
        "systemctl",
        "gh",
    ]
)
"""Programs whose second word says what they do."""


def _session_rules(tool_name: str, access: Access, tainted: bool) -> Iterator[Rule]:
    yield Rule("allow", "tool", tool_name, tainted)
    for path in access.reads:
        yield Rule("allow", "read", _escaped(str(path)), tainted)
    for path in access.writes:
        yield Rule("allow", "write", _escaped(str(path)), tainted)
    for host in access.hosts:
        # Any host: this is the tool that may reach any, not all tools.
        yield Rule("allow", "host", _escaped(host), tainted)
    if access.command is not None:
        yield from _command_rules(access.command, tainted)
    elif access.executes:
        yield Rule("allow", "run", tool_name, tainted)


def _command_rules(text: str, tainted: bool) -> Iterator[Rule]:
    script = parse_commands(text)
    understood = script.commands and not any(
        part.opaque or part.environment or part.redirects or not part.words
        for part in script.commands
    )
    if not understood:
        yield Rule("allow", "script", text, tainted)
        return
    for part in script.commands:
        words = part.words[: 2 if part.words[0] in _SUBCOMMANDS else 1]
        if any(word.startswith("-") or set(word) & _SPECIAL for word in words):
            yield Rule("allow", "script", text, tainted)
        elif not part.starts_next:
            yield Rule("allow", "command", " ".join(words) + " *", tainted)


_SPECIAL = frozenset("\\* \t\n" + UNKNOWN)
"""What a pattern cannot say to the letter."""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*")
