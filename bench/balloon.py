#!/usr/bin/python3
"""How fast a guest of 8 GiB gives 7 GiB to the host, and gets them back.

Three sides, a User Mode Linux guest each, with `umbra balloon`:

	stock	Linux's virtio_balloon; the device discards page by page, as QEMU's
	merged	Linux's virtio_balloon; the device sorts, merges, discards runs
	umbra	the project's driver (kmod/), and the device by the page-bitmap
		protocol

and the limit: raw, one fallocate(PUNCH_HOLE) over a file of as much memory,
populated and mapped alike.  The cases differ in what the guest did before:

	idle-4k		nothing: the host holds next to nothing of its memory
	touched-4k	wrote to all of its memory; the host has pages of 4 KiB
	touched-huge	the same; the host has huge pages (which is checked)
	fragmented-4k	the same, and still uses every other 64 KiB: half of it can
			go (raw punches just as many holes, one call each)

The sides take turns in each round, beginning with another one each time, since
the machine has other things to do.  Time runs from the QMP command `balloon` until
the event BALLOON_SETTLED, which is not rate-limited, has told that the device is at
the target, and the driver says the same (`driver-ballooned`).  After each inflation
the allocated blocks of the memory file must show that the host has got as many
bytes back as there are in the balloon (idle: that it holds none of them); else the
benchmark ends with an error.

One JSON object a line:

	case			as above
	bytes			that went into the balloon, and came back
	stock_ms, merged_ms, umbra_ms, raw_punch_ms	medians of the rounds
	stock_over_umbra, merged_over_umbra, umbra_over_raw_punch	ratios of these
	stock_over_umbra_by_round	[least, median, most] ratio of one round
	deflate_stock_ms, deflate_merged_ms, deflate_umbra_ms, deflate_stock_over_umbra
	stages			of umbra inflating: what part of umbra_ms each one took, by
				its medians.  allocate, send: the driver; translate, discard:
				the device.  Driver and device work side by side, so that the
				sum may be above 1; what is missing is waking up
	stages_ms		these medians
	messages, discards	of each side, inflating; medians
	freed			what the host got back: [least, most] for each side
	ranges			[least, most] of everything in ms
	by_round		all of it, a list for each name
	guest_bytes
	rounds, cpus, load_average	as of every benchmark (common.py)
"""

import contextlib
import re
import statistics
from pathlib import Path

from common import Output, arguments, begin, by_round, least_most, note, on_bed, rotated
from balloon_sides import (GIB, GUEST_BYTES, SIDES, STAGES, Side, check_freed, check_huge,
                           compact, huge_memory, raw_punch)

BALLOON_BYTES = 7 * GIB
#: A guest that has touched all, and what is left of two that have.
NEEDED_BYTES = GUEST_BYTES + 6 * GIB


class Case:
    def __init__(self, prepare, bytes_=BALLOON_BYTES, huge=False, fresh=False):
        self.prepare = prepare          # Side's
        self.bytes = bytes_
        self.huge = huge
        self.fresh = fresh              # a new guest for each turn
        self.is_held = prepare is not Side.leave


CASES = {
    "idle-4k": Case(Side.leave),
    "touched-4k": Case(Side.touch),
    "touched-huge": Case(Side.touch, huge=True, fresh=True),
    "fragmented-4k": Case(Side.fragment, BALLOON_BYTES // 2, fresh=True),
}


def available_bytes():
    found = re.search(r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    return int(found[1]) << 10


class Bench:
    """One case."""

    def __init__(self, bed, name):
        self.bed = bed
        self.name = name
        self.case = CASES[name]
        self.sides = {}
        self.moves = {side: [] for side in SIDES}       # inflating
        self.ms = {}                                    # name of the figure: of each round

    def run(self, rounds):
        with huge_memory(self.bed) if self.case.huge else contextlib.nullcontext():
            try:
                for number in range(rounds):
                    self._round(number)
                    note(f"{self.name} {number + 1}/{rounds}: " + ", ".join(
                        f"{name} {values[-1]:.1f}" for name, values in self.ms.items()))
            finally:
                for side in self.sides.values():
                    side.end()

    def _round(self, number):
        for name in rotated([*SIDES, "raw"], number):
            if self.case.huge:
                compact()
            if name == "raw":
                self._record("raw_punch_ms", raw_punch(
                    self.bed.memory_directory, self.case.bytes, self.case.is_held,
                    pieces=self.case.prepare is Side.fragment, huge=self.case.huge))
            else:
                self._turn(name)

    def _turn(self, name):
        side = self.sides.pop(name, None) or Side(self.bed, name)
        self.case.prepare(side)
        if self.case.huge:
            check_huge(side.huge_bytes(), self.case.bytes)
        move = side.move(self.case.bytes)
        check_freed(move, self.case.bytes, self.case.is_held)
        self.moves[name].append(move)
        self._record(f"{name}_ms", move.ms)
        self._record(f"deflate_{name}_ms", side.move(0).ms)
        if self.case.fresh:
            side.end()
        else:
            self.sides[name] = side

    def _record(self, name, ms):
        self.ms.setdefault(name, []).append(ms)

    def line(self):
        """The object for the output."""
        ms = {name: statistics.median(values) for name, values in self.ms.items()}
        line = {"case": self.name, "bytes": self.case.bytes, "guest_bytes": GUEST_BYTES}
        for name in ("stock_ms", "merged_ms", "umbra_ms", "raw_punch_ms"):
            line[name] = round(ms[name], 3)
        line["stock_over_umbra"] = round(ms["stock_ms"] / ms["umbra_ms"], 2)
        line["merged_over_umbra"] = round(ms["merged_ms"] / ms["umbra_ms"], 2)
        line["umbra_over_raw_punch"] = round(ms["umbra_ms"] / ms["raw_punch_ms"], 3)
        line["stock_over_umbra_by_round"] = by_round(
            self.ms["stock_ms"], self.ms["umbra_ms"], 2)
        for side in SIDES:
            line[f"deflate_{side}_ms"] = round(ms[f"deflate_{side}_ms"], 3)
        line["deflate_stock_over_umbra"] = round(
            ms["deflate_stock_ms"] / ms["deflate_umbra_ms"], 2)
        stages = {stage: statistics.median(move.stages[stage] for move in self.moves["umbra"])
                  for stage in STAGES}
        line["stages"] = {stage: round(stages[stage] / ms["umbra_ms"], 4) for stage in STAGES}
        line["stages_ms"] = {stage: round(stages[stage], 3) for stage in STAGES}
        for what in ("messages", "discards"):
            line[what] = {side: statistics.median(getattr(move, what) for move in moves)
                          for side, moves in self.moves.items()}
        line["freed"] = {side: least_most([move.before - move.after for move in moves], 0)
                         for side, moves in self.moves.items()}
        line["ranges"] = {name: least_most(values, 3) for name, values in self.ms.items()}
        line["by_round"] = {name: [round(value, 3) for value in values]
                            for name, values in self.ms.items()}
        return line


def run(bed, options, output):
    for name in options.case or CASES:
        bench = Bench(bed, name)
        bench.run(options.rounds)
        line = bench.line()
        output.write(line)
        note(f"{name}: stock/umbra {line['stock_over_umbra']:.1f}, umbra/raw "
             f"{line['umbra_over_raw_punch']:.2f}, deflating stock/umbra "
             f"{line['deflate_stock_over_umbra']:.1f}")


def main():
    parser = arguments(__doc__, CASES)
    options = begin(parser)
    if available_bytes() < NEEDED_BYTES:
        parser.error(f"{available_bytes() >> 20} MiB of memory are available, expected "
                     f"{NEEDED_BYTES >> 20}: for a guest of {GUEST_BYTES >> 20} MiB that "
                     "touches all of its memory")
    on_bed(lambda bed: run(bed, options, Output(options)))


if __name__ == "__main__":
    main()
