"""A guest that pings as fast as it is answered: load that counts each packet."""

import shlex

from .wait import PATIENCE


class Ping:
    def __init__(self, guest, address, size=1400, device="eth0"):
        self.guest, self.device = guest, device
        self._words = shlex.join(["ping", "-A", "-q", "-s", str(size), address])

    def start(self):
        self._job = self.guest.spawn(self._words)
        return self

    def counters(self):
        """Packets (received, sent) as the guest's driver has counted them."""
        return tuple(map(int, self.guest.check(
            f"cd /sys/class/net/{self.device}/statistics; "
            "cat rx_packets tx_packets").split()))

    def wait_progress(self, packets=100, deadline=PATIENCE):
        """Until so many more have been received."""
        self.guest.check(f"""
            cd /sys/class/net/{self.device}/statistics
            goal=$(($(cat rx_packets) + {packets}))
            while [ $(cat rx_packets) -lt $goal ]; do usleep 10000; done""", deadline)
        return self

    def stop(self):
        """End it.  None came twice, and none with other bytes."""
        self._job.interrupt()
        _, output = self._job.wait()
        assert "packets received" in output and "duplicates" not in output, output
        wrong = self.guest.check("awk '/^Icmp: [0-9]/ { print $4 }' /proc/net/snmp")
        assert int(wrong) == 0, f"{wrong} packets with a wrong checksum"
