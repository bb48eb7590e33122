"""Our relevance beside zennit, captum, LXT and dl-backtrace, on the four nets of `nets.py`, in one process per net.

Runs in the environment of `install_peers.sh` (`make bench-peers`). Each call of a tool stands between two plain
gradients of the same weights as `torch.nn`; a figure is the median of tool / mean of its two neighbours. Every line of
the output is one JSON object; a tool that is not installed, or fails on a net, is a line that says so.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import logging
import os
import statistics
import subprocess
import sys
import time
import warnings
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import absent_modules  # written by install_peers.sh
import torch

from benchmarks.nets import NETS, Net
from benchmarks.peer_nets import as_torch, copied
from benchmarks.peer_tools import THREADS, TOOLS, Bench, Run

absent_modules.install()

REPETITIONS, SLOW_REPETITIONS = 20, 3


def compare(run: Run, gradient: Run, repetitions: int) -> dict[str, float | int]:
    """Wall and processor time of ``run`` between gradients: medians of the ratios to the mean of both neighbours."""
    run()
    gradient()
    pairs, walls, before = [], [], _spent(gradient)
    for _ in range(repetitions):
        spent, after = _spent(run), _spent(gradient)
        pairs.append([2 * s / (a + b) for s, a, b in zip(spent, before, after, strict=True)])
        walls.append(spent[0])
        before = after
    wall, cpu = (round(statistics.median(column), 3) for column in zip(*pairs, strict=True))
    return {"ratio": wall, "cpu_ratio": cpu, "ms": round(1e3 * statistics.median(walls), 3), "n": repetitions}


def _spent(run: Run) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(net: Net, tools: list[str], repetitions: int) -> None:
    """Print a line for each tool on one net."""
    torch.set_num_threads(THREADS)
    model = net.model()
    x = torch.tensor(as_torch(net.inputs()))
    bench = Bench(net, model, copied(net, model), x)
    runs: dict[str, Run] = {"gradient": bench.gradient}
    for tool in tools:
        runs |= _made(tool, bench)
    for name, run in runs.items():
        slow = name.startswith("dl-backtrace")
        if slow:
            gc.collect()
        try:
            found = compare(run, bench.gradient, SLOW_REPETITIONS if slow else repetitions)
        except Exception as error:  # noqa: BLE001 - another library's failure is a line of the table
            found = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
        _say(net=net.name, batch=net.batch, tool=name, **found)


def _made(tool: str, bench: Bench) -> dict[str, Run]:
    package, make = TOOLS[tool]
    if package is not None and importlib.util.find_spec(package) is None:
        _say(net=bench.net.name, tool=tool, skipped="not installed")
        return {}
    try:
        return make(bench)
    except Exception as error:  # noqa: BLE001 - as above
        _say(net=bench.net.name, tool=tool, failed=f"{type(error).__name__}: {str(error)[:200]}")
        return {}


def _say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def check() -> None:
    """Say which of the compared libraries can be used here."""
    for tool, (package, _) in TOOLS.items():
        if package is not None:
            there = importlib.util.find_spec(package) is not None
            print(f"{tool}: {'installed' if there else 'NOT INSTALLED, skipped by the comparison'}")


def main() -> None:
    """Measure every net, each in a process of its own, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="say what is installed, and stop")
    parser.add_argument("--net", choices=[net.name for net in NETS], help="this net alone, in this process")
    parser.add_argument("--tools", nargs="*", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    options = parser.parse_args()
    if options.check:
        check()
    elif options.net:
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        net = next(net for net in NETS if net.name == options.net)
        measure(net, options.tools, options.repetitions)
    else:
        for net in NETS:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.peers_relevance", "--net", net.name, *sys.argv[1:]], check=True
            )


if __name__ == "__main__":
    main()
