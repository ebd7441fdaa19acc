#!/usr/bin/python3
"""The main job of umbra, on real parts: a Linux guest (User Mode Linux) reads and
writes a disk of qemu-storage-daemon through umbra, every block verified, while
the shadow is switched on and off.

	demo/shadow.py [--switches=N]

Exit status 0 means that every promise in the table held.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from bed import Bed, Fio                        # noqa: E402

PER_STEP = 25           # switches between two lines of progress; odd, so that the
                        # guest goes on in either mode in turn
REQUESTS_PER_STEP = 1000  # that it must complete there


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--switches", type=int, default=400, metavar="N",
                        help="how often to switch (at least 100; default 400)")
    options = parser.parse_args()
    if options.switches < 100:
        parser.error(f"--switches={options.switches}: expected 100 or more")

    bed = Bed()
    try:
        return run(bed, options.switches)
    finally:
        bed.stop()
        bed.remove()


def run(bed, switches):
    say("Starting qemu-storage-daemon (a file as a disk) and umbra in front of it.")
    umbra = bed.umbra(bed.backend(), name="demo")
    say("Booting Linux, whose disk goes through umbra.")
    guest = bed.uml(umbra)
    say(f"The guest is up; its rings are {mode(umbra)}.  Starting fio: random writes of "
        "4 KiB, 32 at a time,\neach read back and compared with its checksum.")
    load = Fio(guest).start().wait_progress()

    start = time.monotonic()
    completed_before = guest.disk_requests()
    shadowed = False
    for number in range(1, switches + 1):
        shadowed = not shadowed
        umbra.shadow(shadowed)
        if number % PER_STEP == 0:
            load.wait_progress(REQUESTS_PER_STEP)
            progress(number, switches, umbra, guest)
    seconds = time.monotonic() - start
    completed = guest.disk_requests() - completed_before
    moved = load.stop()                 # fails if fio saw any error
    vhost = umbra.vhost()
    guest_errors = kernel_errors(guest)
    print()
    guest.poweroff()

    queue = vhost["queues"][0]
    pauses = vhost["switches"]
    rows = [
        ("requests of the guest while switching", f"{completed:,} in {seconds:.1f} s"),
        ("verified by fio in all", f"{moved.writes:,} writes, {moved.reads:,} reads"),
        ("through the shadow ring", f"{queue['requests']:,} requests, "
         f"{(queue['bytes-out'] + queue['bytes-in']) / 1e6:,.1f} MB"),
        ("switches", f"{pauses['count']:,}, {pauses['failed']} failed"),
        ("longest pause that a switch caused", f"{pauses['longest-pause-us'] / 1000:.1f} ms"),
        ("errors that fio saw", "0"),
        ("errors in the guest's kernel log", str(len(guest_errors))),
    ]
    width = max(len(name) for name, _ in rows)
    say("")
    for name, value in rows:
        say(f"  {name:<{width}}  {value}")
    held = (pauses["count"] == switches and pauses["failed"] == 0 and not guest_errors
            and queue["requests"] > 0 and moved.reads > 0)
    say("")
    for line in guest_errors:
        say(f"  guest: {line}")
    say("All held." if held else "NOT all held.")
    return 0 if held else 1


def mode(umbra):
    return {"passthrough": "passed through", "shadowed": "shadowed"}[umbra.state()]


def progress(number, switches, umbra, guest):
    filled = 40 * number // switches
    line = (f"\r  [{'#' * filled}{'.' * (40 - filled)}] {number}/{switches} switches, "
            f"{guest.disk_requests():,} requests")
    print(line, end="" if sys.stdout.isatty() else "\n", flush=True)


def kernel_errors(guest):
    """Lines of the guest's kernel log that speak of trouble."""
    signs = ("I/O error", "BUG:", "WARNING:", "Oops", "blocked for more than")
    _, log = guest.run("dmesg")
    return [line for line in log.splitlines() if any(sign in line for sign in signs)]


def say(text):
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
