"""The balloon behind QEMU, over PCI, with Debian's 6.12 kernel in the guest, and with
the newest of trixie-backports, whose kernel has most of a balloon's moving pages to
itself (kmod/compat.h).

QEMU has no front-end for a vhost-user balloon, but trixie's has a generic one.
That one passes all 64 feature bits, and so PAGE_BITMAP.  It cannot take up a
back-end anew: with reconnect= it fails an assertion in vhost_dev_start(), and
without in vhost_dev_set_config() as soon as the guest touches the configuration
of a device that is lost (QEMU 11.1.3).  What is left to an administrator is to
pull the lost device and to plug in another, which is tested here; tests/balloon
has a front-end of our own that reconnects.
"""

import contextlib

import pytest

from bed import BalloonDriver, kernel, wait_until
from bed.balloon_driver import memory, module, settle_memory, vm_events, wait_free
from bed.simulated_balloon import PAGE_BITMAP

MIB = 1 << 20
GUEST = 512 * MIB
PAGES = 256             # in a MiB


def balloon_of(bed, *options, memory="512M"):
    # Emulation is slow, and its guests share the machine with others.  What a kernel
    # keeps for itself counts here, which is no part of what it says that it has.
    return bed.balloon("--stall=60000", f"--memory={memory}", *options)


#: A warning of the kernel's ends the guest, and so the test; and it need not clear
#: what it allocates, which takes long under emulation.
PARAMETERS = ("panic_on_warn=1", "init_on_alloc=0")


both_kernels = pytest.mark.parametrize("linux", ["6.12", "newest"])


def boot(bed, device, *modules, linux="6.12", memory="512M"):
    guest = bed.qemu(device, linux=linux, memory=memory, modules=modules,
                     parameters=PARAMETERS)
    guest.check("mount -t tmpfs -o size=100% tmpfs /mnt")
    return guest


def stock_module(bed):
    return next(kernel.fetch(bed.cache, "6.12").modules.rglob("virtio_balloon.ko"))


@contextlib.contextmanager
def umbras_driver(bed, device, load=None, linux="6.12", **options):
    """A guest with our driver, whose kernel must have nothing to say at the end."""
    guest = boot(bed, device, module(bed, linux), linux=linux, **options)
    driver = BalloonDriver(guest).load(**(load or {}))
    yield guest, driver
    driver.check_log()


def touch(guest, mib):
    """Have the guest write to so much of its memory, and free it again."""
    guest.check(f"dd if=/dev/zero of=/mnt/touched bs=1M count={mib} 2>/dev/null; "
                "rm /mnt/touched")


class Kept:
    """Files in the guest's memory, with every other one missing."""

    def __init__(self, guest, mib, size=65536):
        self.guest = guest
        guest.check(f"""
            mount -o remount,size=100% /tmp
            mkdir /tmp/kept; cd /tmp/kept
            dd if=/dev/urandom bs=1M count={mib} 2>/dev/null |
                {guest.host_tool("split", "-a4", f"-b{size}", "-", "kept/")}
            rm *[acegikmoqsuwy]
            md5sum * >../sums""")

    def thin_out(self):
        """Half of those that are left go: free pages all over."""
        self.guest.check("cd /tmp/kept; rm *[bfjnrvz]; md5sum * >../sums")

    def verify(self):
        self.guest.check("cd /tmp/kept; md5sum -cs ../sums")


def agrees(balloon, value):
    """Until the device and the driver say the same; what the device says."""
    return wait_until(
        lambda: (query := balloon.query())["actual"] == value
        and query["driver-ballooned"] == query["ballooned"] == query["memory"] - value
        and query, f"device and driver to agree on {value >> 20} MiB for the guest")


def negotiated(balloon, bit):
    return int(balloon.query()["features"]["bits"], 0) >> bit & 1


def test_the_stock_driver_of_6_12_inflates_and_deflates(bed):
    # Without reporting, so that memory goes back through the balloon alone.
    balloon = balloon_of(bed, "--hide=reporting")
    guest = boot(bed, balloon, stock_module(bed))
    guest.check("insmod /modules/virtio_balloon.ko")
    balloon.wait_driver()
    assert not negotiated(balloon, PAGE_BITMAP)
    touch(guest, 300)
    touched = balloon.held_of(guest)
    assert touched > 300 * MIB
    balloon.reach(160 * MIB)
    query = agrees(balloon, 160 * MIB)
    assert balloon.held_of(guest) <= 160 * MIB
    assert query["given-back"] >= touched - 160 * MIB
    assert query["refused-records"] == query["discard-errors"] == 0
    stats = wait_until(
        lambda: (s := balloon.qmp.execute("query-balloon-stats")["stats"])["free-memory"]
        and s["free-memory"] < 160 * MIB and s, "statistics of the smaller guest")
    assert None not in stats.values()           # this kernel tells all 16
    balloon.empty()
    agrees(balloon, GUEST)
    touch(guest, 300)
    assert balloon.held_of(guest) > 300 * MIB


@both_kernels
def test_our_driver_moves_runs_and_gives_back_all_when_it_goes(bed, linux):
    balloon = balloon_of(bed, "--hide=reporting")
    with umbras_driver(bed, balloon, linux=linux) as (guest, driver):
        balloon.wait_driver()
        assert negotiated(balloon, PAGE_BITMAP)
        touch(guest, 300)
        before = settle_memory(guest)
        balloon.reach(160 * MIB)
        query = agrees(balloon, 160 * MIB)
        assert balloon.held_of(guest) <= 160 * MIB
        assert query["messages"] < 40           # the stock driver sends 352
        assert query["refused-records"] == query["discard-errors"] == 0
        assert driver.held() == 352 * PAGES
        driver.check_counts()

        for _ in range(3):
            guest.check("cd /sys/bus/virtio/drivers/umbra_balloon; "
                        "basename virtio*/ >/tmp/name; cat /tmp/name >unbind")
            assert balloon.query()["ballooned"] == 0
            guest.check("cat /tmp/name >/sys/bus/virtio/drivers/umbra_balloon/bind")
            agrees(balloon, 160 * MIB)
        driver.unload()
        query = balloon.query()
        assert query["ballooned"] == query["driver-ballooned"] == 0
        wait_free(guest, before - 2 * PAGES)
        touch(guest, 300)


@both_kernels
def test_a_fragmented_guest_keeps_its_content_when_compaction_moves_pages(bed, linux):
    balloon = balloon_of(bed, "--report", memory="256M")
    with umbras_driver(bed, balloon, memory="256M", linux=linux) as (guest, driver):
        # Holes so small that the kernel does not make large ones of them on demand.
        kept = Kept(guest, 80, size=8192)
        # As much as it can give: that is in pieces, then.
        left = (256 - memory(guest)["MemAvailable"] // PAGES + 24) * MIB
        balloon.reach(left)
        agrees(balloon, left)
        assert driver.number("piece_pages") > 0
        kept.verify()
        kept.thin_out()         # or there is nowhere to move to
        assert driver.compact() > 0
        agrees(balloon, left)
        driver.check_counts()
        kept.verify()
        balloon.empty()
        driver.check_counts()
        touch(guest, 80)
        kept.verify()
        # What is free is reported by the kernel's pageblock, not page by page.
        reported = wait_until(lambda: balloon.query()["reported"], "free pages to be reported")
        assert reported % (2 * MIB) == 0


@both_kernels
def test_a_guest_out_of_memory_takes_pages_back_and_the_device_knows(bed, linux):
    balloon = balloon_of(bed, "--stats-interval=500", memory="256M")
    with umbras_driver(bed, balloon, memory="256M", linux=linux) as (guest, driver):
        kept = Kept(guest, 20)
        before = (256 - memory(guest)["MemAvailable"] // PAGES + 24) * MIB
        balloon.reach(before)
        agrees(balloon, before)
        driver.run_out_of_memory(4, "/mnt")
        assert vm_events(guest)["oom_kill"] == 0
        query = wait_until(
            lambda: (query := balloon.query())["ballooned"] == query["driver-ballooned"]
            == driver.held() * 4096 and query, "driver and device to agree")
        assert 0 < query["ballooned"] <= 252 * MIB - before
        driver.check_counts()
        kept.verify()
        stats = wait_until(
            lambda: (told := balloon.qmp.execute("query-balloon-stats"))["age-ms"] is not None
            and told["stats"], "statistics")
        assert None not in stats.values()       # such kernels tell all 16
        balloon.empty()
        kept.verify()


@both_kernels
def test_a_guest_that_stops_keeps_its_balloon_and_one_that_reboots_begins_anew(bed, linux):
    balloon = balloon_of(bed)
    with umbras_driver(bed, balloon, linux=linux) as (guest, driver):
        balloon.reach(200 * MIB)
        agrees(balloon, 200 * MIB)
        messages = balloon.query()["messages"]
        guest.monitor.execute("stop")
        balloon.wait_state("negotiating")
        guest.monitor.execute("cont")
        balloon.wait_driver()
        agrees(balloon, 200 * MIB)
        assert balloon.query()["messages"] == messages

        guest.reboot()
        assert balloon.state() == "negotiating"
        guest.check("mount -t tmpfs -o size=100% tmpfs /mnt")
        touch(guest, 300)       # which it could not if any page were missing
        driver.load()
        agrees(balloon, 200 * MIB)
        balloon.empty()
        agrees(balloon, GUEST)


@both_kernels
def test_a_guest_that_suspends_while_ballooned_wakes_up_with_what_it_had(bed, linux):
    """Once: QEMU's second suspend to memory wakes up at once, whatever runs in the
    guest."""
    balloon = balloon_of(bed)
    with umbras_driver(bed, balloon, linux=linux) as (guest, driver):
        kept = Kept(guest, 60)
        balloon.reach(200 * MIB)
        guest.suspend()
        # Asleep, it has all its memory; what is set now is for when it wakes up.
        query = balloon.query()
        assert query["ballooned"] == query["driver-ballooned"] == 0
        assert balloon.state() == "negotiating"
        balloon.set(160 * MIB)
        guest.wake()
        agrees(balloon, 160 * MIB)
        assert negotiated(balloon, PAGE_BITMAP)
        kept.verify()
        balloon.empty()
        touch(guest, 300)
        kept.verify()
        driver.unload()


def test_a_killed_device_is_pulled_and_replaced_under_a_running_guest(bed):
    balloon = balloon_of(bed)
    with umbras_driver(bed, balloon, {"response_timeout_ms": 500}) as (guest, driver):
        before = settle_memory(guest)
        balloon.reach(300 * MIB)
        agrees(balloon, 300 * MIB)
        balloon.kill()
        # The guest goes on with what it has, less what it is just reporting as
        # free: up to 32 blocks of 4 MiB.
        kept = Kept(guest, 40)
        guest.unplug()
        # The driver has given every page back, though nobody has heard of it.
        wait_free(guest, before - 40 * PAGES)
        touch(guest, 300)
        kept.verify()

        # In the same place; what the killed one has left there is in nobody's way.
        balloon = balloon_of(bed, "--target=200M")
        guest.plug(balloon, "next")
        agrees(balloon, 200 * MIB)
        assert balloon.held_of(guest) <= 200 * MIB
        kept.verify()
        balloon.empty()
        touch(guest, 300)
        kept.verify()


def test_our_driver_serves_a_balloon_of_qemus_which_has_no_page_bitmap(bed):
    with umbras_driver(bed, "virtio-balloon-pci,id=balloon") as (guest, driver):
        monitor = guest.monitor

        def reach(value):
            monitor.execute("balloon", {"value": value})
            wait_until(lambda: monitor.execute("query-balloon")["actual"] == value,
                       f"QEMU's balloon to reach {value >> 20} MiB")

        def statistic(name):
            return monitor.execute("qom-get", {
                "path": "/machine/peripheral/balloon",
                "property": "guest-stats"})["stats"][f"stat-{name}"]

        kept = Kept(guest, 60)
        touch(guest, 300)
        touched = guest.held()
        reach(200 * MIB)
        assert driver.held() == 312 * PAGES
        assert guest.held() <= 200 * MIB < 300 * MIB < touched
        monitor.execute("qom-set", {"path": "/machine/peripheral/balloon",
                                    "property": "guest-stats-polling-interval", "value": 1})
        wait_until(lambda: 0 < statistic("free-memory") < 200 * MIB,
                   "statistics of the smaller guest")
        kept.verify()
        reach(GUEST)
        touch(guest, 300)
        kept.verify()
        reach(300 * MIB)
        driver.unload()
        assert monitor.execute("query-balloon")["actual"] == GUEST
        touch(guest, 300)
        kept.verify()
