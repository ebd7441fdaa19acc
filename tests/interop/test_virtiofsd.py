"""umbra between a guest and virtiofsd: the family of the rust-vmm crates."""

import pytest

from bed import Files


@pytest.fixture(params=["uml", "qemu"])
def boot(request, bed):
    """How to boot a guest, each kind of front-end in turn."""
    return getattr(bed, request.param)


@pytest.mark.parametrize("shadow", ["off", "on"])
def test_files_go_in_and_out_in_each_mode(bed, boot, shadow):
    server = bed.virtiofsd()
    umbra = bed.umbra(server, shadow=shadow)
    guest = boot(umbra)
    files = Files(guest, server).mount().start().wait_progress(5)
    assert files.stop() >= 10
    assert (umbra.requests() > 0) == (shadow == "on")
    files.unmount()
    assert guest.poweroff() == 0


def test_files_survive_a_thousand_switches(bed, boot):
    server = bed.virtiofsd()
    umbra = bed.umbra(server)
    guest = boot(umbra)
    umbra.wait_state("passthrough")
    files = Files(guest, server).mount().start().wait_progress()
    umbra.switch(1000, files, progress=1)
    files.wait_progress()
    files.stop()
    assert umbra.requests() > 0
    files.unmount()
    assert guest.poweroff() == 0
