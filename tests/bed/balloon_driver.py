"""The project's balloon driver (kmod/) in a guest, and the guest's memory."""

import functools
import os
import re
import subprocess
from pathlib import Path

from .wait import PATIENCE, TimedOut, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]

MIB = 256               # pages

#: What a healthy kernel does not say.
_TROUBLE = re.compile(r"^.*(WARNING:|BUG:|BUG at|Oops|Kernel panic|"
                      r"hung task|soft lockup|Bad page|refcount_t).*$", re.M)


@functools.lru_cache(maxsize=None)
def _build(cache, *arguments):
    done = subprocess.run([REPOSITORY / "scripts/build-kmod", *arguments],
                          env={**os.environ, "BED": str(cache)},
                          stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def module(bed, flavour="uml", folder=None, source=None):
    """The driver's .ko for a kernel of the bed's, or that of another module, whose
    source is in this folder, or is the kernel's own at that place; built once."""
    return _build(bed.cache, flavour, *(word for word in (folder, source) if word))


class BalloonDriver:
    """The driver in a guest that has its module as a spare one."""

    def __init__(self, guest):
        self.guest = guest

    def load(self, **parameters):
        self.guest.check("insmod /modules/umbra_balloon.ko " + " ".join(
            f"{name}={value}" for name, value in parameters.items()))
        return self

    def unload(self, deadline=PATIENCE):
        self.guest.check("rmmod umbra_balloon", deadline)

    def attribute(self, name):
        return self.guest.check(
            f"cat /sys/bus/virtio/drivers/umbra_balloon/virtio*/balloon/{name}").strip()

    def number(self, name):
        return int(self.attribute(name))

    def held(self):
        return self.number("chunk_pages") + self.number("piece_pages")

    def wait_state(self, *states, deadline=PATIENCE):
        pattern = "|".join(states)
        self.guest.check(f"""
            until cat /sys/bus/virtio/drivers/umbra_balloon/virtio*/balloon/state |
                    grep -qxE '{pattern}'; do usleep 10000; done""", deadline)

    def run_out_of_memory(self, mib, folder="/host/mnt", deadline=PATIENCE):
        """Fill the guest's memory until the driver has given so much of it back on
        OOM; all that was written must be there.  In this folder, in the guest's memory:
        that of Content.

        By busybox, which is not on a disk: a program whose own pages can be dropped
        and read again would crawl for long before the guest is out of memory."""
        self.guest.check(f"""
            cd {folder}
            i=0
            while [ $(cat /sys/bus/virtio/drivers/umbra_balloon/virtio*/balloon/oom_pages
                    ) -lt {mib * MIB} ]; do
                i=$((i + 1))
                dd if=/dev/urandom bs=64k count=64 2>/dev/null | tee fill$i | md5sum
            done >/tmp/written
            for n in $(seq $i); do md5sum <fill$n; done | cmp - /tmp/written
            rm fill*""", deadline)

    def compact(self):
        """Have compaction move pages of the balloon, next to free ones all over;
        returns how many it has moved, once driver and kernel say the same."""
        def moved():
            self.guest.check("echo 1 >/proc/sys/vm/compact_memory")
            return self.number("migrated_pages")
        # Many, if it can be; some, whatever it takes.
        if not any(moved() > 100 for _ in range(10)):
            wait_until(moved, "compaction to move pages of the balloon")
        # The kernel goes on by itself for a while.
        return wait_until(
            lambda: (moved := self.number("migrated_pages"))
            == vm_events(self.guest)["balloon_migrate"] and moved,
            "driver and kernel to have counted the same pages that moved")

    def check_counts(self):
        """Until the kernel has counted what the driver has: as events, and, where it
        tells it, as memory that is in a balloon."""
        def agree():
            held, events = self.held(), vm_events(self.guest)
            return (memory(self.guest).get("Balloon", held) == held
                    == events["balloon_inflate"] - events["balloon_deflate"])
        wait_until(agree, "kernel and driver to count the same pages")

    def kernel_log(self):
        return self.guest.check("dmesg")

    def check_log(self):
        """Nothing in the kernel's log that a healthy one does not say."""
        log = self.kernel_log()
        trouble = _TROUBLE.search(log)
        assert not trouble, f"the guest's kernel says {trouble[0]!r}:\n{log}"
        return log


def memory(guest):
    """{"MemFree": pages, ...}"""
    return {name: int(kib) // 4 for name, kib in re.findall(
        r"^(\w+):\s+(\d+) kB$", guest.check("cat /proc/meminfo"), re.M)}


def vm_events(guest):
    return {name: int(value) for name, value in re.findall(
        r"^(\w+) (\d+)$", guest.check("cat /proc/vmstat"), re.M)}


def settle_memory(guest):
    """Free pages, once caches are dropped; those on the per-CPU lists are free,
    too, though MemFree does not count them."""
    guest.check("sync; echo 3 >/proc/sys/vm/drop_caches; echo 1 >/proc/sys/vm/compact_memory")
    zones = guest.check("cat /proc/zoneinfo")
    return memory(guest)["MemFree"] + sum(
        int(count) for count in re.findall(r"^ +count: +(\d+)$", zones, re.M))


def wait_free(guest, least):
    """Until more than so many pages are free: what the kernel frees it frees in its own
    time, and what has leaked never."""
    found = []
    try:
        wait_until(lambda: found.append(settle_memory(guest)) or found[-1] > least,
                   "free pages")
    except TimedOut as error:
        raise AssertionError(f"{max(found)} pages are free, expected more than {least}") from error


#: Writes, thins out or verifies files of 64 KiB.  Each page is unlike all others:
#: it begins with its file's number and its own, and goes on with a seed.  All in
#: the same two buffers: memory that is touched for the first time is slow in UML.
_CONTENT = """
import os, sys
action, folder, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
seed = open(folder + ".seed", "rb").read() if action == "verify" else os.urandom(4080)
expected, found = bytearray((bytes(16) + seed) * 16), bytearray(65536)
def content(number):
    for page in range(16):
        expected[page * 4096:page * 4096 + 16] = b"%08d%08d" % (number, page)
    return expected
if action == "write":
    os.mkdir(folder)
    open(folder + ".seed", "wb").write(seed)
    for number in range(count):
        file = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT)
        assert os.write(file, content(number)) == 65536
        os.close(file)
elif action == "fragment":
    for number in range(1, count, 2):
        os.unlink(f"{folder}/{number}")
else:
    names = os.listdir(folder)
    assert names
    for name in names:
        file = os.open(f"{folder}/{name}", os.O_RDONLY)
        assert os.readv(file, [found]) == 65536
        os.close(file)
        assert found == content(int(name)), f"{folder}/{name} has changed"
"""


class Content:
    """Files in the guest's memory, of a content that is known."""

    def __init__(self, guest):
        self.guest = guest
        self._counts = {}
        guest.check("grep -q /host/mnt /proc/mounts || "
                    "mount -t tmpfs -o size=100% content /host/mnt")

    def _run(self, action, name, deadline):
        self.guest.check(self.guest.host_tool(
            "python3", "-ISc", _CONTENT, action, f"/mnt/{name}", self._counts[name]),
            deadline)
        return self

    def write(self, mib, name="kept", deadline=PATIENCE):
        self._counts[name] = mib * 16
        return self._run("write", name, deadline)

    def fragment(self, name="kept", deadline=PATIENCE):
        """Free every other 64 KiB."""
        return self._run("fragment", name, deadline)

    def verify(self, name="kept", deadline=PATIENCE):
        return self._run("verify", name, deadline)

    def remove(self, name="kept", deadline=PATIENCE):
        self.guest.check(f"rm -r /host/mnt/{name} /host/mnt/{name}.seed", deadline)
