"""Count the domains and tools that data can be made of, and draw their map.

In: the data folder. Out: bench/records/synth-coverage.json and docs/images/synth-coverage.png.
Must not know: how domains are made.

    python -m bench.synth_coverage
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bench import record
from openk2.envs.catalogue import HELD_OUT
from openk2.synth.coverage import counts, draw, reached
from openk2.synth.tool_catalogue import eval_tools

IMAGE = record.ROOT / "docs" / "images" / "synth-coverage.png"


def main() -> None:
    """Count, draw, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=record.ROOT / "data")
    data: Path = parser.parse_args().data
    started = time.process_time()
    tools = reached(data)
    seconds = time.process_time() - started
    numbers = counts(tools)
    draw(tools, IMAGE, numbers)
    result = {
        **numbers,
        "held_out_domains": list(HELD_OUT),
        "names_left_out_for_evaluation": len(eval_tools(data / "eval")),
        "cpu_s_to_make_every_domain": round(seconds, 1),
    }
    path = record.write("synth-coverage", "python -m bench.synth_coverage", result)
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
