"""passt as the vhost-user-net back-end: a guest's connections become sockets of
the host's, without privileges and without a bridge."""

from . import trixie
from .backend import BackendProgram
from .virtio_id import NET


class Passt(BackendProgram):
    device_id = NET

    #: What the guest is to call itself, and what it calls the host: who connects
    #: there is connected to the host's loopback address.
    GUEST, HOST, NETMASK = "10.77.0.2", "10.77.0.1", "255.255.255.0"

    def __init__(self, bed, name="passt"):
        tree = trixie.fetch(bed.cache, "passt")
        self._program = trixie.program(tree, "passt")
        super().__init__(bed, name)

    def argv(self):
        return [*self._program, "--foreground", "--vhost-user", "--socket-path", self.socket,
                "--ipv4-only", "--address", self.GUEST, "--netmask", self.NETMASK,
                "--gateway", self.HOST, "--dns", "none"]

    @classmethod
    def configure(cls, guest):
        """Give the guest's first network card its address."""
        guest.check(f"ifconfig eth0 {cls.GUEST} netmask {cls.NETMASK} up")
