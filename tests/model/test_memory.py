"""The memory limit is read from control groups of both versions and from ulimits."""

import resource
import subprocess
import sys

import pytest

from openk2.model import memory


def test_the_limit_is_no_more_than_the_machine_has():
    assert 0 < memory.memory_limit() <= memory._installed()


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a/b\n", {"a/memory.max": "5000", "a/b/memory.max": "max"}, 5000),
        ("0::/a/b\n", {"a/memory.max": "5000", "a/b/memory.max": "300"}, 300),
        ("4:memory:/x\n3:cpu:/y\n", {"memory/x/memory.limit_in_bytes": "700"}, 700),
        ("9:cpu,memory:/gone\n", {"memory/memory.limit_in_bytes": "800"}, 800),
        ("0::/\n", {}, 1 << 62),
    ],
)
def test_control_groups_of_both_versions(membership, files, expected, tmp_path):
    root = tmp_path / "cgroup"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    (tmp_path / "self").write_text(membership)
    assert min(memory._group_limits(tmp_path / "self", root)) == expected


def test_a_system_without_control_groups_has_no_limit_of_them(tmp_path):
    assert memory._group_limits(tmp_path / "none", tmp_path) == [1 << 62]


def test_an_ulimit_counts():
    code = "from openk2.model.memory import memory_limit; print(memory_limit())"

    def limit():
        resource.setrlimit(resource.RLIMIT_RSS, (123 << 20, resource.RLIM_INFINITY))

    done = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == 123 << 20
