"""QEMU as the front-end of a device whose disk goes away and comes again."""

from bed import Fio

HOLDS = ["--reconnect", "--device-type=block"]


def test_a_guest_with_two_queues_goes_on_with_the_next_disk(bed):
    """Also one that is stopped, and goes on, while there is none."""
    backend = bed.backend(queues=2)
    umbra = bed.umbra(backend, options=HOLDS)
    guest = bed.qemu(umbra, cpus=2, queues=2)
    loads = [Fio(guest, size="8M", offset=f"{32 * cpu}M", cpu=cpu).start()
             for cpu in range(2)]
    for round in range(4):
        for load in loads:
            load.wait_progress(100)
        backend.kill()
        umbra.wait_state("held")
        if round % 2:
            guest.monitor.execute("stop")
            assert umbra.state() == "held"
            guest.monitor.execute("cont")
        backend.start()
        umbra.wait_state("shadowed")
    for load in loads:
        load.wait_progress(100)
        load.stop()
    assert umbra.vhost()["holds"]["count"] == 4
    assert guest.poweroff() == 0


def test_a_guest_that_is_reset_while_its_disk_is_away_boots_from_the_next(bed):
    backend = bed.backend()
    umbra = bed.umbra(backend, options=HOLDS)
    guest = bed.qemu(umbra)
    Fio(guest, size="8M").start().wait_progress()
    backend.kill()
    umbra.wait_state("held")
    guest.monitor.execute("system_reset")
    guest.monitor.wait_event("RESET")
    backend.start()
    guest.wait_boot()
    umbra.wait_state("shadowed")
    Fio(guest, size="4M").once()
    assert guest.poweroff() == 0
