"""Debian's own kernels for the QEMU guest: downloaded and unpacked, never
installed.  The "cloud" flavour, since it is small and boots fast."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

#: By what it is asked for, the package that depends on the newest one.
PACKAGES = {"bookworm": "linux-image-cloud-amd64",
            "6.12": "linux-image-6.12-cloud-amd64"}


class Kernel(NamedTuple):
    image: Path
    modules: Path
    version: str                # as uname -r says it


def fetch(cache, name="bookworm"):
    """A kernel, from the cache or from Debian's mirror: bookworm's, or 6.12."""
    tree = cache / ("kernel" if name == "bookworm" else f"kernel-{name}")
    if not tree.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _unpack(_package(cache, name), tree)
    image = next(tree.glob("boot/vmlinuz-*"))
    return Kernel(image, tree / "lib/modules", image.name.removeprefix("vmlinuz-"))


def _package(cache, name):
    """The package that the metapackage stands for today; or, if a module has
    been built for one of these kernels, that of the same version, which alone
    takes the module (scripts/build-kmod looks the other way round)."""
    for headers in cache.glob(f"kbuild-{name}*-amd64"):
        return f"linux-image-{headers.name.removeprefix('kbuild-')}"
    for attempt in range(2):
        found = re.search(r"Depends: (linux-image-\S+)",
                          _output("apt-cache", "depends", PACKAGES[name]))
        if found:
            return found[1]
        if attempt == 0:
            _output("apt-get", "update")    # a machine without package lists
    raise FileNotFoundError(f"apt knows no package {PACKAGES[name]}")


def _unpack(package, tree):
    unfinished = tree.with_name(f"{tree.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        _output("apt-get", "-q", "download", package, cwd=unfinished)
    except RuntimeError:
        _output("apt-get", "-q", "update")
        _output("apt-get", "-q", "download", package, cwd=unfinished)
    archive = next(unfinished.glob("*.deb"))
    _output("dpkg-deb", "-x", archive, unfinished)
    archive.unlink()
    # The guests' insmod takes modules as they are.
    packed = list(unfinished.rglob("*.ko.xz"))
    if packed:
        _output("xz", "-d", *packed)
    try:
        unfinished.rename(tree)
    except OSError:
        if not tree.exists():           # or somebody was faster
            raise
        shutil.rmtree(unfinished)


def _output(*argv, cwd=None):
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        words = " ".join(map(str, argv))
        raise RuntimeError(f"{words[:200]}: {done.stderr.strip()}")
    return done.stdout
