"""The lines for a QEMU balloon in README and manual work as they stand, and what they say
of the end is so, with trixie's QEMU."""

import re

import pytest

from bed import QmpClient, trixie, wait_until
from bed.bed import REPOSITORY
from bed.process import Process

SOURCES = {
    "README.md": re.compile(r"^    (umbra balloon [^\n]*&)\n((?:    .*\n)*?.*virtio-id=5.*\n)",
                            re.M),
    "docs/man/umbra-balloon.1": re.compile(
        r"^(umbra balloon [^\n]*&)\n((?:[^.].*\n)*?.*virtio-id=5.*\n)", re.M),
}


def started(bed, name, line, folder):
    """By a shell, in its folder, as somebody types it."""
    return bed.start(Process(
        name, ["sh", "-c", f"cd {bed.directory} && PATH={folder}:$PATH && exec {line}"],
        bed.log(name)))


def connected(path):
    """A client of it, or None.  (Its own name for itself is not absolute.)"""
    try:
        return QmpClient(path)
    except (FileNotFoundError, ConnectionError):
        return None


@pytest.fixture
def folder(bed):
    """Where a shell finds the programs by their names."""
    folder = bed.path("bin")
    folder.mkdir()
    (folder / "umbra").symlink_to(bed.program)
    tree = trixie.fetch(bed.cache, "qemu-system-x86")
    qemu = " ".join(map(str, trixie.program(tree, "qemu-system-x86_64")))
    script = folder / "qemu-system-x86_64"
    # Nothing to boot, nothing to see, and it does not run.
    script.write_text(f"""#!/bin/sh
export QEMU_MODULE_DIR={tree}/usr/lib/x86_64-linux-gnu/qemu
exec {qemu} -L {tree}/usr/share/qemu -L {tree}/usr/share/seabios "$@" \\
    -nodefaults -display none -S -qmp unix:monitor,server=on,wait=off
""")
    script.chmod(0o755)
    return folder


@pytest.mark.parametrize("source", SOURCES)
def test_the_lines_for_a_balloon_of_qemu_work_as_they_stand(source, folder, bed):
    found = SOURCES[source].search((REPOSITORY / source).read_text())
    assert found, f"{source} has no such lines"
    started(bed, "typed-umbra", found[1].removesuffix("&"), folder)
    client = wait_until(lambda: connected(bed.path("balloon.ctl")), "umbra to listen")
    assert client.execute("query-status")["state"] == "waiting"
    # In man pages a backslash is written \\e.
    line = found[2].replace("\\e\n", "\\\n").replace(" ...", "")
    qemu = started(bed, "typed-qemu", line, folder)
    # It answers when it has made all its devices.
    monitor = wait_until(lambda: not qemu.alive() or connected(bed.path("monitor")),
                         "QEMU to be there")
    assert qemu.alive(), qemu.tail()
    assert monitor.execute("query-status")["status"] == "prelaunch"
    wait_until(lambda: client.execute("query-status")["state"] == "negotiating",
               "umbra to show that QEMU is there")
    monitor.close()
    client.close()
