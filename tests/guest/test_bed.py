"""The bed itself, with nothing between the guest and its disk: if these fail,
look here first, and not at umbra."""

from bed import Fio, procfs


def test_uml_drives_its_disk_directly(bed):
    guest = bed.uml(bed.backend())
    load = Fio(guest).once()
    assert load.reads >= 4096 and load.writes >= 4096
    assert guest.poweroff() == 0


def test_qemu_drives_its_disk_directly(bed):
    guest = bed.qemu(bed.backend())
    load = Fio(guest, size="4M").once()
    assert load.reads >= 1024 and load.writes >= 1024
    assert guest.poweroff() == 0


def test_killed_uml_leaves_no_process_behind(bed):
    guest = bed.uml(bed.backend())
    mark = f"uml_dir={bed.path(guest.name)}/"
    assert procfs.pids_running("linux.uml", mark)
    guest.kill()
    assert not procfs.pids_running("linux.uml", mark)
