"""What of a QEMU machine's memory table is its guest's memory: the balloon must not
take a region of virtio-mem, an NVDIMM or a DIMM that is not on line for it.

With trixie's QEMU, and Linux's own driver.
"""

from bed import kernel, wait_until
from bed.balloon_driver import memory as meminfo

MIB = 1 << 20

VIRTIO_MEM = ("-object", "memory-backend-memfd,id=vm0,size=1G,share=on,reserve=off",
              "-device", "virtio-mem-pci,memdev=vm0,id=vmem,requested-size=0")


def boot(bed, balloon, **more):
    stock = next(kernel.fetch(bed.cache, "6.12").modules.rglob("virtio_balloon.ko"))
    guest = bed.qemu(balloon, linux="6.12", memory="256M", room="8G", modules=[stock],
                     parameters=("init_on_alloc=0",), **more)
    guest.check("insmod /modules/virtio_balloon.ko")
    balloon.wait_driver()
    return guest


def free(guest):
    return meminfo(guest)["MemFree"] * 4096


def test_a_guest_keeps_what_it_was_to_keep_whatever_else_the_table_has(bed):
    balloon = bed.balloon("--stall=60000")
    nvdimm = bed.path("pmem")
    nvdimm.write_bytes(b"precious" * (64 * MIB // 8))
    guest = boot(bed, balloon, words=(
        *VIRTIO_MEM, "-machine", "nvdimm=on",
        "-object", f"memory-backend-file,id=nv,mem-path={nvdimm},size=64M,share=on",
        "-device", "nvdimm,memdev=nv,id=nvd",
        "-object", "memory-backend-memfd,id=iv,size=32M,share=on",
        "-device", "ivshmem-plain,memdev=iv"))
    query = balloon.reach(112 * MIB)
    assert query["base"] == "guest" and query["memory"] < 256 * MIB < query["table"]
    assert query["ballooned"] == query["memory"] - 112 * MIB
    assert free(guest) > 32 * MIB
    assert "Out of memory" not in guest.check("dmesg")


def test_a_target_for_a_guest_that_starts_is_measured_by_what_it_has(bed):
    balloon = bed.balloon("--stall=60000", "--target=112M")
    guest = boot(bed, balloon, words=VIRTIO_MEM)
    query = wait_until(lambda: (query := balloon.query())["phase"] == "settled" and query,
                       "the guest to shrink")
    assert query["ballooned"] == query["memory"] - 112 * MIB
    assert free(guest) > 32 * MIB


def test_memory_that_is_plugged_in_and_not_on_line_moves_no_target(bed):
    balloon = bed.balloon("--stall=60000")
    guest = boot(bed, balloon)
    guest.check("echo offline >/sys/devices/system/memory/auto_online_blocks")
    before = balloon.reach(112 * MIB)
    guest.monitor.execute("object-add", {"qom-type": "memory-backend-memfd", "id": "dimm",
                                         "size": 512 * MIB, "share": True})
    guest.monitor.execute("device_add", {"driver": "pc-dimm", "id": "dimm0",
                                         "memdev": "dimm"})
    wait_until(lambda: balloon.query()["table"] == before["table"] + 512 * MIB,
               "the DIMM to be in the table")
    query = balloon.query()
    assert (query["take"], query["memory"]) == (before["take"], before["memory"])
    # On line, it is the guest's, and not the balloon's before it is asked for.
    guest.check("""cd /sys/devices/system/memory
        until [ $(cat memory*/state | grep -c offline) -ge 4 ]; do usleep 10000; done
        for block in memory*; do
            grep -q offline $block/state && echo online_movable >$block/state; done; true""")
    query = wait_until(
        lambda: balloon.qmp.execute("query-balloon-stats")
        and (query := balloon.query())["memory"] > before["memory"] + 400 * MIB and query,
        "the guest to say that it has more")
    assert query["take"] == before["take"] == query["ballooned"]
    assert query["target"] == query["memory"] - query["take"]
