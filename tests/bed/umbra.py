"""The program under test."""

import re
import signal
from pathlib import Path

from .backend import listens
from .process import Process
from .procfs import allocated, context_switches, fds, mappings
from .qmp import QmpClient
from .virtio_id import BALLOON, BLOCK
from .wait import PATIENCE, wait_until

#: What a sanitizer says when it has found something.
FINDING = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|"
                      r"MemorySanitizer|runtime error:")


class UmbraProgram:
    """Any `umbra COMMAND` with a socket for the VM and a control socket."""

    def __init__(self, bed, name, command, *options, connect=None, manager=None):
        """The command is a word, or the path of a program of its own.  With connect, a path
        where a VMM listens, or will.  With manager, it is started by one."""
        program = [command] if isinstance(command, Path) else [bed.program, command]
        before, env, fds = manager.start() if manager else ([], {}, ())
        self.bed = bed
        self.name = name
        self.connects = connect is not None
        self.socket = connect if self.connects else bed.path(f"{name}.vm")
        self.control = bed.path(f"{name}.ctl")
        self.ended = False
        assert program[0].exists(), f"{program[0]} is not built"
        self.process = bed.start(Process(
            name,
            [*before, *program,
             f"--{'connect' if self.connects else 'socket-path'}={self.socket}",
             f"--control={self.control}", f"--name={name}", *options],
            bed.log(name), env=env, pass_fds=fds), stop=self._finish)
        wait_until(self._ready, f"{name} to listen on its two sockets")
        self.qmp = QmpClient(self.control)

    def _ready(self):
        assert self.process.alive(), f"umbra ended: {self.process.tail()}"
        return (self.connects or listens(self.socket)) and listens(self.control)

    @property
    def pid(self):
        return self.process.pid

    # What it says of itself

    def status(self):
        return self.qmp.execute("query-status")

    def state(self):
        return self.status()["state"]

    def wait_state(self, *states, deadline=PATIENCE):
        """Until the state is one of these; returns the status."""
        return wait_until(
            lambda: (status := self.status())["state"] in states and status,
            f"{self.name} to be {' or '.join(states)}", deadline)

    # Its end

    def terminate(self, deadline=PATIENCE):
        """SIGTERM, and its consequences: exit status 0 within the deadline,
        sockets removed, a log without findings of a sanitizer."""
        self.ended = True
        self.process.signal(signal.SIGTERM)
        self.check_end(deadline)

    def check_end(self, deadline=PATIENCE):
        self.ended = True
        status = self.process.wait(deadline)
        assert status == 0, \
            f"umbra ended with status {status}:\n{self.process.tail()}"
        for path in (self.control,) if self.connects else (self.socket, self.control):
            assert not path.exists(), f"umbra ended and left {path} behind"
        output = self.process.output()
        assert not FINDING.search(output), f"a sanitizer found:\n{output}"
        self.qmp.close()

    def kill(self):
        """kill -9: it leaves its sockets behind."""
        self.ended = True
        self.process.kill()
        self.qmp.close()

    def _finish(self):
        try:
            if not self.ended:
                self.terminate()
        finally:
            self.process.kill()

    # What the kernel knows of it

    def fds(self):
        return fds(self.pid)

    def guest_mappings(self, guest):
        """The mappings of a guest's memory that umbra holds."""
        return [m for m in mappings(self.pid) if guest.memory_name in m.name]

    def own_resident(self, guest):
        """Bytes of resident memory other than the guest's."""
        return sum(m.resident for m in mappings(self.pid)
                   if guest.memory_name not in m.name)

    def context_switches(self):
        return context_switches(self.pid)

    def is_sanitized(self):
        """Built with a sanitizer, whose shadow memory spoils all figures?"""
        return b"__asan_init" in self.bed.program.read_bytes()


class Umbra(UmbraProgram):
    """`umbra shadow` between a socket for the VM and a back-end's socket."""

    def __init__(self, bed, backend, name="u0", shadow="auto", connect=None, options=()):
        #: What a guest sees: what the back-end says that it is, or else a disk.
        self.device_id = getattr(backend, "device_id", BLOCK)
        address = getattr(backend, "address", f"unix:{backend.socket}")
        super().__init__(bed, name, "shadow", f"--backend={address}",
                         f"--shadow={shadow}", *options, connect=connect)

    # What it says of itself

    def vhost(self):
        return self.qmp.execute("query-vhost")

    def requests(self):
        """Requests that went through shadow rings so far, on all queues."""
        return sum(queue["requests"] for queue in self.vhost()["queues"])

    def switches(self):
        return self.vhost()["switches"]

    def wait_held_up(self, *reasons):
        """Until the device is held, and one of these is in the reason; returns the status."""
        return wait_until(
            lambda: (status := self.status())["state"] == "held"
            and any(reason in status["reason"] for reason in reasons) and status,
            f"{self.name} to be held because: {' or '.join(reasons)}")

    # What it can be told

    def shadow(self, enable, deadline=PATIENCE):
        """Switch; complete when this returns.  QmpError if refused."""
        return self.qmp.execute("x-vhost-enable-shadow-vq",
                                {"name": self.name, "enable": enable}, deadline)

    def enter(self, mode):
        """Make sure of a mode, "passthrough" or "shadowed"."""
        if self.state() != mode:
            self.shadow(mode == "shadowed")
        assert self.state() == mode

    def switch(self, times, load, progress=100):
        """Switch to and fro under a load, as fast as it goes; the load must
        make headway, by its own measure, in the midst of it.  Every switch must
        succeed."""
        before = self.switches()
        shadowed = self.state() == "shadowed"
        for number in range(times):
            if number % 250 == 125:
                load.wait_progress(progress)
            shadowed = not shadowed
            self.shadow(shadowed)
        after = self.switches()
        assert after["count"] - before["count"] == times
        assert after["failed"] == before["failed"]


class UmbraBalloon(UmbraProgram):
    """`umbra balloon`, for a guest that has it as a device."""

    device_id = BALLOON

    def __init__(self, bed, *options, name="b0", connect=None, manager=None):
        super().__init__(bed, name, "balloon", *options, connect=connect, manager=manager)

    def query(self):
        """As of now.  (While the device's thread does not come to it within a tenth of a
        second, query-balloon says what was so before, and how old that is.)"""
        def fresh():
            query = self.qmp.execute("query-balloon")
            age = query["host-bytes-age-ms"]
            return age is not None and age < 100 and query
        return wait_until(fresh, "the device's thread to look")

    def status(self):
        self.query()            # what is shown from here on is as new
        return super().status()

    def set(self, value, **more):
        """A target: bytes of memory that the guest shall keep."""
        return self.qmp.execute("balloon", {"value": value, **more})

    def take(self, value, **more):
        """A target: bytes of memory that the guest shall give."""
        return self.qmp.execute("balloon", {"take": value, **more})

    def settle(self, value=None, deadline=PATIENCE, **more):
        """The same (by take=, what it shall give), and wait for the end of the way
        there; its event's data."""
        self.qmp.events.clear()
        target = self.qmp.execute("balloon", {
            **({} if value is None else {"value": value}), **more})["target-id"]
        return self.qmp.wait_event("BALLOON_SETTLED",
                                   lambda data: data["target-id"] == target, deadline=deadline)

    def reach(self, value=None, deadline=PATIENCE, **more):
        """The same, and it must be reached; what query-balloon says then."""
        data = self.settle(value, deadline, **more)
        assert data["reached"], data
        return self.query()

    def empty(self, deadline=PATIENCE):
        """Give the guest all its memory back."""
        return self.reach(1 << 62, deadline)

    def wait_driver(self, deadline=PATIENCE):
        self.wait_state("running", deadline=deadline)
        return self

    def held_of(self, guest):
        """Bytes that the host holds of a guest's memory, as the device sees it."""
        return allocated(self.pid, guest.memory_name)

    def agrees_on_held(self, guest):
        """The same, once it is what query-balloon says: no guest is ever quite still."""
        return wait_until(lambda: (held := self.held_of(guest)) == self.query()["host-bytes"]
                          and held, "what the host holds and what is said of it to agree")
