"""What the kernel knows of a process: fds, memory, threads, wake-ups."""

import os
import re
from pathlib import Path
from typing import NamedTuple


class Mapping(NamedTuple):
    """One line of smaps."""
    name: str
    shared: bool
    size: int           # bytes of address space
    resident: int       # bytes of it that are in memory


_HEADER = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+\s*(.*)$")


def fds(pid):
    """{fd: what it refers to}; sockets and anonymous inodes by their kind."""
    found = {}
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found[int(entry.name)] = os.readlink(entry.path)
        except FileNotFoundError:
            pass                        # closed while we looked
    return found


def mappings(pid):
    found, header, resident = [], None, 0

    def finish():
        if header:
            start, end, perms, name = header.groups()
            found.append(Mapping(name, perms[3] == "s",
                                 int(end, 16) - int(start, 16), resident))

    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := _HEADER.match(line):
            finish()
            header, resident = match, 0
        elif line.startswith("Rss:"):
            resident = int(line.split()[1]) * 1024
    finish()
    return found


def allocated(pid, name):
    """Bytes that the host holds of the files that a process has open and whose
    names contain this: their allocated blocks, whoever has touched them."""
    files = {}
    for fd, target in fds(pid).items():
        if name in target:
            status = os.stat(f"/proc/{pid}/fd/{fd}")
            files[status.st_dev, status.st_ino] = status.st_blocks * 512
    assert files, f"process {pid} has no open file like '{name}'"
    return sum(files.values())


def context_switches(pid):
    """How often any thread of the process was put on or off a CPU so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)",
                                         (task / "status").read_text())))
    return total


def thread_states(pid):
    """The state of each thread: "S" sleeps, "R" runs or would."""
    return [task.joinpath("stat").read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{pid}/task").iterdir()]


def pids_running(program, mentioning):
    """Every process whose executable is PROGRAM and whose command line
    contains the text MENTIONING."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            exe = os.path.basename(os.readlink(f"{entry.path}/exe"))
            words = Path(entry.path, "cmdline").read_bytes()
        except OSError:
            continue                    # gone, or a kernel thread
        if exe == program and mentioning.encode() in words:
            found.append(int(entry.name))
    return found
