"""umbra in front of real vDPA devices: what docs/vdpa.md expects of each kind."""

import json
import re

import pytest

#: Layouts of guest memory: one region; several, apart and in reverse order, so
#: that buffers are cut at their borders; several that adjoin, in one file, with
#: segments across the borders (which qemu-storage-daemon takes for a loop if they
#: lie in an indirect table).
LAYOUTS = {
    "one": [],
    "apart": ["--regions=5", "--gpa-gap=0x5000"],
    "adjoining": ["--regions=4", "--one-file", "--no-indirect"],
}

#: Guest-physical addresses that vp_vdpa's IOMMU does not reach: IOVAs differ.
BEYOND = ["--gpa-base=0x8000000000"]

NEW, NEWER, FORGOTTEN = "52:54:11:12:34:57", "52:54:11:12:34:58", "52:54:66:66:66:66"


def check_switched(umbra, times):
    switches = umbra.switches()
    assert switches["count"] == times and switches["failed"] == 0
    assert umbra.requests() > 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["VDUSE", "vdpa_sim_blk"])
def test_verified_load_survives_switching(shadow, load, kind, layout):
    umbra = shadow(kind)
    front = load(umbra, "blk threads=3 depth=4", *LAYOUTS[layout])
    front.do("wait 100")
    assert umbra.state() == "passthrough"
    times = 200 if layout == "one" else 50
    front.do(f"switch {times} 5")
    check_switched(umbra, times)
    assert umbra.state() == "passthrough"
    answer = front.stop()
    assert answer["reads"] > 0 and answer["writes"] > 0
    umbra.terminate()


@pytest.mark.parametrize("kind", ["VDUSE", "vdpa_sim_blk"])
def test_passed_through_device_costs_the_shadow_nothing(shadow, load, kind):
    umbra = shadow(kind)
    front = load(umbra, "blk")
    front.do("wait 500")
    assert umbra.state() == "passthrough"
    assert umbra.requests() == 0
    front.stop()
    umbra.terminate()


@pytest.mark.parametrize("mode", ["on", "auto"])
@pytest.mark.parametrize("layout", [[], BEYOND, [*BEYOND, *LAYOUTS["apart"]]],
                         ids=["reached", "beyond", "beyond-apart"])
def test_device_without_ring_state_is_shadowed_from_the_start(shadow, load, mode, layout):
    umbra = shadow("vp_vdpa", mode)
    front = load(umbra, "blk threads=3 depth=4", *layout)
    front.do("wait 500")
    assert umbra.state() == "shadowed"
    reason = front.do("refused off")["answer"]["error"]["desc"]
    if mode == "auto":
        assert re.search(r"\bring", reason), reason
    else:
        assert "shadow=on" in reason
    # It goes on as if nobody had asked.
    front.do("wait 500")
    assert umbra.state() == "shadowed"
    # Read after it: what has come back by then went through the shadow.
    seen = front.do("wait 1")["requests"]
    assert umbra.requests() >= seen >= 1000
    answer = front.stop()
    assert answer["reads"] > 0 and answer["writes"] > 0
    umbra.terminate()


@pytest.mark.parametrize("kind", ["VDUSE", "vdpa_sim_blk", "vp_vdpa"])
def test_one_front_end_after_the_other(shadow, load, kind):
    """Each begins anew, with another layout of memory: all that was mapped for the
    one before is gone."""
    umbra = shadow(kind, "on" if kind == "vp_vdpa" else "auto")
    for words in LAYOUTS.values():
        front = load(umbra, "blk threads=2 depth=4", *words)
        front.do("wait 200")
        if kind != "vp_vdpa":
            front.do("switch 3 20")
        front.stop()
    umbra.terminate()


def settled(front):
    """Pause the load; what it has counted.  The device has given to its receive queue
    what the front-end got, and had no buffer for what the front-end misses."""
    answer = front.do("pause")
    shown = json.loads(front.guest.check("vdpa -j dev vstats show sn0 qidx 0"))
    device = shown["vstats"]["sn0"]
    assert answer["frames"] == device["rx packets"]
    assert answer["lost"] == device["rx overruns"] + device["rx errors"]
    assert answer["foreign"] == device["rx drops"]
    return answer


@pytest.mark.parametrize("layout", ["one", "apart"])
def test_frames_survive_switching(shadow, load, layout):
    umbra = shadow("vdpa_sim_net")
    front = load(umbra, "net", *LAYOUTS[layout])
    front.do("wait 100")
    assert settled(front)["lost"] == 0
    front.do("resume")
    front.do("switch 180 5")
    switched = settled(front)
    # Receive buffers that nobody uses are carried along.
    front.do("switch 20 0")
    front.do("resume")
    front.do("wait 200")
    assert settled(front)["lost"] == switched["lost"]
    check_switched(umbra, 200)
    front.stop()
    umbra.terminate()


@pytest.mark.parametrize("told", ["passthrough", "shadowed"])
def test_device_is_told_again_what_it_was_told(shadow, load, told):
    """The control queue sets an address in one mode; it holds in the other, though
    the device forgets it at the switch.  vdpa_sim_net does not forget by itself:
    it is made to, by the configuration space."""
    umbra = shadow("vdpa_sim_net")
    front = load(umbra, "net")
    front.do("wait 50")
    if told == "shadowed":
        front.do("shadow on")
    for address in (NEW, NEWER):
        answer = front.do(f"mac {address}")
        assert answer["ack"] == 0 and answer["config"] == address.replace(":", "")
    front.do("wait 50")
    front.do("pause")
    front.do(f"clobber {FORGOTTEN}")
    assert front.do("config 6")["config"] == FORGOTTEN.replace(":", "")
    front.do("switch 1 0")
    assert umbra.state() != told
    assert front.do("config 6")["config"] == NEWER.replace(":", "")
    control = umbra.vhost()["control"]
    assert control["mac"] == NEWER
    assert control["replayed"] >= 1 and control["failed"] == 0
    saved = bytes.fromhex(umbra.execute("x-save-control-state")["data"])
    assert bytes.fromhex(NEWER.replace(":", "")) in saved
    # The switch may have lost frames, as above; from here on none is.
    front.do("resume")
    front.do("wait 50")
    switched = settled(front)
    front.do("resume")
    front.do("wait 100")
    assert settled(front)["lost"] == switched["lost"]
    front.stop()
    umbra.terminate()


def test_command_that_the_device_refuses_changes_nothing(shadow, load):
    umbra = shadow("vdpa_sim_net")
    front = load(umbra, "net")
    for mode in ("on", "off", "on"):
        # No such class.  (To a known one, it answers as to the command before.)
        assert front.do("control 77 0 00")["ack"] == 1
        front.do(f"shadow {mode}")
    # A switch may lose frames, as the card has no buffers then; a quiet time may not.
    switched = settled(front)
    front.do("resume")
    front.do("wait 100")
    assert settled(front)["lost"] == switched["lost"]
    front.stop()
    umbra.terminate()
