"""What a target of `umbra balloon` is measured against, and how far it may go, with a
front-end of our own: memory tables that are not the guest's memory, or change."""

import pytest

from bed import Frontend, QmpError
from bed.frontend import PAGE, MemoryFile, Region, extent

MIB = 1 << 20

#: The front-end's own rings lie far above, and are not the guest's.
OURS = "--only-region=0-64G"


def region(gpa, mib):
    return Region(gpa, mib * MIB, MemoryFile.memfd(mib * MIB))


def told(driver):
    """Bytes that the driver shall have in the balloon."""
    return driver.config()[0] * PAGE


def test_a_table_that_grows_does_not_move_the_target(bed):
    balloon = bed.balloon(OURS)
    driver = Frontend(bed, balloon, [region(1 << 30, 16)])
    balloon.set(12 * MIB)
    assert told(driver) == 4 * MIB
    driver.add_region(region(1 << 32, 8))
    assert told(driver) == 4 * MIB
    query = balloon.query()
    assert query["memory"] == 24 * MIB and query["target"] == 20 * MIB
    # Said anew, it is meant of all.
    balloon.set(12 * MIB)
    assert told(driver) == 12 * MIB


def test_a_table_that_shrinks_never_leaves_less_than_was_asked_for(bed):
    balloon = bed.balloon(OURS)
    dimm = region(1 << 32, 8)
    driver = Frontend(bed, balloon, [region(1 << 30, 16), dimm])
    balloon.set(12 * MIB)
    assert told(driver) == 12 * MIB
    driver.remove_region(dimm)
    assert told(driver) == 4 * MIB
    assert balloon.query()["target"] == 12 * MIB


def test_a_region_that_is_not_to_be_touched_is_not_counted_and_keeps_its_content(bed):
    balloon = bed.balloon("--only-region=0x40000000-0x50000000")
    ram, nvdimm = region(1 << 30, 16), region(1 << 32, 8)
    driver = Frontend(bed, balloon, [ram, nvdimm])
    query = balloon.query()
    assert query["memory"] == query["table"] == 16 * MIB and query["base"] == "table"
    assert [(r["gpa"], r["size"], r["page-size"], r["given-back"])
            for r in query["regions"][:2]] == [(1 << 30, 16 * MIB, PAGE, True),
                                               (1 << 32, 8 * MIB, PAGE, False)]
    balloon.set(12 * MIB)
    assert told(driver) == 4 * MIB
    driver.inflate(extent(nvdimm.pfn, 20), extent(ram.pfn, 20))
    assert nvdimm.file.intact() == set(range(nvdimm.pages))
    assert ram.file.held == 15 * MIB
    assert "--only-region=" in query["regions"][1]["reason"]


def test_the_operator_can_say_how_much_memory_the_guest_has(bed):
    balloon = bed.balloon("--memory=16M", "--target=12M")
    driver = Frontend(bed, balloon, [region(1 << 30, 16), region(1 << 32, 64)])
    query = balloon.query()
    assert query["memory"] == 16 * MIB and query["base"] == "option"
    assert told(driver) == 4 * MIB


def test_so_much_can_be_taken_instead_of_left(bed):
    balloon = bed.balloon()
    driver = Frontend(bed, balloon, [region(1 << 30, 16)])
    balloon.take(3 * MIB)
    assert told(driver) == balloon.query()["take"] == 3 * MIB
    driver.add_region(region(1 << 32, 8))
    assert told(driver) == 3 * MIB
    balloon.take(0)
    assert told(driver) == 0


def test_a_target_below_the_floor_is_refused_unless_it_is_forced(bed):
    balloon = bed.balloon(OURS, "--floor=10M")
    driver = Frontend(bed, balloon, [region(1 << 30, 16)])
    balloon.set(12 * MIB)
    for low in (lambda **more: balloon.set(8 * MIB, **more),
                lambda **more: balloon.take(8 * MIB, **more)):
        with pytest.raises(QmpError, match="leave the guest 8 of 16 MiB.*floor of 10 MiB"):
            low()
        assert told(driver) == 4 * MIB
        low(force=True)
        assert told(driver) == 8 * MIB
        balloon.set(12 * MIB)


def test_without_a_word_the_floor_leaves_a_guest_alive(bed):
    balloon = bed.balloon(OURS)
    Frontend(bed, balloon, [region(1 << 30, 16)])
    assert balloon.query()["floor"] == 8 * MIB
    with pytest.raises(QmpError, match="floor of 8 MiB"):
        balloon.set(1)


def test_a_target_that_was_set_before_there_was_a_guest_is_held_at_the_floor(bed):
    balloon = bed.balloon(OURS, "--target=1M")
    driver = Frontend(bed, balloon, [region(1 << 30, 16)])
    assert told(driver) == 8 * MIB
    assert balloon.query()["target"] == 8 * MIB
    assert "the guest keeps the floor" in balloon.process.output()
