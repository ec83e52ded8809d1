"""Cells run in a real kernel in a real sandbox: what they say, make, break and leave behind."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openk2.agent.sandbox.choose import choose_sandbox
from openk2.agent.sandbox.isolation import Sandbox, SandboxMissing
from openk2.agent.tool import Call, Tool, ToolError, ToolResult
from openk2.agent.tools.code import code_interpreter
from openk2.agent.tools.code_kernel import CodeSettings

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jupyter_client") is None, reason="needs openk2[agent]"
)
TIGHT = CodeSettings(memory_bytes=1 << 30, grace_seconds=1.0, start_seconds=90.0)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    try:
        return choose_sandbox()
    except SandboxMissing as error:
        pytest.skip(str(error))


class Desk:
    """One workspace and one kernel for the tests of this file."""

    def __init__(self, tool: Tool, work: Path, runner: asyncio.Runner) -> None:
        self.tool = tool
        self.work = work
        self.runner = runner
        self.shown: list[str] = []

    def __call__(self, code: str, seconds: float = 60.0) -> ToolResult:
        self.shown.clear()
        call = Call("c", self.work, 90.0, self.shown.append)
        return self.runner.run(self.tool.run({"code": code, "seconds": seconds}, call))


@pytest.fixture(scope="module")
def cell(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with asyncio.Runner() as runner:
        tool = code_interpreter(sandbox, TIGHT)
        yield Desk(tool, tmp_path_factory.mktemp("code"), runner)
        assert tool.close
        runner.run(tool.close())


def test_variables_stay_and_the_last_expression_is_shown(cell: Desk):
    assert cell("x = 6").content == "[done; nothing was shown]"
    result = cell("print('a'); x * 7")
    assert result.content == "a\n42" and not result.failed
    assert "".join(cell.shown) == "a\n42\n"
    assert cell("import os; os.getcwd()").content == repr(str(cell.work))


def test_output_comes_while_the_cell_runs(cell: Desk):
    times: list[float] = []
    call = Call("c", cell.work, 90.0, lambda text: times.append(time.monotonic()))
    code = "import time\nfor i in range(3): print(i, flush=True); time.sleep(0.5)"
    cell.runner.run(cell.tool.run({"code": code}, call))
    assert times[-1] - times[0] > 0.8


def test_an_exception_is_short_and_without_colours(cell: Desk):
    result = cell("def f(n):\n    return 1 / 0 if n == 0 else f(n - 1)\nf(100)")
    assert result.failed and "ZeroDivisionError: division by zero" in result.content
    assert "\x1b" not in result.content and result.content.count("\n") < 40
    assert "SyntaxError" in cell("x =").content
    assert "input" in cell("input()").content


def test_files_are_artifacts(cell: Desk):
    result = cell("open('made.csv', 'w').write('a,b')")
    assert result.artifacts == (cell.work / "made.csv",)
    assert "[new or changed files: made.csv]" in result.content
    assert cell("open('made.csv').read()").artifacts == ()


def test_a_flood_is_cut_and_progress_bars_show_their_last_state(cell: Desk):
    result = cell("for i in range(60): print('x' * 100_000)\nprint('the end')")
    assert len(result.content) < 210_000 and result.content.endswith("the end")
    assert "characters left out" in result.content
    bar = cell("import sys\nfor i in range(5): sys.stdout.write(f'\\r{i} of 5')")
    assert bar.content == "4 of 5"


def test_children_print_into_the_cell(cell: Desk):
    code = (
        "import os, subprocess\npid = os.fork()\n"
        "if pid == 0:\n    print('from a child', flush=True); os._exit(0)\n"
        "os.waitpid(pid, 0); subprocess.run(['echo', 'from a program'])\n"
        "import time; time.sleep(0.3)"
    )
    text = cell(code).content
    assert "from a child" in text and "from a program" in text


def test_there_is_no_network_and_no_host(cell: Desk):
    result = cell("import socket; socket.create_connection(('1.1.1.1', 53), 3)")
    assert result.failed and "Error" in result.content
    home = Path.home()
    secret = "import os; [os.path.exists(p) for p in ('/etc/shadow', '/root/.ssh', '/var/log')]"
    assert cell(secret).content == "[False, False, False]", home


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_figures_are_saved_under_names_that_count(cell: Desk):
    code = "import matplotlib.pyplot as plt\nfor n in range(2): plt.figure(); plt.plot([n, 1])"
    result = cell(code)
    names = [path.relative_to(cell.work).as_posix() for path in result.artifacts]
    assert names == ["figures/figure-001.png", "figures/figure-002.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in result.artifacts)
    assert "[saved figures/figure-001.png]" in result.content
    assert "Warning" not in result.content and "findfont" not in result.content
    again = cell("plt.plot([1]); plt.title('−1'); plt.show()")
    assert again.artifacts == (cell.work / "figures" / "figure-003.png",)


@pytest.mark.skipif(importlib.util.find_spec("plotly") is None, reason="needs plotly")
def test_a_plotly_figure_is_a_page_that_needs_no_network(cell: Desk):
    code = (
        "import plotly.graph_objects as go\ngo.Figure(go.Scatter(y=[1, 3, 2], name='</script><b>'))"
    )
    (path,) = cell(code).artifacts
    page = path.read_text()
    assert path.suffix == ".html" and "</script><b>" not in page
    assert "https://cdn" not in page[:1_000] and len(page) > 1_000_000
    assert "<\\/script><b>" in page


def test_pages_are_saved_and_tables_are_told(cell: Desk):
    page = cell("from IPython.display import HTML\nHTML('<h1>Hello</h1>')")
    (path,) = page.artifacts
    assert path.read_text() == "<h1>Hello</h1>" and path.suffix == ".html"
    if importlib.util.find_spec("pandas"):
        table = cell("import pandas as pd; pd.DataFrame({'a': [1, 2]})")
        assert table.artifacts == () and "a\n0  1\n1  2" in table.content


def test_a_figures_folder_that_leads_out_is_not_written_to(cell: Desk, tmp_path: Path):
    work, cell.work = cell.work, tmp_path / "work"
    cell.work.mkdir()
    (tmp_path / "outside").mkdir()
    try:
        result = cell(
            "import os; os.symlink('../outside', 'figures')\n"
            "from IPython.display import HTML\nHTML('x')"
        )
    finally:
        cell.work = work
    assert "could not be saved" in result.content
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_slow_cell_is_interrupted_and_keeps_its_variables(cell: Desk):
    cell("kept = 5")
    result = cell("import time\nprint('begun', flush=True)\ntime.sleep(60)", seconds=1.0)
    assert result.failed and "begun" in result.content
    assert "interrupted after 1 s" in result.content and "KeyboardInterrupt" in result.content
    assert cell("kept").content == "5"


@pytest.mark.slow
def test_a_cell_that_ignores_interrupts_costs_the_kernel_and_says_so(cell: Desk):
    cell("kept = 5")
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    result = cell(ignoring, seconds=1.0)
    assert "did not react" in result.content and "variables and imports are gone" in result.content
    assert "NameError" in cell("kept").content


@pytest.mark.slow
def test_a_kernel_without_memory_dies_alone(cell: Desk):
    result = cell("data = bytearray(3 << 30)")
    assert result.failed
    assert "MemoryError" in result.content or "1,024 MiB of memory" in result.content
    assert cell("1 + 1").content.endswith("2")


@pytest.mark.slow
def test_children_do_not_outlive_their_kernel(cell: Desk):
    name = f"k2{os.getpid()}"
    code = (
        "import os, subprocess, sys\n"
        f"code = 'import time; time.sleep(300) # {name}'\n"
        "for _ in range(3):\n"
        "    subprocess.Popen(['setsid', sys.executable, '-c', code], start_new_session=True)\n"
        "import time; time.sleep(0.5)"
    )
    cell(code)
    assert len(processes(name)) >= 3
    assert "died (status" in cell("os._exit(3)").content
    assert wait_until(lambda: processes(name) == [])


@pytest.mark.slow
def test_a_cancelled_cell_leaves_nothing_running(cell: Desk):
    name = f"c2{os.getpid()}"
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300) # {name}'])\n"
        "print('begun', flush=True); time.sleep(60)"
    )

    async def cancelled() -> None:
        begun = asyncio.Event()
        call = Call("c", cell.work, 90.0, lambda text: begun.set())
        task = asyncio.ensure_future(cell.tool.run({"code": code}, call))
        await asyncio.wait_for(begun.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    cell.runner.run(cancelled())
    assert wait_until(lambda: processes(name) == [])
    assert "was restarted since the last cell" in cell("1").content


def processes(name: str) -> list[str]:
    """List processes whose command line has the name; read-only, and only for those."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if name.encode() in line and b"time.sleep(300)" in line:
            found.append(path.parent.name)
    return found


def wait_until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def test_messages_that_a_cell_forges_break_nothing(cell: Desk):
    code = (
        "k = get_ipython().kernel\n"
        "s, pub = k.session, k.iopub_thread\n"
        "head = k.get_parent()\n"
        "bad = {'data': {'image/png': '!', 'text/plain': 1}}\n"
        "for content in ({'data': 5}, bad, {'name': []}):\n"
        "    for kind in ('stream', 'display_data', 'error', 'nonsense'):\n"
        "        s.send(pub.background_socket, kind, content, parent=head)\n"
        "import json\n"
        "for parts in ([5, 5, 5, 5], [[], [], [], []], [{}, [], {}, 'x'], [{'msg_type': 3}] * 4):\n"
        "    parts = [json.dumps(part).encode() for part in parts]\n"
        "    frames = [b'x', b'<IDS|MSG>', s.sign(parts), *parts]\n"
        "    pub.background_socket.send_multipart(frames)\n"
        "pub.background_socket.send_multipart([b'x', b'<IDS|MSG>', b'bad', b'{', b'', b'', b''])\n"
        "'alive'"
    )
    assert "'alive'" in cell(code).content
    assert cell("1 + 1").content == "2"


def test_a_warm_kernel_is_there_before_the_first_cell(sandbox: Sandbox, tmp_path: Path):
    async def first_cell() -> float:
        tool = code_interpreter(sandbox, TIGHT, warm_in=tmp_path)
        await asyncio.sleep(0)
        assert tool.close
        try:
            await tool.run({"code": "1"}, Call("a", tmp_path, 90.0))
            begin = time.monotonic()
            await tool.run({"code": "2"}, Call("b", tmp_path, 90.0))
            return time.monotonic() - begin
        finally:
            await tool.close()

    assert asyncio.run(first_cell()) < 5


def test_a_kernel_that_cannot_start_says_its_last_words(sandbox: Sandbox, tmp_path: Path):
    before = set(Path("/tmp").glob("k2-*"))

    async def starved() -> None:
        tool = code_interpreter(sandbox, CodeSettings(memory_bytes=8 << 20, start_seconds=20))
        with pytest.raises(ToolError, match="code kernel did not start") as caught:
            await tool.run({"code": "1"}, Call("a", tmp_path, 60.0))
        assert caught.value.kind == "unavailable"

    asyncio.run(starved())
    # Other tests may have their kernels meanwhile; a folder without sockets is nobody's.
    made = set(Path("/tmp").glob("k2-*")) - before
    assert wait_until(lambda: not [p for p in made if p.exists() and not [*p.glob("ipc/*")]])
