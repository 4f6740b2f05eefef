"""The machine: the assignment of processors, their CPU use, and that of a process."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Processors:
    """The processors of the server that is measured, and those of everything else. They may be the same."""

    server: tuple[int, ...]
    client: tuple[int, ...]

    @classmethod
    def split(cls, available: Iterable[int]) -> Processors:
        """Half for the server, the rest for the client; one processor is shared."""
        every = tuple(sorted(available))
        half = len(every) // 2
        return cls(every[:half], every[half:]) if half else cls(every, every)

    @property
    def are_apart(self) -> bool:
        return not set(self.server) & set(self.client)

    def for_server(self, command: list[str]) -> list[str]:
        """The command, run on the server's processors."""
        return ["taskset", "-c", ",".join(map(str, self.server)), *command]


@dataclass(frozen=True)
class Ticks:
    """Time of some processors since the start of the machine, in ticks of the kernel."""

    busy: int
    total: int
    stolen: int

    def since(self, before: Ticks) -> tuple[float, float]:
        """The parts of the time that were busy and that were stolen by the hypervisor."""
        total = max(1, self.total - before.total)
        return (self.busy - before.busy) / total, (self.stolen - before.stolen) / total


def ticks(processors: Iterable[int], stat: str | None = None) -> Ticks:
    """Reads /proc/stat. Stolen time counts as neither busy nor idle."""
    wanted = {f"cpu{number}" for number in processors}
    busy = total = stolen = 0
    for line in (stat if stat is not None else (PROC / "stat").read_text()).splitlines():
        name, *fields = line.split()
        if name in wanted:
            # user, nice, system, idle, iowait, irq, softirq, steal; guest is part of user.
            user, nice, system, idle, waiting, irq, soft, steal = map(int, fields[:8])
            busy += user + nice + system + irq + soft
            stolen += steal
            total += user + nice + system + idle + waiting + irq + soft + steal
    return Ticks(busy, total, stolen)


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := stat_fields(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found.extend(parents.get(one, []))
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, its descendants, and those of them that ended."""
    spent = 0
    for one in tree(pid):
        if fields := stat_fields(one):
            # utime, stime, cutime, cstime
            spent += sum(map(int, fields[11:15]))
    return spent / os.sysconf("SC_CLK_TCK")


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from the state on; nothing if the process has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def rss_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", (PROC / str(pid) / "status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def described(processors: Processors) -> dict[str, object]:
    """The description of the machine in the result."""
    model = re.search(r"model name\s*: (.*)", (PROC / "cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+) kB", (PROC / "meminfo").read_text())
    return {
        "processor": model[1] if model else platform.processor(), "processors": os.cpu_count(),
        "server_processors": list(processors.server), "client_processors": list(processors.client),
        "memory_gib": round(int(memory[1]) / 1024**2, 1) if memory else None,
        "kernel": platform.release(), "load_average_before": os.getloadavg()[0],
    }


def version_of(*command: str) -> str:
    """The first line that a program prints as its version."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return "?"
    return (answer.stdout or answer.stderr).strip().splitlines()[0] if (answer.stdout or answer.stderr).strip() else "?"
