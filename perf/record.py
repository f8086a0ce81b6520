"""What a result is kept with: the machine, the versions, a file of its own in perf/results/."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import lab


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def short_name(model):
    words = re.sub(r"\((R|TM)\)|CPU.*|Processor|with .*|@.*|\d+-Core", " ", model, flags=re.I)
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:32] or "unknown"


def first_line(command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=lab.ROOT)
    return (done.stdout or done.stderr).strip().split("\n")[0]


def circumstances(options, programs):
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "commit": first_line(["git", "describe", "--always", "--dirty"]),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }
    for name in programs:
        program = lab.find_program(name)
        if program:
            about[name] = first_line([program, "-v"])
    return about


def save(kind, text, document):
    """Keeps both forms of a result; `kind` is a part of the file's name, empty for `run`."""
    about = document["about"]
    folder = lab.HERE / "results"
    folder.mkdir(exist_ok=True)
    base = "-".join(part for part in (about["date"], kind, short_name(about["cpu"])) if part)
    name, number = base, 2
    while (folder / f"{name}.json").exists():
        name, number = f"{base}-{number}", number + 1
    (folder / f"{name}.md").write_text(text)
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"saved as results/{name}.md and .json", file=sys.stderr)
