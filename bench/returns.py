"""How long a guest waits once its disk's back-end is there again.

	bench/returns.py [--rounds=N] [--cpus=LIST] [--output=FILE]

A disk (the project's own, tests/blk_back) is killed with four requests in flight, stays away for
a while, and is started again; what is measured goes from its listen() to the first completion
that the guest sees.  It is known to some 0.1 ms: the listening socket is looked for in
/proc/net/unix, without a pause.  Each case is a line:

	held		umbra holds the device and seeks the next back-end by itself
	limit		the least that anybody can need: a front-end without umbra, which is there at
			once when the back-end listens, sets it up and lets it serve

The rounds of both are interleaved.  Times are in milliseconds.
"""

import statistics
import time

from common import arguments, begin, note, on_bed, Output

#: Seconds that it is away.
AWAY = [0, 0.1, 1, 5]


def listening_since(disk):
    """The moment, as soon as it is there."""
    from bed.backend import listens
    while not listens(disk.socket):
        assert disk.process.alive()
    return time.monotonic()


def until_completed(ring):
    while ring.used == ring.seen:
        pass
    return time.monotonic()


class Held:
    def __init__(self, bed):
        from bed import BlkBack, DiskVmm
        self.disk = BlkBack(bed, name="held", journal=False)
        self.umbra = bed.umbra(self.disk, shadow="on",
                               options=["--reconnect", "--device-type=block"])
        self.ring = DiskVmm(bed, self.umbra).begin().disk_ring().start()
        self.ring.write(1, 1)
        self.ring.drain(self.disk)

    def round(self, away):
        self.disk.process.kill()
        self.umbra.wait_state("held")
        for sector in range(4):
            self.ring.write(sector, 1)
        time.sleep(away)
        self.disk.socket.unlink()
        self.disk.start(waits=False)
        start = listening_since(self.disk)
        end = until_completed(self.ring)
        self.ring.drain(self.disk)
        self.umbra.wait_state("shadowed")
        # A pause between attempts grows over returns that do not last.
        self.ring.write(1, 1)
        self.ring.drain(self.disk)
        return 1000 * (end - start)


class Limit:
    def __init__(self, bed):
        from bed import BlkBack, DiskVmm
        self.disk = BlkBack(bed, name="limit", journal=False)
        self.vmm = DiskVmm(bed, self.disk).begin()
        self.ring = self.vmm.disk_ring().start()

    def round(self, away):
        self.disk.process.kill()
        self.vmm.wait_end()
        for sector in range(4):
            self.ring.write(sector, 1)
        self.disk.socket.unlink()
        self.disk.start(waits=False)
        start = listening_since(self.disk)
        self.vmm.move(self.disk)
        end = until_completed(self.ring)
        self.ring.drain(self.disk)
        return 1000 * (end - start)


def spread(values):
    """[median, 99th of a hundred, most]"""
    values = sorted(values)
    return [round(v, 2) for v in (
        statistics.median(values), values[min(len(values) - 1, len(values) * 99 // 100)],
        values[-1])]


def run(bed, options, output):
    held, limit = Held(bed), Limit(bed)
    for away in AWAY:
        number = options.rounds if away < 1 else max(1, options.rounds // 5)
        times, least = [], []
        for _ in range(number):
            times.append(held.round(away))
            least.append(limit.round(away))
        output.write({"case": "return", "away_s": away, "returns": number,
                      "held_ms_median_p99_most": spread(times),
                      "limit_ms_median_p99_most": spread(least)})
        note(f"away {away} s: {spread(times)} ms, limit {spread(least)} ms")


def main():
    parser = arguments(__doc__)
    parser.set_defaults(rounds=100)
    options = begin(parser)
    on_bed(lambda bed: run(bed, options, Output(options)))


if __name__ == "__main__":
    main()
