"""Files that go in and out of a guest's shared file system: load that verifies
what it reads back, and what the host has of it."""

import hashlib

from .virtiofsd import TAG
from .wait import PATIENCE, Deadline, wait_until

MOUNT = "/mnt"

#: The files of one worker that are there at a time; new ones replace the oldest.
KEPT = 16

#: One file after the other is written, by turns with fsync, closed, renamed over
#: an older one, forgotten by the guest's cache and read back; and one that the host
#: has made is read.  $1 is the worker's name.
WORKER = f"""
    mkdir -p {MOUNT}/$1 /tmp/$1
    cd /tmp/$1
    : >sums
    i=0
    while [ ! -e stop ]; do
        i=$((i + 1))
        name=$1/$((i % {KEPT}))
        dd if=/dev/urandom of=made bs=4k count=$((i * 7 % 61 + 1)) 2>/dev/null
        sum=$(md5sum <made)
        how=
        [ $((i % 2)) = 0 ] || how=conv=fsync
        dd if=made of={MOUNT}/$1/new bs=64k $how 2>/dev/null
        mv {MOUNT}/$1/new {MOUNT}/$name
        echo 1 >/proc/sys/vm/drop_caches
        [ "$(md5sum <{MOUNT}/$name)" = "$sum" ] ||
            {{ echo "$name, number $i, has other content than was written"; exit 1; }}
        [ "$(md5sum <{MOUNT}/given)" = "$(cat /tmp/given)" ] ||
            {{ echo "the host's file, read the time $i, has other content"; exit 1; }}
        [ $(ls {MOUNT}/$1 | wc -l) = $((i < {KEPT} ? i : {KEPT})) ] ||
            {{ echo "after $i files: $(ls {MOUNT}/$1)"; exit 1; }}
        grep -v "  $name$" sums >others || :
        {{ cat others; echo "${{sum%% *}}  $name"; }} >sums
        echo $i >progress
    done
"""


class Files:
    """The workers of one guest, on one virtiofsd's folder."""

    def __init__(self, guest, server, workers=2):
        self.guest, self.server = guest, server
        self._names = [f"worker{n}" for n in range(workers)]
        self._jobs = []

    def mount(self):
        self.guest.check(f"mount -t virtiofs {TAG} {MOUNT}")
        return self

    def unmount(self):
        self.guest.check(f"umount {MOUNT}")

    def start(self):
        """Work until stop()."""
        given = bytes(range(251)) * 1024
        (self.server.folder / "given").write_bytes(given)
        digest = hashlib.md5(given).hexdigest()
        self.guest.check(f"echo '{digest}  -' >/tmp/given")
        for name in self._names:
            self._jobs.append(self.guest.spawn(self.guest.script(WORKER, name)))
        return self

    def done(self):
        """Files that were written and read back so far, by each worker."""
        for job in self._jobs:
            assert job.running(), f"a worker ended: {job.wait()}"
        # The file may not be there yet, or just be written.
        return [int(self.guest.run(f"cat /tmp/{name}/progress 2>/dev/null")[1] or 0)
                for name in self._names]

    def wait_progress(self, files=2, deadline=PATIENCE):
        """Until each worker has done so many more."""
        limit = Deadline(deadline, "the workers' first look")
        goals = [done + files for done in self.done()]
        wait_until(lambda: all(done >= goal for done, goal in zip(self.done(), goals)),
                   f"each worker to write and read {files} more files", limit.left())
        return self

    def stop(self, deadline=PATIENCE):
        """End it, and compare all that is left with what the host has; how many
        files have been written."""
        for name in self._names:
            self.guest.check(f"touch /tmp/{name}/stop")
        for job in self._jobs:
            status, output = job.wait(deadline)
            assert status == 0, f"a worker failed: {output}"
        self._jobs.clear()
        written = self.guest.check("cat " + " ".join(
            f"/tmp/{name}/progress" for name in self._names)).split()
        for line in self.guest.check("cat " + " ".join(
                f"/tmp/{name}/sums" for name in self._names)).splitlines():
            digest, name = line.split()
            content = (self.server.folder / name).read_bytes()
            assert hashlib.md5(content).hexdigest() == digest, \
                f"{name}: the host has {len(content)} bytes of other content"
        return sum(map(int, written))
