"""Initramfs images for the guests, written without any outside tool.

An image holds a static busybox, kernel modules, and an init that answers
commands on the console (console.py has the other half).  The format is cpio
"newc", as in Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import hashlib
import os
import re
import stat
from pathlib import Path

BUSYBOX = Path("/bin/busybox")

#: Reads one command a line, base64 so that it may hold anything, and answers
#: with the command's output and a closing line that carries its status.
INIT = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /bin /sbin /usr/bin /usr/sbin /proc /sys /dev /tmp /mnt /host
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/ TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
while read -r module; do
	insmod "/modules/$module" || echo "init: no $module"
done </modules/order
. /setup
# The kernel puts words of its command line that it does not know here.
exec <"/dev/${bed_console:-console}" >"/dev/${bed_console:-console}" 2>&1
stty raw -echo
printf '\n<<ready>>\n'
while IFS= read -r line; do
	( eval "$(echo "$line" | base64 -d)" ) </dev/null
	printf '\n<<status %d>>\n' $?
done
echo 'init: end of input'
poweroff -f
"""


def module_files(tree, names):
    """The .ko files of these modules and of all that they depend on, in the
    order in which to insert them.

    Asks the modules themselves rather than modules.dep, which an unpacked
    kernel package does not have.  A name without a file is taken to be built
    in.
    """
    files = {path.stem.replace("-", "_"): path for path in tree.rglob("*.ko")}
    ordered = []

    def add(name):
        path = files.get(name.replace("-", "_"))
        if not path or path in ordered:
            return
        found = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for needed in found[1].decode().split(",") if found else ():
            if needed:
                add(needed)
        ordered.append(path)

    for name in names:
        add(name)
    return ordered


def build(directory, modules, setup, spare=(), files=()):
    """An image with these module files, which runs the shell text SETUP
    before it takes commands.  Returns its path; the same image is built once.

    The spare modules lie in /modules, too, for a test to insert.  The files,
    pairs of name and path, lie where their names say.
    """
    order = "".join(f"{path.name}\n" for path in modules)
    image = archive([
        ("bin/busybox", BUSYBOX.read_bytes()),
        ("init", INIT.encode()),
        ("setup", setup.encode()),
        ("modules/order", order.encode()),
        *((f"modules/{path.name}", path.read_bytes())
          for path in (*modules, *spare)),
        *((name, path.read_bytes()) for name, path in files),
    ], _entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
    path = directory / f"initramfs-{hashlib.sha256(image).hexdigest()[:16]}"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(image)
        unfinished.rename(path)
    return path


def archive(files, more=b""):
    """The bytes of an image, or of a further part of one, with these pairs of
    name and content, and the folders that they need."""
    folders = {str(folder) for name in ("dev/console", *(name for name, _ in files))
               for folder in Path(name).parents} - {"."}
    return b"".join(
        [*(_entry(name, stat.S_IFDIR | 0o755) for name in sorted(folders)),
         *(_entry(name, stat.S_IFREG | 0o755, data) for name, data in files),
         more, _entry("TRAILER!!!", 0)])


def _entry(name, mode, data=b"", device=(0, 0)):
    encoded = name.encode() + b"\0"
    header = "070701" + "".join(f"{field:08x}" for field in (
        0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0))
    return _pad(header.encode() + encoded) + _pad(data)


def _pad(data):
    return data + bytes(-len(data) % 4)
