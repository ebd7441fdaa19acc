"""Fixtures.  See bed/__init__.py for what a test can start."""

import re
import signal

import pytest

from bed import Bed

FAILED = pytest.StashKey()


def pytest_configure():
    """A test run that is told to end puts its guests to bed first.  Its programs then
    hear these signals as well, also where it was itself started by nohup(1)."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the last lines of every log of its bed."""
    outcome = yield
    report = outcome.get_result()
    bed = getattr(item, "funcargs", {}).get("bed")
    if report.failed and bed:
        item.stash[FAILED] = True
        report.sections.extend(bed.report())


@pytest.fixture
def bed(request):
    """A bed for one test.  The logs of a failed test are kept in the build
    folder, under bed/failed/."""
    bed = Bed()
    try:
        yield bed
    finally:
        kept = bed.cache / "failed" / re.sub(r"\W+", "-", request.node.name)
        try:
            bed.stop()
        except BaseException:
            bed.remove(keep_logs_in=kept)
            raise
        bed.remove(keep_logs_in=kept if FAILED in request.node.stash else None)
