"""Files from strangers: thousands of mutated pickles and model folders, each loaded or refused.

    python tests/properties/fuzz_files.py --n 20000

Workers with little memory, a clock and an audit hook read many inputs each, so that a crash, a hang or
anything executed is seen and counted, and the next worker goes on with the next input.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

SECONDS = 10
"""Of computing, ..."""
WAITING = 60
"""... or of waiting, on however busy a machine."""
BYTES = 2**30
EXECUTED = 77
"""Exit code of a worker in which something was executed or written."""
RIGHT = ("loaded", "refused")


def run(n: int, seed: int = 0) -> dict[str, int]:
    """Counts of how ``n`` inputs ended; everything but "loaded" and "refused" is a fault.

    The number and the reason of each fault go to standard error.
    """
    counts: Counter[str] = Counter(dict.fromkeys(RIGHT, 0))
    with tempfile.TemporaryDirectory() as place:
        start = 0
        while start < n:
            command = [sys.executable, __file__, "--worker", place, str(seed), str(start), str(n)]
            worker = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            lines = [line.split("\t") for line in worker.stdout.splitlines()]
            ended = {int(line[0]): line[1] for line in lines if len(line) > 1}
            counts.update(ended.values())
            start += len(ended)
            if worker.returncode != 0:
                counts[how_it_died(worker.returncode)] += 1
                sys.stderr.write(f"input {start}: {how_it_died(worker.returncode)}\n")
                start += 1
    return dict(counts)


def how_it_died(code: int) -> str:
    if code == EXECUTED:
        return "executed"
    return "slow" if code in (-signal.SIGALRM, -signal.SIGPROF) else f"crashed with {code}"


# a worker -----------------------------------------------------------------------------------------


def work(place: Path, seed: int, start: int, stop: int) -> None:
    import fuzz_inputs as inputs  # beside this file; needs vivace, which only workers load

    warnings.simplefilter("ignore")
    corpus = inputs.corpus(place)
    for kind in inputs.KINDS:  # what is imported on the way is imported now
        kind(random.Random(0), corpus, place / "warm")
        outcome(place / "warm")
        inputs.away(place / "warm")
    watch(place)
    resource.setrlimit(resource.RLIMIT_AS, (virtual_bytes() + BYTES,) * 2)
    before = peak_bytes()
    for i in range(start, stop):
        chance, folder = random.Random(f"{seed}:{i}"), place / str(i)
        chance.choice(inputs.KINDS)(chance, corpus, folder)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAITING)
        found = watched(folder)
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if peak_bytes() - before > BYTES:
            found = "took more than 1 GB"
            before = peak_bytes()
        if found.split(":")[0] not in RIGHT:
            sys.stderr.write(f"input {i}: {found}\n")
        sys.stdout.write(f"{i}\t{found.split(':')[0]}\n")
        sys.stdout.flush()
        inputs.away(folder)


def outcome(folder: Path) -> str:
    """How reading a folder ends, and saving what was read."""
    import vivace
    from vivace.errors import VivaceError

    try:
        read = vivace.import_model if (folder / "model.pt").exists() else vivace.load
        model = read(folder)
        again = model.save(folder / "again")
        vivace.load(again)
    except VivaceError as error:
        text = f"{error} {error.__cause__!r}"
        if "MemoryError" in text or "allocate" in text:
            return f"took more than 1 GB: {text}"
        return "refused"
    except Exception as error:  # noqa: BLE001 - what is looked for
        return f"wrong {type(error).__name__}: {error!s:.300}"
    return "loaded"


FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.",
    "pty.",
    "ctypes.",
    "socket.",
)
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate")
watching = False


def watched(folder: Path) -> str:
    """How reading a folder ends, or the end of this process if anything is executed."""
    global watching
    watching = True
    try:
        return outcome(folder)
    finally:
        watching = False


def watch(place: Path) -> None:
    """End this process as soon as anything is executed, or written outside ``place``."""

    def hook(event: str, arguments: tuple) -> None:
        if watching and is_bad(event, arguments, (str(place), os.devnull)):
            os.write(2, f"{event} {arguments!r:.300}\n".encode())
            os._exit(EXECUTED)

    sys.addaudithook(hook)


def is_bad(event: str, arguments: tuple, allowed: tuple[str, ...]) -> bool:
    if event == "exec":  # but for modules, which are imported where they are needed
        return "<string>" in str(getattr(arguments[0], "co_filename", ""))
    if event in CHANGES or (event == "open" and writes(arguments)):
        is_open_already = isinstance(arguments[0], int)
        return not is_open_already and not str(arguments[0]).startswith(allowed)
    return event.startswith(FORBIDDEN)


def writes(arguments: tuple) -> bool:
    _, mode, flags = arguments
    return bool(mode and set("wax+") & set(mode)) or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))


def virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    if sys.argv[1:2] == ["--worker"]:
        work(Path(sys.argv[2]), *map(int, sys.argv[3:6]))
        sys.exit(0)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = run(given.n, given.seed)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    sys.exit(any(name not in RIGHT for name in found))
