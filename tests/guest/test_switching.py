"""The guest does not notice that its rings are switched into the shadow and
back: no request is lost, done twice, or answered with another's data."""

import subprocess

import pytest

from bed import Fio, QmpError, wait_until


@pytest.mark.parametrize("times, load", [
    pytest.param(2000, dict(block="4k", depth=32), id="many-small"),
    pytest.param(400, dict(block="4k", depth=1), id="one-by-one"),
    # 64 segments each: indirect tables, and chains that fill the ring.
    pytest.param(400, dict(block="256k", depth=16, size="32M"), id="long-chains"),
])
def test_verified_load_survives_switching(bed, times, load):
    umbra = bed.umbra(bed.backend())
    guest = bed.uml(umbra)
    umbra.wait_state("passthrough")
    fio = Fio(guest, **load).start().wait_progress()
    umbra.switch(times, fio)
    moved = fio.stop()
    assert moved.reads > 0 and moved.writes > 0
    assert umbra.requests() > 0
    assert guest.poweroff() == 0


@pytest.mark.parametrize("mode", ["passthrough", "shadowed"])
def test_every_block_is_verified_in_each_mode(bed, mode):
    umbra = bed.umbra(bed.backend())
    guest = bed.uml(umbra)
    umbra.enter(mode)
    shadow, disk = umbra.requests(), guest.disk_requests()
    load = Fio(guest, size="32M").once()
    assert load.reads == load.writes == 8192
    # The guest's own count, since its block layer merges neighbours.
    done = guest.disk_requests() - disk
    if mode == "shadowed":
        wait_until(lambda: umbra.requests() - shadow >= done,
                   f"the shadow to have counted {done} requests")
    else:
        assert umbra.requests() == shadow
    assert guest.poweroff() == 0


def test_ext4_made_filled_and_checked_while_switching(bed):
    backend = bed.backend(size=128 << 20)
    umbra = bed.umbra(backend)
    guest = bed.uml(umbra)
    umbra.enter("shadowed")
    mkfs = guest.host_tool("mkfs.ext4", "-q", "-F", "/dev/vda")
    fsck = guest.host_tool("fsck.ext4", "-f", "-n", "/dev/vda")
    work = guest.spawn(guest.script(f"""
        {mkfs}
        for round in 1 2; do
            mount -t ext4 /dev/vda /mnt
            mkdir /mnt/$round
            dd if=/dev/urandom of=/mnt/$round/large bs=1M count=8
            for i in $(seq 200); do
                dd if=/mnt/$round/large of=/mnt/$round/$i bs=4k skip=$i count=3
            done 2>/dev/null
            ( cd /mnt && find . -type f ! -path ./sums | xargs md5sum >sums )
            umount /mnt
            {fsck}
            mount -t ext4 /dev/vda /mnt
            ( cd /mnt && md5sum -cs sums )
            # Frees blocks for the next round to use anew.
            rm /mnt/$round/[0-9]*
            umount /mnt
        done
        """))
    shadowed, switches = True, 0
    while work.running():
        for _ in range(20):
            shadowed = not shadowed
            umbra.shadow(shadowed)
            switches += 1
    status, output = work.wait()
    assert status == 0, output
    assert switches >= 40, "too few switches to prove anything"
    assert umbra.switches()["failed"] == 0
    assert guest.poweroff() == 0
    # What the disk itself holds, seen from outside.
    checked = subprocess.run(["/sbin/fsck.ext4", "-f", "-n", backend.image],
                             capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_two_disks_of_one_guest_switch_apart(bed):
    one = bed.umbra(bed.backend(name="disk1"), name="u1")
    two = bed.umbra(bed.backend(name="disk2"), name="u2")
    guest = bed.uml(one, two)
    loads = [Fio(guest, disk, size="8M").start() for disk in ("vda", "vdb")]
    for load in loads:
        load.wait_progress()
    for _ in range(4):
        one.switch(25, loads[0])
        two.switch(50, loads[1])
    for umbra, load in zip((one, two), loads):
        umbra.enter("shadowed")
        load.wait_progress()
        umbra.enter("passthrough")
        load.stop()
    assert one.state() == "passthrough" and two.state() == "passthrough"
    assert one.requests() > 0 and two.requests() > 0
    assert guest.poweroff() == 0


def test_shadow_on_serves_the_guest_from_its_first_request(bed):
    umbra = bed.umbra(bed.backend(), shadow="on")
    guest = bed.uml(umbra)
    assert umbra.state() == "shadowed"
    Fio(guest).once()
    # All of them, from the kernel's first look at the disk on.
    done = guest.disk_requests()
    wait_until(lambda: umbra.requests() >= done,
               f"the shadow to have counted {done} requests")
    assert guest.poweroff() == 0


def test_shadow_off_refuses_to_switch_and_says_why(bed):
    umbra = bed.umbra(bed.backend(), shadow="off")
    guest = bed.uml(umbra)
    with pytest.raises(QmpError) as refusal:
        umbra.shadow(True)
    assert "off" in refusal.value.reason
    assert umbra.state() == "passthrough"
    Fio(guest, size="4M").once()
    assert guest.poweroff() == 0
