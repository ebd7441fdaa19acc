#!/usr/bin/python3
"""What a buffer costs on a ring, and with a shadow queue between two rings.

	ring.py [--rounds=N] [--buffers=N] [--case=NAME] [--cpus=LIST] [--output=FILE]

A shadow queue works two rings, so 2.0 is the limit of shadow_over_ring: what is above
is the shadow queue's own.  The two are measured in turn, a figure is the median of the
rounds.  Where the machine lets nobody count instructions (most virtual ones), they come
from valgrind: instructions of a loop twice as long less those of the loop, which are
exact and the same every time.

The cases named "regions" ask what looking addresses up costs: the guest's memory is 1,
8 or 64 regions, and the device sees them where the guest does or, translated,
elsewhere.  All layouts are measured in turn in each round.

One JSON object a line:

	case		"ring" or "regions"
	regions, translated	of "regions": the layout
	batch, chain	buffers published at a time; segments of a buffer
	indirect	whether INDIRECT_DESC is negotiated on both rings
	ring_ns, shadow_ns			nanoseconds per buffer, of the thread's
						processor time
	ring_instructions, shadow_instructions	per buffer
	shadow_over_ring, instructions_shadow_over_ring		ratios of these
	shadow_over_one_region, instructions_shadow_over_one_region
						of "regions": the shadow's by that of
						one region that is not translated
	buffers					in each measurement
	rounds, cpus, load_average		as of every benchmark (common.py)
"""

import json
import os
import re
import statistics
import subprocess
from pathlib import Path

from common import Output, arguments, begin, note, rotated

PROGRAM = (Path(__file__).resolve().parents[1] / os.environ.get("UMBRA_BUILD", "build")
           / "bench/ring")
WHICH = ("ring", "shadow")
COUNTED = 32768         # buffers of the shorter loop; a multiple of every batch

#: name: groups of what is measured in turn: (batch, chain, indirect) and a layout
CASES = {
    "ring": [[(batch, chain, indirect, None)]
             for chain, indirect in ((1, 0), (3, 0), (3, 1)) for batch in (1, 8, 32)],
    "regions": [[(32, chain, 0, (regions, translated))
                 for regions in (1, 8, 64) for translated in (0, 1)] for chain in (1, 3)],
}


def words(which, shape, buffers):
    batch, chain, indirect, layout = shape
    return ",".join(map(str, (which, batch, chain, indirect, buffers, *(layout or ()))))


def measure(which, shape, buffers):
    """{"ns": ..., "instructions": ... or None}, of one buffer"""
    done = subprocess.run([PROGRAM, f"--measure={words(which, shape, buffers)}"],
                          check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def count(which, shape):
    """Instructions of one buffer."""
    def total(buffers):
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", PROGRAM,
             f"--loop={words(which, shape, buffers)}"],
            check=True, text=True, stderr=subprocess.PIPE)
        return int(re.search(r"Collected : (\d+)", done.stderr)[1])
    return round((total(2 * COUNTED) - total(COUNTED)) / COUNTED, 1)


def figures(case, shape, rounds, buffers):
    """One line; rounds: of each which, what was measured."""
    batch, chain, indirect, layout = shape
    line = {"case": case, "batch": batch, "chain": chain, "indirect": bool(indirect)}
    if layout:
        line.update(regions=layout[0], translated=bool(layout[1]))
    for which in WHICH:
        line[f"{which}_ns"] = round(
            statistics.median(cost["ns"] for cost in rounds[which]), 2)
        counts = [cost["instructions"] for cost in rounds[which]]
        line[f"{which}_instructions"] = (
            count(which, shape) if None in counts else statistics.median(counts))
    line["shadow_over_ring"] = round(line["shadow_ns"] / line["ring_ns"], 3)
    line["instructions_shadow_over_ring"] = round(
        line["shadow_instructions"] / line["ring_instructions"], 3)
    line["buffers"] = buffers
    return line


def run_group(case, shapes, options, output):
    results = {shape: {which: [] for which in WHICH} for shape in shapes}
    for number in range(options.rounds):
        for shape, which in rotated([(s, w) for s in shapes for w in WHICH], number):
            results[shape][which].append(measure(which, shape, options.buffers))
    one = None
    for shape in shapes:
        line = figures(case, shape, results[shape], options.buffers)
        if case == "regions":
            one = one or line
            line["shadow_over_one_region"] = round(line["shadow_ns"] / one["shadow_ns"], 3)
            line["instructions_shadow_over_one_region"] = round(
                line["shadow_instructions"] / one["shadow_instructions"], 3)
        output.write(line)
        note(say(line))


def say(line):
    text = (f"batch {line['batch']:>2}, chain {line['chain']}"
            f"{' indirect' if line['indirect'] else '':9}"
            f" {line['ring_ns']:7.1f} ns {line['shadow_ns']:7.1f} ns"
            f"  x {line['shadow_over_ring']:.2f}"
            f"  {line['ring_instructions']:6.0f} and {line['shadow_instructions']:6.0f}"
            f" instructions  x {line['instructions_shadow_over_ring']:.2f}")
    if line["case"] == "regions":
        text += (f"  {line['regions']:>2} regions{' translated' if line['translated'] else '':11}"
                 f" x {line['shadow_over_one_region']:.2f}"
                 f" x {line['instructions_shadow_over_one_region']:.2f}")
    return text


def main():
    parser = arguments(__doc__, CASES)
    parser.add_argument("--buffers", type=int, default=2000000,
                        help="of each measurement; default: 2000000")
    options = begin(parser)
    if options.buffers < 1000:
        parser.error("--buffers: at least 1000")
    output = Output(options)
    for case in options.case or CASES:
        for shapes in CASES[case]:
            run_group(case, shapes, options, output)


if __name__ == "__main__":
    main()
