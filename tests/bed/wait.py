"""Waiting, with a deadline and a name for what is waited for."""

import time

#: Seconds after which a thing is taken to hang.  Not a measure of speed: many times
#: what the longest single step needs on two processors that a dozen others want,
#: under a sanitizer.  Who waits for longer than one step may ask for multiples; no
#: wait that is expected to succeed has a shorter one.
PATIENCE = 600.0


class TimedOut(AssertionError):
    """The awaited thing did not happen; the message says what and how long."""


class Deadline:
    """A point in time, and what should have happened by then.

    Seconds, or another Deadline, so that a wait inside a wait does not start
    the clock anew.
    """

    def __init__(self, seconds, what):
        self.what = what
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self):
        """Seconds left; raises TimedOut when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimedOut(f"waited {self.seconds:g} s in vain for {self.what}")
        return left


def wait_until(predicate, what, deadline=PATIENCE):
    """Call predicate until it returns something true, and return that.

    For what cannot be had as an event.  Looks often at first, since most
    things happen at once, and less often later.
    """
    limit = Deadline(deadline, what)
    pause = 0.001
    while not (result := predicate()):
        time.sleep(min(pause, limit.left()))
        pause = min(pause * 1.5, 0.1)
    return result
