"""Programs that people run work in a sandbox: Python, servers, pictures, LaTeX, a kernel."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from openk2.agent.sandbox.isolation import Limits, Program
from openk2.agent.sandbox.process import ProcessSandbox
from tests.agent.sandbox.attempts import BUBBLEWRAP, NAMESPACES
from tests.agent.sandbox.conftest import EACH, Host, Runner

LARGE = Limits(processes=256)

PYTHON_WORK = """
import multiprocessing, socket, sqlite3, subprocess, tempfile
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=theirs.send, args=(2,))
    child.start()
    assert ours.recv() == 2
    child.join()
    assert subprocess.run(["echo", "hi"], capture_output=True).stdout == b"hi\\n"
    with tempfile.NamedTemporaryFile() as file:
        sqlite3.connect(file.name).execute("create table t (x)")
    a, b = socket.socketpair()
    a.send(b"x")
    assert b.recv(1) == b"x"
    print("works")
"""

POOL = """
import multiprocessing
def double(x): return 2 * x
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(double, [1, 2, 3]))
"""


@EACH
def test_ordinary_python_works(run: Runner, tmp_path: Path):
    (tmp_path / "work.py").write_text(PYTHON_WORK)
    done = run([sys.executable, "work.py"], limits=LARGE, timeout=60)
    assert done.stdout == b"works\n", done.stderr.decode()


# Alone, Landlock cannot give a program memory to share that is nobody else's.
@pytest.mark.parametrize("sandbox", [BUBBLEWRAP, NAMESPACES], indirect=True)
def test_pools_of_processes_work(run: Runner, tmp_path: Path):
    (tmp_path / "work.py").write_text(POOL)
    done = run([sys.executable, "work.py"], limits=LARGE, timeout=60)
    assert done.stdout == b"[2, 4, 6]\n", done.stderr.decode()


@pytest.mark.parametrize("sandbox", [BUBBLEWRAP, NAMESPACES], indirect=True)
def test_servers_inside_can_be_reached_from_inside(run: Runner):
    code = (
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(server.getsockname())\n"
        "peer, _ = server.accept(); peer.send(b'x'); print(client.recv(1))\n"
        "server = socket.socket(socket.AF_UNIX); server.bind('here'); server.listen()\n"
        "socket.socket(socket.AF_UNIX).connect('here')\n"
    )
    done = run(code)
    assert done.stdout == b"b'x'\n", done.stderr.decode()


@EACH
def test_a_network_is_there_when_granted(sandbox: ProcessSandbox, tmp_path: Path):
    server = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        with server.accept()[0] as client:
            client.sendall(b"hello")

    greeting = threading.Thread(target=greet, daemon=True)
    greeting.start()
    code = (
        "import socket; print(socket.create_connection"
        f"(('127.0.0.1', {server.getsockname()[1]})).recv(5)); socket.getaddrinfo('localhost', 1)"
    )
    program = Program([sys.executable, "-I", "-S", "-c", code], tmp_path, network=True)
    done = asyncio.run(sandbox.run(program, timeout=20))
    assert done.stdout == b"b'hello'\n", done.stderr.decode()
    greeting.join()
    server.close()


@EACH
def test_a_network_brings_no_sockets_of_the_hosts_services(
    sandbox: ProcessSandbox, host: Host, tmp_path: Path
):
    code = f"import socket; socket.socket(socket.AF_UNIX).connect('\\0{host.token}')"
    program = Program([sys.executable, "-I", "-S", "-c", code], tmp_path, network=True)
    done = asyncio.run(sandbox.run(program, timeout=20))
    assert b"Operation not permitted" in done.stderr, done.stderr.decode()
    assert host.reached == []


@pytest.mark.slow
@EACH
def test_pictures_and_tables_work(sandbox: ProcessSandbox, tmp_path: Path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    code = (
        "import pandas; import matplotlib.pyplot as plot\n"
        "pandas.DataFrame({'x': [1, 2]}).plot(); plot.savefig('figure.png')"
    )
    environment = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    argv = [sys.executable, "-c", code]
    program = Program(argv, tmp_path, environment=environment, limits=LARGE)
    done = asyncio.run(sandbox.run(program, timeout=110))
    assert done.status == 0, done.stderr.decode()
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@EACH
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex: run `make system-deps`")
def test_latex_works(run: Runner, tmp_path: Path):
    text = r"\documentclass{article}\begin{document}$x^2$\end{document}"
    (tmp_path / "page.tex").write_text(text)
    done = run(["pdflatex", "-interaction=batchmode", "page.tex"], limits=LARGE, timeout=100)
    assert done.status == 0, done.stdout.decode()
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
@EACH
def test_a_kernel_is_talked_to_by_sockets_in_the_workspace(sandbox: ProcessSandbox):
    client_module = pytest.importorskip("jupyter_client")
    pytest.importorskip("ipykernel")
    folder = Path(tempfile.mkdtemp(prefix="k2", dir="/tmp"))  # socket paths have 107 characters
    names = ("shell", "iopub", "stdin", "hb", "control")
    connection = {
        **{f"{name}_port": number for number, name in enumerate(names, 1)},
        **{"ip": str(folder / "s"), "transport": "ipc", "key": "secret"},
        **{"signature_scheme": "hmac-sha256"},
    }
    (folder / "connection.json").write_text(json.dumps(connection))
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", str(folder / "connection.json")]
    program = Program(argv, folder, limits=LARGE)
    heard: list[dict[str, Any]] = []

    async def main() -> None:
        running = await sandbox.start(program, log=folder / "log")
        client = client_module.AsyncKernelClient()
        client.load_connection_info(connection)
        client.start_channels()
        try:
            client.kernel_info()
            await client.get_shell_msg(timeout=60)
            reply = await client.execute_interactive("6 * 7", timeout=30, output_hook=heard.append)
            assert reply["content"]["status"] == "ok"
        finally:
            client.stop_channels()
            client.context.destroy(linger=0)
            await running.kill()

    try:
        asyncio.run(main())
    finally:
        shutil.rmtree(folder)
    results = [m["content"]["data"] for m in heard if m["msg_type"] == "execute_result"]
    assert results == [{"text/plain": "42"}]
