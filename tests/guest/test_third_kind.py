"""A third kind of device, made of tables (tests/entropy): umbra's session, server and
workers serve it as they serve their own."""

import re
import struct

import pytest
from bed import balloon_driver
from bed.balloon_driver import REPOSITORY
from bed.umbra import UmbraProgram
from bed.virtio_id import ENTROPY

DRIVER = REPOSITORY / "tests/entropy/driver"
SOURCE = "drivers/char/hw_random/virtio-rng.c"

#: Words of eight bytes that the device gives: the first is as good a mark as any.
MARK = 0x756D627261000000
WORDS = 1 << 20


class EntropyProgram(UmbraProgram):
    device_id = ENTROPY

    def __init__(self, bed, name="entropy0"):
        numbers = bed.path("bytes")
        numbers.write_bytes(b"".join(struct.pack(">Q", MARK + i) for i in range(WORDS)))
        super().__init__(bed, name, bed.build / "tests/entropy/entropy",
                         f"--bytes={numbers}")


def read(guest, words):
    """As many words as the guest's kernel gives of /dev/hwrng."""
    lines = guest.check(f"dd if=/dev/hwrng bs=64 count={words // 8} 2>/dev/null | "
                        "hexdump -v -e '8/1 \"%02x\" \"\\n\"'").split()
    return [int(line, 16) - MARK for line in lines if re.fullmatch("[0-9a-f]{16}", line)]


@pytest.fixture
def entropy(bed):
    return EntropyProgram(bed)


@pytest.fixture
def guest(bed, entropy):
    guest = bed.uml(entropy, modules=[balloon_driver.module(bed, "uml", DRIVER, SOURCE)])
    load(guest)
    return guest


def load(guest):
    """The driver, and make the device the one that the kernel asks (User Mode Linux has
    another)."""
    guest.check("insmod /modules/virtio-rng.ko")
    guest.check("echo virtio_rng.0 >/sys/class/misc/hw_random/rng_current")


def test_a_guest_gets_the_bytes_of_an_entropy_device(entropy, guest):
    words = read(guest, 4096)
    assert len(words) == 4096
    # The kernel takes some for itself in between.
    assert all(0 <= a < b < WORDS for a, b in zip(words, words[1:]))
    # The driver sets its ring up anew.
    guest.check("rmmod virtio-rng")
    load(guest)
    more = read(guest, 64)
    assert len(more) == 64 and words[-1] < more[0]
    assert guest.poweroff() == 0
    entropy.terminate()


def test_its_program_has_all_that_a_program_of_umbras_has(bed, entropy, guest):
    assert "umbra" in entropy.qmp.execute("query-version")["package"]
    assert read(guest, 64)[-1] < WORDS
    other = bed.control_client(entropy)
    other.execute("quit")
    entropy.check_end()
    assert "bytes were given" in entropy.process.output()
    guest.kill()
