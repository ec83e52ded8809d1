"""What a client of `openk2 serve` waits for: start, first token, tokens per second.

In: a model directory. Out: bench/records/serving.json. A real server process is started on a free
port and asked by the `openai` client over loopback; medians of RUNS requests.

    python -m bench.serving
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from bench import record

RUNS = 15
STREAMS = 8
ANSWER = 64
PROMPT: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "Tell me a story about a small bird."}
]


def main() -> None:
    """Start a server, measure, stop it, write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("openk2/assets/nano"))
    options = parser.parse_args()
    command = [sys.executable, "-m", "openk2.cli", "serve", "--port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, "--model", str(options.model)], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            url = wait_for_url(server)
            ready_s = time.perf_counter() - began
            client = OpenAI(base_url=url, api_key="none")
            result = {"ready_s": round(ready_s, 2), **measure(client)}
        finally:
            server.terminate()
    print(record.write("serving", "python -m bench.serving", result), result)


def wait_for_url(server: subprocess.Popen[str]) -> str:
    """Return the address that the server prints when it is ready.

    Raises:
        RuntimeError: It ended before that.
    """
    assert server.stdout is not None
    for line in server.stdout:
        found = re.search(r"http://[\w.\[\]:]+/v1", line)
        if found:
            return found.group()
    raise RuntimeError("the server ended before it was ready: see its messages above")


def measure(client: OpenAI) -> dict[str, float]:
    """Return first-token time and speed for one stream, and the speed of many together."""
    model = client.models.list().data[0].id
    runs = [stream(client, model) for _ in range(RUNS)]
    first_ms = statistics.median(first for first, _, _ in runs) * 1000
    worst_ms = max(first for first, _, _ in runs) * 1000
    alone = statistics.median(tokens / seconds for _, seconds, tokens in runs)
    began = time.perf_counter()
    found: list[tuple[float, float, int]] = []
    threads = [
        threading.Thread(target=lambda: found.append(stream(client, model))) for _ in range(STREAMS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = sum(tokens for _, _, tokens in found) / (time.perf_counter() - began)
    return {
        "first_token_ms_median": round(first_ms, 1),
        "first_token_ms_max": round(worst_ms, 1),
        "tokens_per_s_one_stream": round(alone, 1),
        f"tokens_per_s_{STREAMS}_streams": round(together, 1),
        "runs": RUNS,
    }


def stream(client: OpenAI, model: str) -> tuple[float, float, int]:
    """Stream one answer: seconds to the first chunk of text, seconds in all, tokens."""
    began = time.perf_counter()
    first, tokens = 0.0, 0
    chunks = client.chat.completions.create(
        model=model,
        messages=PROMPT,
        max_tokens=ANSWER,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in chunks:
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter() - began
        if chunk.usage is not None:
            tokens = chunk.usage.completion_tokens
    return first or time.perf_counter() - began, time.perf_counter() - began, tokens


if __name__ == "__main__":
    main()
