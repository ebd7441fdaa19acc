"""What every guest can do, whatever it runs on.

The guest's user space is busybox; mkfs.ext4, fsck.ext4 and fio are the
host's, found under /host in the guest and run there by chroot.
"""

import itertools
import shlex

from .console import CommandFailed, Console
from .process import Process
from .wait import PATIENCE

#: How a guest prepares /host, once it is mounted.  /host itself is read-only:
#: scratch files go to its /tmp, which is the guest's own.
HOST_SETUP = """
mount -o bind /dev /host/dev
mount -t proc proc /host/proc
mount -t sysfs sys /host/sys
mount -o bind /tmp /host/tmp
"""


class Guest:
    """Subclasses say how to boot: argv(), and memory_name."""

    #: What the guest's memory is called in the maps of those who share it.
    memory_name = None

    def __init__(self, bed, name, argv, env=None):
        self.bed = bed
        self.name = name
        self._jobs = itertools.count(1)
        log = bed.log(name)
        self.process = bed.start(Process(name, argv, log, env=env, console=True),
                                 stop=self.kill)
        self.console = Console(name, self.process.popen.stdout,
                               self.process.popen.stdin, log)

    def wait_boot(self):
        self.console.wait_ready()
        return self

    def alive(self):
        return self.process.alive()

    def run(self, command, deadline=PATIENCE):
        """Run shell text; returns (status, output)."""
        return self.console.command(command, deadline)

    def check(self, command, deadline=PATIENCE):
        """Run shell text that must succeed; returns its output."""
        status, output = self.run(command, deadline)
        if status != 0:
            raise CommandFailed(f"{self.name}: '{command}' ended with status "
                                f"{status}:\n{output}")
        return output

    def host_tool(self, *words):
        """The shell text that runs a program of the host in the guest."""
        return "chroot /host " + shlex.join(
            ["/usr/bin/env", "-C", "/tmp",
             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *map(str, words)])

    def spawn(self, command):
        """Run one simple command in the background; returns a Job."""
        return Job(self, next(self._jobs), command)

    def script(self, text, *arguments):
        """The words that run shell text as one simple command; its $1, $2, ..."""
        return shlex.join(["sh", "-ec", text, "-", *arguments])

    def disk_requests(self, disk="vda"):
        """Requests that the guest has seen completed on a disk."""
        fields = self.check(f"cat /sys/block/{disk}/stat").split()
        return int(fields[0]) + int(fields[4])

    def wait_disk_requests(self, more, disk="vda", deadline=PATIENCE):
        """Until that many more requests have completed."""
        self.check(f"""
            completed() {{
                read -r reads _ _ _ writes _ </sys/block/{disk}/stat
                echo $((reads + writes))
            }}
            goal=$(($(completed) + {more}))
            while [ $(completed) -lt $goal ]; do usleep 10000; done
            """, deadline)

    def poweroff(self, deadline=PATIENCE):
        """A proper end; the exit status of the machine."""
        self.console.send("sync; poweroff -f")
        status = self.process.wait(deadline)
        self.kill()                     # helpers, if any; and the pipes
        return status

    def kill(self):
        """kill -9, with all its helper processes."""
        self.process.kill()
        self.console.close()


class Job:
    """A command that runs in the background of a guest.

    Its status is left in a FIFO, so that waiting is one blocking read in the
    guest and not a poll.
    """

    def __init__(self, guest, number, command):
        self.guest = guest
        self.command = command
        self._base = f"/tmp/job{number}"
        inner = shlex.quote(f"echo $$ >{self._base}.pid; exec {command}")
        guest.check(f"mkfifo {self._base}.end; "
                    f"( sh -c {inner} >{self._base}.out 2>&1; status=$?; "
                    f"touch {self._base}.ended; "
                    f"echo $status >{self._base}.end ) &")

    @property
    def ended(self):
        """A file that exists once it has ended."""
        return f"{self._base}.ended"

    def running(self):
        status, _ = self.guest.run(f"test -e {self.ended}")
        return status != 0

    def output(self):
        """What it has said so far."""
        return self.guest.check(f"cat {self._base}.out")

    def terminate(self):
        self.guest.check(f"kill -TERM $(cat {self._base}.pid)")

    def interrupt(self):
        """What Control-C would do."""
        self.guest.check(f"kill -INT $(cat {self._base}.pid)")

    def wait(self, deadline=PATIENCE):
        """(status, output) once it has ended."""
        status = int(self.guest.check(f"cat {self._base}.end", deadline))
        return status, self.guest.check(f"cat {self._base}.out")
