"""The project's own load on a guest's disk (tests/generations), which knows what each
block must hold, and so notices an old write that lands late."""

import re
from pathlib import Path

from .fio import Load
from .wait import PATIENCE

#: Where it lies in every guest.
PROGRAM = "bin/generations"


def program(bed):
    """(name, path), for a guest's image."""
    return PROGRAM, Path(bed.build, "tests/generations/generations")


class Generations:
    """Reads and writes of 4 KiB, one at a time by each of the threads, over blocks that
    are few: each is looked at often."""

    def __init__(self, guest, disk="vda", offset=0, blocks=512, threads=16):
        self.guest, self.disk = guest, disk
        self._command = f"/{PROGRAM} /dev/{disk} {offset} {blocks} {threads}"
        self._job = None

    def start(self):
        """Write and read, until stop()."""
        self._job = self.guest.spawn(self._command)
        return self

    def wait_progress(self, requests=500, deadline=PATIENCE):
        """Until the guest has seen that many more requests completed."""
        self.guest.wait_disk_requests(requests, self.disk, deadline)
        return self

    def stop(self, deadline=PATIENCE):
        """End it; what it has done, each read of which was right."""
        assert self._job.running(), f"it ended by itself: {self._job.wait(deadline)[1]}"
        self._job.interrupt()
        status, output = self._job.wait(deadline)
        done = re.search(r"generations: (\d+) writes, (\d+) reads", output)
        assert status == 0 and done, f"it ended with status {status}:\n{output}"
        return Load(reads=int(done[2]), writes=int(done[1]))
