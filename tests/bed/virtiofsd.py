"""virtiofsd as the vhost-user-fs back-end: a folder of the host's is a guest's
file system.  One of the family that is built on the rust-vmm crates.

It ends when its front-end has gone.
"""

from . import trixie
from .backend import BackendProgram
from .virtio_id import FS

#: What a guest mounts.
TAG = "shared"


class Virtiofsd(BackendProgram):
    device_id = FS

    def __init__(self, bed, name="virtiofsd"):
        self.folder = bed.path(f"{name}.shared")
        self.folder.mkdir()
        tree = trixie.fetch(bed.cache, "virtiofsd")
        self._program = trixie.program(tree, "virtiofsd", "usr/libexec")
        super().__init__(bed, name)

    def argv(self):
        # Without a sandbox, since who runs the tests may not make one.
        return [*self._program, "--socket-path", self.socket, "--shared-dir", self.folder,
                "--tag", TAG, "--sandbox", "none"]
