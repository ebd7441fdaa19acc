"""What an operator reads on standard error, line by line."""

import os
import re
import subprocess
from datetime import datetime, timedelta, timezone

from bed.wait import PATIENCE
from simulated import free_of_findings

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ")


def failing(bed, log, **environment):
    """The lines of a program that ends by an error of its device."""
    knobs = bed.path("knobs")
    knobs.mkdir(exist_ok=True)
    (knobs / "fail").write_text("simulated: the end")
    with open(log, "w") as sink:
        status = subprocess.run(
            [bed.build / "tests/cli/umbra-simulated", "shadow", "--name=disk7",
             f"--socket-path={bed.path('vm')}", f"--backend=unix:{knobs}"],
            stderr=sink, timeout=PATIENCE,
            env={**os.environ, **{name: value(sink) for name, value in environment.items()}})
    assert status.returncode == 1
    text = log.read_text()
    free_of_findings(text)
    return text.splitlines()


def test_a_line_has_a_time_and_the_devices_name(bed):
    line = failing(bed, bed.path("log"))[-1]
    stamp = STAMP.match(line)
    assert stamp, line
    assert line[stamp.end():] == "umbra disk7: error: simulated: the end"
    when = datetime.fromisoformat(stamp.group().strip().replace("Z", "+00:00"))
    assert abs(datetime.now(timezone.utc) - when) < timedelta(seconds=2 * PATIENCE)


def test_the_journal_stamps_lines_itself(bed):
    def journal(sink):
        status = os.fstat(sink.fileno())
        return f"{status.st_dev}:{status.st_ino}"

    line = failing(bed, bed.path("log"), JOURNAL_STREAM=journal)[-1]
    assert line == "umbra disk7: error: simulated: the end"


def test_a_log_that_is_not_the_services_journal_has_times(bed):
    """Started by a service, whose journal it is, with standard error elsewhere."""
    for stream in ("5:7", "", "nonsense"):
        line = failing(bed, bed.path("log"), JOURNAL_STREAM=lambda _, text=stream: text)[-1]
        assert STAMP.match(line), line
