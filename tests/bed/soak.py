"""How long a storm is: short in `make check`, long in `make soak`, which keeps its counts."""

import json
import os
import time

LONG = bool(os.environ.get("UMBRA_SOAK"))


class Storm:
    """A test that repeats; each round's number comes from rounds(), and what it did is one
    line of JSON in the file that UMBRA_SOAK names, once it has held to its end."""

    def __init__(self, name, short, long):
        self.name, self.count = name, long if LONG else short
        self._start = time.monotonic()

    def rounds(self):
        return range(self.count)

    def held(self, **counts):
        if LONG:
            line = {"storm": self.name, "rounds": self.count,
                    "seconds": round(time.monotonic() - self._start), **counts}
            with open(os.environ["UMBRA_SOAK"], "a") as report:
                report.write(json.dumps(line) + "\n")
