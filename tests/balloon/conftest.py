"""Memory in pages larger than 4 KiB."""

import fcntl
import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def huge_directory(bed):
    """A tmpfs in huge pages, for as long as the test lasts."""
    place = bed.path("huge")
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "huge=always", "none", place])
    if done.returncode:
        pytest.skip("tmpfs with huge pages cannot be mounted here")
    yield place
    bed.stop()
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def huge_guests(huge_directory, bed):
    """The same, and it is where guests have their memory."""
    usual, bed.memory_directory = bed.memory_directory, huge_directory
    yield huge_directory
    bed.memory_directory = usual


#: Pages of 2 MiB that a test may use.
RESERVED = 16


@pytest.fixture
def reserved_pages():
    """Huge pages for hugetlbfs; the flags of a memfd in them."""
    path = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    with open(path) as number:
        # One at a time: the halves of `make check` run side by side.
        fcntl.flock(number, fcntl.LOCK_EX)
        try:
            before = int(path.read_text())
            path.write_text(str(before + RESERVED))
        except OSError as error:
            pytest.skip(f"no huge pages can be reserved here: {error}")
        if int(path.read_text()) < before + RESERVED:
            path.write_text(str(before))
            pytest.skip("this machine has no memory in huge pages to reserve")
        yield os.MFD_HUGETLB | os.MFD_HUGE_2MB
        path.write_text(str(before))
