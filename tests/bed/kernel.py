"""Debian's own kernel for the QEMU guest: downloaded and unpacked, never
installed.  The "cloud" flavour, since it is small and boots fast."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

PACKAGE = "linux-image-cloud-amd64"


class Kernel(NamedTuple):
    image: Path
    modules: Path


def fetch(cache):
    """The kernel, from the cache or from Debian's mirror."""
    tree = cache / "kernel"
    if not tree.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _unpack(_newest(), tree)
    return Kernel(next(tree.glob("boot/vmlinuz-*")), tree / "lib/modules")


def _newest():
    """The package that the metapackage stands for today."""
    for attempt in range(2):
        found = re.search(r"Depends: (linux-image-\S+)",
                          _output("apt-cache", "depends", PACKAGE))
        if found:
            return found[1]
        if attempt == 0:
            _output("apt-get", "update")    # a machine without package lists
    raise FileNotFoundError(f"apt knows no package {PACKAGE}")


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
    unfinished.rename(tree)


def _output(*argv, cwd=None):
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")
    return done.stdout
