#!/usr/bin/python3
"""What a buffer costs on a ring, and with a shadow queue between two rings.

	ring.py [--rounds=N] --program=build/bench/ring --output=FILE

Runs the ring program.  Where the machine lets nobody count instructions (most
virtual ones), fills them in from valgrind: instructions of a loop twice as long
less those of the loop, which are exact and the same every time.
"""

import argparse
import json
import re
import subprocess
import sys

BUFFERS = 32768         # a multiple of every batch


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    done = subprocess.run([options.program, f"--rounds={options.rounds}"],
                          check=True, text=True, stdout=subprocess.PIPE)
    with open(options.output, "w", encoding="utf-8") as output:
        for line in done.stdout.splitlines():
            case = json.loads(line)
            for which in ("ring", "shadow"):
                if case[f"{which}_instructions"] is None:
                    case[f"{which}_instructions"] = instructions(options.program, which, case)
            case["instructions_shadow_over_ring"] = round(
                case["shadow_instructions"] / case["ring_instructions"], 3)
            if case["case"] == "regions":
                if case["regions"] == 1 and not case["translated"]:
                    one = case["shadow_instructions"]
                case["instructions_shadow_over_one_region"] = round(
                    case["shadow_instructions"] / one, 3)
            output.write(json.dumps(case) + "\n")
            print(f"batch {case['batch']:>2}, chain {case['chain']}"
                  f"{' indirect' if case['indirect'] else '':9}"
                  f" {case['ring_ns']:7.1f} ns {case['shadow_ns']:7.1f} ns"
                  f"  x {case['shadow_over_ring']:.2f}"
                  f"  {case['ring_instructions']:6.0f} and {case['shadow_instructions']:6.0f}"
                  f" instructions  x {case['instructions_shadow_over_ring']:.2f}"
                  f"{of_regions(case)}", file=sys.stderr)


def of_regions(case):
    if case["case"] != "regions":
        return ""
    return (f"  {case['regions']:>2} regions{' translated' if case['translated'] else '':11}"
            f" x {case['shadow_over_one_region']:.2f}"
            f" x {case['instructions_shadow_over_one_region']:.2f}")


def instructions(program, which, case):
    """Of one buffer."""
    def total(buffers):
        loop = f"{which},{case['batch']},{case['chain']},{int(case['indirect'])},{buffers}"
        if case["case"] == "regions":
            loop += f",{case['regions']},{int(case['translated'])}"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program,
             f"--loop={loop}"], check=True, text=True, stderr=subprocess.PIPE)
        return int(re.search(r"Collected : (\d+)", done.stderr)[1])
    return round((total(2 * BUFFERS) - total(BUFFERS)) / BUFFERS, 1)


if __name__ == "__main__":
    main()
