"""Start a training stage from a config file: `python -m openk2.train pretrain configs/….toml`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from openk2 import config as settings
from openk2.train import pretrain, sft, shards
from openk2.train.heap import keep_heap


def main() -> int:
    """Prepare the data if needed, run the stage, print its last metrics as JSON."""
    parser = argparse.ArgumentParser(prog="python -m openk2.train", description=__doc__)
    parser.add_argument("stage", choices=("pretrain", "sft"))
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--prepare-only", action="store_true", help="write the shards and stop")
    parser.add_argument("--fresh", action="store_true", help="ignore checkpoints in `out`")
    arguments = parser.parse_args()
    stage = {"pretrain": pretrain, "sft": sft}[arguments.stage]
    cls = {"pretrain": pretrain.PretrainConfig, "sft": sft.SftConfig}[arguments.stage]
    try:
        config = settings.load(cls, arguments.config, arguments.overrides)
    except settings.ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shards.prepare(config.data, lambda line: print(line, file=sys.stderr))
    if arguments.prepare_only:
        return 0
    keep_heap()
    result = stage.run(config, resume=not arguments.fresh, show_progress=sys.stderr.isatty())
    print(json.dumps({"step": result.step, "reason": result.reason, **result.metrics}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
