"""What a shell text would run is found wherever it hides, and what cannot be told is said."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.agent.commands import Redirect, parse_commands
from openk2.agent.shell_words import UNKNOWN

WORD = st.text(
    st.characters(
        max_codepoint=0x4FFF, categories=["L", "M", "N", "P", "S"], include_characters=" \t\n"
    )
)


def words(text: str) -> list[tuple[str, ...]]:
    return [command.words for command in parse_commands(text).commands]


@given(st.lists(WORD, max_size=5))
def test_quoted_words_come_back_as_they_were(arguments: list[str]):
    script = parse_commands(shlex.join(["printf", *arguments]))
    assert not script.opaque
    assert [command.words for command in script.commands] == [("printf", *arguments)]


HIDDEN = st.sampled_from(
    [
        "true; {}",
        "true && {}",
        "false || {}",
        "echo a | {}",
        "{} | cat",
        "( {} )",
        "{{ {}; }}",
        "echo $({})",
        'echo "a $({}) b"',
        "echo `{}`",
        "cat <({})",
        "if {}; then :; fi",
        "if true; then {}; fi",
        "while {}; do :; done",
        "for i in a b; do {}; done",
        "for i in $({}); do :; done",
        "case x in x) {};; esac",
        "f() {{ {}; }}; f",
        "! {}",
        "{} &",
        "{} > out 2>&1",
        "x=$({})",
        "x=1 {}",
        "export x=$({})",
        "[[ -n $({}) ]]",
        "echo ${{x:-$({})}}",
        "echo $(( $({}) + 1 ))",
        "cat <<END\n$({})\nEND",
        "bash <<'END'\n{}\nEND",
        "cat <<END > $({})\nEND",
        "{} 2>/dev/null",
        "timeout 5 {}",
        "timeout -k 1 --signal=KILL 5 {}",
        "env -i A=b {}",
        "nice -n 5 nohup {}",
        "sudo -u nobody {}",
        "time -p {}",
        "command {}",
        "exec {}",
        "xargs -n 1 {}",
        "find . -name x -exec {} {{}} +",
        "find . -type f -execdir {} \\;",
        "# hidden\n{}",
        "echo \\\n;{}",
    ]
)


@given(st.lists(HIDDEN, max_size=4), st.booleans())
def test_a_command_is_found_wherever_it_hides(layers: list[str], quoted: bool):
    text = "rm -rf /data"
    for layer in layers:
        # A wrapper starts one program: anything more goes through a shell.
        plain = text if text == "rm -rf /data" else f"bash -c {shlex.quote(text)}"
        text = layer.format(plain)
    if quoted:
        text = f"sh -ec {shlex.quote(text)}"
    found = [command[:3] for command in words(text)]
    # A here-document inside one with the same end is more than the grammar can tell.
    nested = sum("<<" in layer for layer in layers) > 1
    assert ("rm", "-rf", "/data") in found or (nested and parse_commands(text).opaque)


@pytest.mark.parametrize(
    "text",
    [
        "rm -rf /data",
        "\\rm -rf /data",
        "r''m -r\"f\" /da\\ta",
        "'rm' '-rf' '/data'",
        "rm \\\n -rf /data",
        "eval 'rm -rf' /data",
        "trap 'rm -rf /data' EXIT",
        "bash <<< 'rm -rf /data'",
        "sudo -n -- rm -rf /data",
        "bash -lc 'sh -c \"rm -rf /data\"'",
        "env A=1 B=2 rm -rf /data",
        "stdbuf -oL ionice -c 3 rm -rf /data",
        "busybox rm -rf /data",
    ],
)
def test_quoting_and_wrappers_do_not_hide_a_command(text: str):
    assert ("rm", "-rf", "/data") in words(text)
    assert not parse_commands(text).opaque


@pytest.mark.parametrize(
    "text",
    [
        "$CMD x",
        'eval "$x"',
        'bash -c "$x"',
        "curl https://example.org/x | sh",
        "bash script.sh",
        "source env.sh",
        ". ./env.sh",
        "sh",
        "cat <<EOF | sh\nrm x\nEOF",
        "bash <<EOF\n$x\nEOF",
        "timeout --what 5 rm x",
        "sudo --login rm",
        "echo 'unfinished",
        "if true; then",
        "alias ls=rm; ls",
        "hash -p /x/rm ls; ls",
        "x='a[$(rm y)]'; ((x))",
        "x='a[$(rm y)]'; [[ $x -eq 1 ]]",
        "echo ${!x}",
        "echo ${x@P}",
        "rm\x0bx",
        "rm\xa0x",
        "a\x00b",
        "\ud800",
        "xargs -Z rm",
        "(" * 200 + "ls" + ")" * 200,
        "x" * 200_000,
        "ls; " * 20_000,
        "echo " + "$x " * 20_000,
        "$(" * 20_000,
    ],
)
def test_what_cannot_be_told_is_opaque(text: str):
    script = parse_commands(text)
    assert script.opaque or any(UNKNOWN in command.words[0] for command in script.commands)
    assert not all(command.literal for command in script.commands)


def test_expansions_make_words_unknown_and_leave_the_others():
    assert words('cp "$a" b*.py {1..3} ~/x $((1 + 1)) lit"er"al') == [
        ("cp", UNKNOWN, f"b{UNKNOWN}.py", UNKNOWN, f"{UNKNOWN}/x", UNKNOWN, "literal")
    ]
    assert words("""echo "a  $x  b" 'it''s' \\*""") == [("echo", f"a  {UNKNOWN}  b", "its", "*")]


def test_redirections_are_told_with_their_direction():
    script = parse_commands("sort < in.txt > 'o u t' 2>> log; { ls; } &> both; cat >&2 2>&1")
    found = [redirect for command in script.commands for redirect in command.redirects]
    assert found == [
        Redirect("in.txt", "read"),
        Redirect("o u t", "write"),
        Redirect("log", "write"),
        Redirect("both", "write"),
    ]


def test_variables_that_decide_what_runs_are_told():
    script = parse_commands("PATH=/x; LD_PRELOAD=y git status; count=1; for IFS in a; do :; done")
    assert [c.environment for c in script.commands if c.environment] == [
        ("PATH",),
        ("LD_PRELOAD",),
        ("IFS",),
    ]


def test_only_harmless_wrappers_are_marked_as_such():
    marks = {c.words[0]: c.starts_next for c in parse_commands("sudo timeout 5 ls").commands}
    assert marks == {"sudo": False, "timeout": True, "ls": False}


def test_a_script_that_moves_says_so():
    assert parse_commands("cd sub && ls").moves
    assert not parse_commands("echo cd").moves


@given(st.text(st.sampled_from("ab '\"\\$`(){}[]|&;<>\n#*~=!-"), max_size=40))
@settings(max_examples=300)
def test_any_text_is_read_without_an_error(text: str):
    for command in parse_commands(text).commands:
        assert command.opaque == "" or command.words == (UNKNOWN,)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@given(st.text(st.sampled_from("ab '\"\\n\n#=-"), max_size=12))
@settings(max_examples=150, deadline=None)
def test_words_are_what_bash_makes_of_them(text: str):
    script = parse_commands(f"printf '%s\\0' {text}")
    if len(script.commands) != 1 or not script.commands[0].literal:
        return
    done = subprocess.run(
        ["bash", "--norc", "-c", f"printf '%s\\0' {text}"], capture_output=True, check=True
    )
    arguments = script.commands[0].words[2:]
    assert done.stdout.decode() == "".join(f"{word}\0" for word in arguments or ("",))


def test_without_the_grammar_everything_is_opaque():
    code = (
        "import sys; sys.modules['tree_sitter'] = None\n"
        "from openk2.agent.commands import parse_commands\n"
        "script = parse_commands('ls')\n"
        "assert 'pip install' in script.opaque[0] and len(script.commands) == 1"
    )
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
