"""A TCP connection between a guest and the host: load that verifies each byte.

The host sends pseudo-random bytes, the guest sends back all that it gets, and
the host compares.
"""

import random
import socket
import threading

from .wait import PATIENCE, wait_until

PORTION = 1 << 16


class Stream:
    def __init__(self, guest, host, seed=1):
        """To a guest that reaches this host's loopback address as `host`."""
        self.guest, self.host, self.seed = guest, host, seed
        self.verified = 0               # bytes, there and back
        self._total = None              # the same, once it is known
        self._failure = None
        self._enough = threading.Event()

    def start(self):
        """Connect, and send and verify until stop()."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(PATIENCE)
            port = listener.getsockname()[1]
            self._job = self.guest.spawn(f"nc {self.host} {port} -e cat")
            try:
                self._connection = listener.accept()[0]
            except TimeoutError:
                raise AssertionError(f"{self.guest.name} did not connect to {self.host}: "
                                     f"{self._job.output()}") from None
        self._connection.settimeout(PATIENCE)
        self._threads = [threading.Thread(target=work, daemon=True)
                         for work in (self._send, self._verify)]
        for thread in self._threads:
            thread.start()
        return self

    def wait_progress(self, portions=4, deadline=PATIENCE):
        """Until so many more portions of 64 KiB have been verified."""
        goal = self.verified + portions * PORTION
        wait_until(lambda: self._failure or self.verified >= goal,
                   f"{portions} more portions of the stream", deadline)
        self._check()
        return self

    def stop(self):
        """End it, once all that was sent has come back; bytes verified."""
        self._enough.set()
        for thread in self._threads:
            thread.join(PATIENCE * 2)
            assert not thread.is_alive(), "the stream has not come to its end"
        self._check()
        self._connection.close()
        self._job.wait()                # told by the end of its input
        return self.verified

    def _check(self):
        if self._failure:
            raise AssertionError(f"after {self.verified} verified bytes: {self._failure}")

    def _portions(self):
        source = random.Random(self.seed)
        while True:
            yield source.randbytes(PORTION)

    def _send(self):
        try:
            for number, portion in enumerate(self._portions(), 1):
                # Said before it is sent, so that it is known when it comes back.
                if self._enough.is_set():
                    self._total = number * PORTION
                self._connection.sendall(portion)
                if self._total or self._failure:
                    break
        except OSError as error:
            self._failure = self._failure or f"sending: {error}"

    def _verify(self):
        try:
            for portion in self._portions():
                came = b""
                while len(came) < PORTION:
                    some = self._connection.recv(PORTION - len(came))
                    if not some:
                        raise OSError(f"the end, after {len(came)} bytes of {PORTION}")
                    came += some
                if came != portion:
                    raise OSError("other bytes came back than were sent")
                self.verified += PORTION
                if self.verified == self._total:
                    break
        except OSError as error:
            self._failure = self._failure or f"receiving: {error}"
