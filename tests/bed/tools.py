"""A disk image with a few of the host's programs and their libraries, for a
guest that cannot see the host's file system."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

PROGRAMS = ("/usr/bin/env", "/usr/bin/fio", "/usr/sbin/mkfs.ext4",
            "/usr/sbin/fsck.ext4", "/usr/bin/split")

#: Mount points that HOST_SETUP of guest.py wants.
MOUNT_POINTS = ("dev", "proc", "sys", "tmp")


def build(cache):
    """An ext4 image, made once for each version of the programs."""
    libraries = _libraries()
    files = [Path(name) for name in (*PROGRAMS, *libraries)]
    key = hashlib.sha256("".join(
        f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n"
        for path in files).encode()).hexdigest()[:16]
    image = cache / f"tools-{key}.img"
    if image.exists():
        return image
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        root = Path(scratch, "root")
        for name in MOUNT_POINTS:
            (root / name).mkdir(parents=True)
        # Debian's merged /usr, so that both names of a path are found.
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / "usr" / name).mkdir(parents=True)
            (root / name).symlink_to(f"usr/{name}")
        for path in files:
            target = root / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        unfinished = Path(scratch, "image")
        subprocess.run(
            ["/sbin/mkfs.ext4", "-q", "-O", "^has_journal", "-d", root,
             unfinished, "192M"],
            check=True, capture_output=True, env={**os.environ, "TZ": "UTC"})
        unfinished.rename(image)
    return image


def _libraries():
    listing = subprocess.run(["ldd", *PROGRAMS], check=True,
                             capture_output=True, text=True).stdout
    return sorted(set(re.findall(r"(?:=> |^\s+)(/\S+) \(", listing, re.M)))
