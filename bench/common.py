"""What the benchmarks share: arguments, turns, the spread of rounds, lines of JSON, and
a bed that is taken down whatever happens.

Each line says under what it was measured:

	rounds		of which its figures are medians
	cpus		that all of it ran on
	load_average	of the machine, before and after
"""

import argparse
import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path

#: Where the bed is.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))


def note(text):
    print(text, file=sys.stderr, flush=True)


def arguments(doc, cases=()):
    """A parser; the benchmark's own arguments are added to it."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    if cases:
        parser.add_argument("--case", action="append", choices=cases,
                            help="only this one; may be repeated")
    parser.add_argument("--cpus", type=lambda text: set(map(int, text.split(","))),
                        help="run everything on these only, e.g. 0")
    parser.add_argument("--output", type=Path, help="default: standard output")
    return parser


def begin(parser):
    """The arguments, judged; from now on all runs where they say."""
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be positive")
    if options.cpus:
        os.sched_setaffinity(0, options.cpus)   # children inherit it
    return options


class Output:
    """JSON, an object a line."""

    def __init__(self, options):
        self.rounds = options.rounds
        self._file = options.output.open("w") if options.output else sys.stdout
        self._load = os.getloadavg()[0]

    def write(self, line):
        """What was measured since the line before."""
        before, self._load = self._load, os.getloadavg()[0]
        line.update(rounds=self.rounds, cpus=sorted(os.sched_getaffinity(0)),
                    load_average=[round(before, 2), round(self._load, 2)])
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def rotated(names, number):
    """All of them, in each round another one first: the machine has other things to
    do, and whatever they disturb shall not always be the same."""
    names = list(names)
    first = number % len(names)
    return names[first:] + names[:first]


def least_most(values, digits):
    return [round(f(values), digits) for f in (min, max)]


def by_round(values, others, digits):
    """[least, median, most] of the ratios of one round."""
    ratios = [value / other for value, other in zip(values, others)]
    return [round(f(ratios), digits) for f in (min, statistics.median, max)]


def on_bed(run):
    """Call it with a bed of its own.  What was started is ended, and what it said is
    shown if it went wrong."""
    from bed import Bed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    began = time.monotonic()
    bed = Bed()
    try:
        run(bed)
        bed.stop()
    except BaseException:
        for title, text in bed.report():
            note(f"--- {title}\n{text}")
        try:
            bed.stop()
        except Exception as error:
            note(f"while ending: {error}")
        raise
    finally:
        bed.remove()
    note(f"took {time.monotonic() - began:.0f} s")
