#!/usr/bin/python3
"""Memory from a guest to the host and back, on real parts: a Linux guest (User Mode
Linux) writes to all of its memory, gives most of it up to `umbra balloon`, gets it
back and writes to it again.  Once with Linux's own balloon driver, page by page as
is usual, and once with the project's (kmod/).

	demo/balloon.py [--memory=MIB]

The host's memory is counted in blocks that the guest's memory file has, whatever
the guest claims.  Exit status 0 means that the host got all of it, and the guest
got it back.
"""

import argparse
import concurrent.futures
import re
import sys
import time
from collections import namedtuple
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from bed import Bed, BalloonDriver, TimedOut                    # noqa: E402
from bed.balloon_driver import memory, module                   # noqa: E402
from bed.uml import MODULES                                     # noqa: E402

MIB = 1 << 20
LEAST_MIB, MOST_MIB = 1024, 3072
SPARE_MIB = 64          # that the guest leaves alone when it writes to all its memory
PATIENCE = 300
FRAME = 0.05            # seconds between two looks
BAR = 11                # characters; a line fits into 80

#: name, the guest's module, options of the device
Side = namedtuple("Side", "name words driver options")
SIDES = (
    Side("stock driver", "Linux's own driver, page by page", "virtio_balloon",
         ("--single-pages",)),
    Side("umbra's driver", "umbra's driver", "umbra_balloon", ()),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--memory", type=int, metavar="MIB",
                        help=f"of the guest (default: half of what is available, "
                             f"{LEAST_MIB} to {MOST_MIB})")
    options = parser.parse_args()
    available = available_mib()
    mib = options.memory or min(MOST_MIB, available // 2 // 256 * 256)
    if mib < LEAST_MIB or mib > available // 2:
        parser.error(f"a guest of {mib} MiB: expected {LEAST_MIB} or more, and at most half "
                     f"of the {available} MiB that are available here")

    bed = Bed()
    try:
        return run(bed, mib)
    finally:
        bed.stop()
        bed.remove()


def available_mib():
    text = Path("/proc/meminfo").read_text()
    return int(re.search(r"^MemAvailable: +(\d+) kB", text, re.M)[1]) >> 10


def run(bed, mib):
    say("Building the guest's driver (that takes a moment the first time).")
    module(bed)
    say("Below: the memory that a guest has, and what the host holds of it.")
    results = []
    for side in SIDES:
        say(f"\nA guest of {mib} MiB with {side.words}:")
        demo = Demo(bed, side, mib)
        results.append(demo.run())
        demo.end()
    table(results)
    say("")
    complaints = [f"{result['side']}: {line}"
                  for result in results for line in result["complaints"]]
    for line in complaints:
        say(f"  {line}")
    say("NOT all held." if complaints else
        "All held: the host got every byte, and the guest got them back.")
    return 1 if complaints else 0


class Demo:
    """One guest, its balloon, and the lines that show them."""

    def __init__(self, bed, side, mib):
        self.side, self.began = side, time.monotonic()
        tag = side.driver.partition("_")[0]
        # Without reporting: memory comes back through the balloon alone.
        self.balloon = bed.balloon("--hide=reporting", *side.options, name=tag)
        stock = next(MODULES.rglob("virtio_balloon.ko"))
        self.guest = bed.uml(self.balloon, name=f"{tag}-guest", memory=f"{mib}M",
                             modules=(stock, module(bed)))
        self.guest.check("mount -t tmpfs -o size=100% tmpfs /mnt && "
                         f"insmod /modules/{side.driver}.ko")
        self.balloon.wait_driver()
        self.memory = self.balloon.query()["table"]
        self.took = self.memory * 3 // 4 // MIB * MIB

    def run(self):
        self.show("has booted", time.monotonic() - self.began)
        self.touch("fills its memory", self.free_mib() - SPARE_MIB)
        free, before = self.free_mib(), self.balloon.query()
        inflate_ms = self.move("gives it away", self.took)
        free_between, between = self.free_mib(), self.balloon.query()
        deflate_ms = self.move("gets it back", 0)
        free_after = self.free_mib()
        emptied = self.balloon.query()
        self.touch("fills it again", free_after - SPARE_MIB)
        after = self.balloon.query()
        result = {
            "side": self.side.name, "took": self.took, "inflate_ms": inflate_ms,
            "deflate_ms": deflate_ms, "messages": between["messages"] - before["messages"],
            "host_before": before["host-bytes"], "host_between": between["host-bytes"],
            "host_after": after["host-bytes"], "free": free, "free_between": free_between,
            "free_after": free_after,
        }
        result["complaints"] = list(self._complaints(result, between, emptied))
        return result

    def _complaints(self, result, between, emptied):
        if between["ballooned"] != self.took or emptied["ballooned"]:
            yield (f"{between['ballooned']} bytes were in the balloon, then "
                   f"{emptied['ballooned']}; expected {self.took}, then 0")
        if result["host_between"] > self.memory - self.took:
            yield (f"the host still held {result['host_between']} bytes of the guest, "
                   f"expected at most {self.memory - self.took}")
        # What the guest has not written to, the host holds or does not.
        if result["host_before"] - result["host_between"] < self.took - 2 * SPARE_MIB * MIB:
            yield (f"the host got {result['host_before'] - result['host_between']} bytes, "
                   f"expected about {self.took}")
        if result["free_after"] < result["free"] - SPARE_MIB:
            yield (f"{result['free_after']} MiB are free in the guest, expected "
                   f"{result['free']} as before")
        if result["host_after"] < result["host_before"] - 2 * SPARE_MIB * MIB:
            yield (f"the guest wrote to all of its memory again, and the host holds "
                   f"{result['host_after']} bytes of it, expected about "
                   f"{result['host_before']}")
        if between["discard-errors"] or between["refused-records"]:
            yield (f"{between['discard-errors']} discards failed and "
                   f"{between['refused-records']} records were refused, expected none")
        try:
            BalloonDriver(self.guest).check_log()
        except AssertionError as error:
            yield str(error).splitlines()[0]

    def end(self):
        self.guest.poweroff()

    # What happens

    def touch(self, what, mib):
        """The guest writes to so much memory, and frees it."""
        self._watch(what, lambda: self.guest.check(
            f"dd if=/dev/zero of=/mnt/it bs=1M count={mib} 2>/dev/null && rm /mnt/it",
            PATIENCE))

    def move(self, what, bytes_):
        """To a balloon of this size; in milliseconds."""
        begin = time.monotonic()
        self.balloon.qmp.events.clear()
        self.balloon.take(bytes_)
        while True:
            try:
                self.balloon.qmp.wait_event("BALLOON_SETTLED", deadline=FRAME)
                break
            except TimedOut:
                self.show(what, time.monotonic() - begin, ends=False)
                if time.monotonic() - begin > PATIENCE:
                    raise
        seconds = time.monotonic() - begin
        self.show(what, seconds)
        return seconds * 1000

    def _watch(self, what, work):
        """Show how it looks while that runs."""
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(work)
            while concurrent.futures.wait([future], FRAME).not_done:
                self.show(what, time.monotonic() - begin, ends=False)
            future.result()
        self.show(what, time.monotonic() - begin)

    def free_mib(self):
        return memory(self.guest)["MemFree"] * 4096 // MIB

    # What is shown

    def show(self, what, seconds, ends=True):
        """A line, which the next one overwrites unless this one ends it."""
        if not ends and not sys.stdout.isatty():
            return
        query = self.balloon.query()
        line = (f"  {what:<16} guest {self._bar(query['actual'])}"
                f"  host {self._bar(query['host-bytes'])}  {seconds:6.3f} s")
        print(f"\r{line}" if sys.stdout.isatty() else line,
              end="\n" if ends else "", flush=True)

    def _bar(self, bytes_):
        # The file is a little larger than the memory that the guest was given.
        filled = min(BAR, round(BAR * bytes_ / self.memory))
        return f"{'#' * filled}{'.' * (BAR - filled)} {bytes_ // MIB:4} M"


def table(results):
    def faster(key):
        return f"{results[0][key] / results[1][key]:,.1f} times faster"

    def mib(key):
        return [f"{result[key] // MIB:,} MiB" for result in results]

    rows = [
        ("", [result["side"] for result in results], ""),
        ("given to the host", mib("took"), ""),
        ("  in", [f"{result['inflate_ms']:,.1f} ms" for result in results],
         faster("inflate_ms")),
        ("  by messages", [f"{result['messages']:,}" for result in results], ""),
        ("given back in", [f"{result['deflate_ms']:,.1f} ms" for result in results],
         faster("deflate_ms")),
        ("the host held before", mib("host_before"), ""),
        ("  with the balloon full", mib("host_between"), ""),
        ("  when all is in use again", mib("host_after"), ""),
        ("free in the guest before", [f"{result['free']:,} MiB" for result in results], ""),
        ("  with the balloon full", [f"{result['free_between']:,} MiB"
                                     for result in results], ""),
        ("  with the balloon empty", [f"{result['free_after']:,} MiB"
                                      for result in results], ""),
    ]
    width = max(len(name) for name, _, _ in rows)
    say("")
    for name, values, remark in rows:
        columns = "".join(f"  {value:>14}" for value in values)
        say(f"  {name:<{width}}{columns}   {remark}".rstrip())


def say(text):
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
