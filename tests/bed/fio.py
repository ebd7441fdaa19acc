"""fio inside a guest: load that verifies what it reads back."""

import re
from typing import NamedTuple

from .wait import PATIENCE


class Load(NamedTuple):
    """Requests of a load that ended without error."""
    reads: int          # each verified
    writes: int


class Fio:
    """Verified load on one disk of a guest.

    Every block that is written carries a checksum and is read back, so a
    request that is lost, done twice, or answered with another's data is an
    error of fio's and fails the test.
    """

    def __init__(self, guest, disk="vda", size="16M", offset=0, depth=32,
                 block="4k", cpu=None, zeroes=False):
        """With zeroes, it writes and expects nothing else, for a null disk:
        what is verified then is that each request comes back."""
        self.guest = guest
        self.disk = disk
        self._words = [
            "fio", "--name=load", f"--filename=/dev/{disk}", f"--size={size}",
            f"--offset={offset}", "--rw=randwrite", f"--bs={block}",
            "--ioengine=libaio", f"--iodepth={depth}", "--direct=1", "--thread",
            *(["--verify=pattern", "--verify_pattern=0x00"] if zeroes
              else ["--verify=crc32c"]), "--verify_fatal=1", "--verify_state_save=0",
            "--allow_file_create=0", "--fdatasync=512"]
        if cpu is not None:
            self._words.append(f"--cpus_allowed={cpu}")
        self._job = None

    def once(self, deadline=PATIENCE):
        """Write every block once, then read back and verify them all."""
        status, output = self.guest.run(
            self.guest.host_tool(*self._words), deadline)
        return _judge(status, output)

    def start(self):
        """Write and verify, over and over, in the background, until stop()."""
        self._job = self.guest.spawn(self.guest.host_tool(
            *self._words, "--verify_backlog=256", "--time_based",
            "--runtime=3600"))
        return self

    def running(self):
        return self._job.running()

    def wait_progress(self, requests=500, deadline=PATIENCE):
        """Until the guest has seen that many more requests completed."""
        self.guest.wait_disk_requests(requests, self.disk, deadline)
        return self

    def stop(self, deadline=PATIENCE):
        """End the load started by start(); what fio said of it."""
        assert self.running(), \
            f"fio ended by itself: {self._job.wait(deadline)[1]}"
        self._job.interrupt()
        status, output = self._job.wait(deadline)
        return _judge(status, output)


def _judge(status, output):
    """What fio says that it did, or a failure with all that it said."""
    errors = [int(number) for number in re.findall(r"\berr=\s*(\d+)", output)]
    issued = re.search(r"issued rwts: total=(\d+),(\d+)", output)
    # 128 is how fio ends when told to by a signal.
    assert status in (0, 128) and errors == [0] and issued, \
        f"fio ended with status {status}:\n{output}"
    return Load(int(issued[1]), int(issued[2]))
