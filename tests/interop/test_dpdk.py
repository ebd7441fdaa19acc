"""umbra before DPDK's vhost library: a back-end that polls, behind DPDK's own
driver, which polls as well, and behind a guest.  Every packet is counted at both
ends.

The guest is QEMU's: its driver has a control queue, which QEMU serves itself,
while UML leaves it to the back-end, and this one never answers.
"""

import pytest

from bed import Ping, TimedOut, wait_until

ADDRESS, PEER = "10.77.0.2", "10.77.0.1"
ROUND = 128             # packets that go round


class Packets:
    """Packets from a DPDK front-end to a DPDK back-end, which returns them."""

    def __init__(self, bed, backend, device):
        self.back = backend.testpmd
        self.back.do("set fwd mac", "start")
        self.front = bed.dpdk_frontend(device)

    def wait_progress(self, packets=1000):
        """Until so many more have come back."""
        self.front.wait_progress(packets)
        return self

    def agree(self, what, is_so):
        """Wait until both ends' counters are so."""
        both = []

        def look():
            both[:] = self.front.counters(), self.back.counters()
            return is_so(*both)

        try:
            wait_until(look, what)
        except TimedOut as error:
            raise AssertionError(f"{error}: front-end {both[0]}, back-end {both[1]}") from None
        front, back = both
        assert front.errors == back.errors == 0, both
        return front, back


class Round(Packets):
    """The same packets go round, on and on."""

    def start(self):
        self.front.do("set fwd mac", f"start tx_first {ROUND // 32}")
        return self

    def stop(self):
        """Bring them to rest; how many have come back.  Nothing is lost anywhere:
        all of them are still there in the end."""
        self.back.do("stop")
        # From now on they gather in the front-end's transmit queue.
        self.agree("all that the back-end has sent to be received",
                   lambda front, back: front.received == back.sent)
        self.front.do("stop")
        self.back.do("set fwd rxonly", "start")
        front, back = self.agree("all that the front-end has sent to be received",
                                 lambda front, back: front.sent == back.received)
        assert back.received - back.sent == ROUND, (front, back)
        return front.received


class Flood(Packets):
    """New ones all the time.  A back-end throws away what it would return while
    the ring for it is being switched, as a network card may; but not one that it
    has sent gets lost, nor one that the front-end has sent."""

    def start(self):
        self.front.do("set fwd flowgen", "start")
        return self

    def stop(self):
        """Bring them to rest; how many have come back."""
        self.front.do("stop", "set fwd rxonly", "start")
        front, _ = self.agree(
            "all that was sent to be received, in both directions",
            lambda front, back: front.sent == back.received
            and front.received == back.sent)
        return front.received


@pytest.mark.parametrize("shadow", ["off", "on"])
def test_no_packet_is_lost_in_each_mode(bed, shadow):
    backend = bed.dpdk()
    umbra = bed.umbra(backend, shadow=shadow)
    packets = Round(bed, backend, umbra).start().wait_progress(20000)
    assert packets.stop() >= 20000
    assert (umbra.requests() > 0) == (shadow == "on")


def test_no_packet_is_lost_over_a_thousand_switches(bed):
    backend = bed.dpdk()
    umbra = bed.umbra(backend)
    packets = Flood(bed, backend, umbra).start().wait_progress()
    umbra.switch(1000, packets)
    packets.wait_progress()
    packets.stop()
    assert umbra.requests() > 0


def pinging(bed, backend, umbra):
    backend.testpmd.do("set fwd icmpecho", "start")
    guest = bed.qemu(umbra)
    guest.check("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
    guest.check(f"ifconfig eth0 {ADDRESS} netmask 255.255.255.0 up")
    return guest


def check_counts(backend, ping):
    """What the guest has sent, the back-end has received, and the other way round."""
    def look():
        guest, back = ping.counters(), backend.testpmd.counters()
        return guest == (back.sent, back.received)
    wait_until(look, "guest and back-end to have counted the same packets")
    assert backend.testpmd.counters().errors == 0


@pytest.mark.parametrize("shadow", ["off", "on"])
def test_a_guest_has_every_packet_answered_in_each_mode(bed, shadow):
    backend = bed.dpdk()
    umbra = bed.umbra(backend, shadow=shadow)
    guest = pinging(bed, backend, umbra)
    ping = Ping(guest, PEER).start().wait_progress(200)
    ping.stop()
    check_counts(backend, ping)
    assert (umbra.requests() > 0) == (shadow == "on")
    assert guest.poweroff() == 0


def test_a_guest_has_every_packet_answered_over_a_thousand_switches(bed):
    backend = bed.dpdk()
    umbra = bed.umbra(backend)
    guest = pinging(bed, backend, umbra)
    ping = Ping(guest, PEER).start().wait_progress()
    umbra.switch(1000, ping, progress=20)
    ping.wait_progress()
    ping.stop()
    check_counts(backend, ping)
    assert guest.poweroff() == 0
