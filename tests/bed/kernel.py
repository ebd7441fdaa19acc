"""Debian's own kernels for the QEMU guest: downloaded and unpacked, never
installed.  The "cloud" flavour, since it is small and boots fast.

The newest one is trixie-backports'.  Its modules want the compiler of that release,
and the tools that come with its headers want that release's libraries: all of this is
one tree, inside which scripts/build-kmod builds (scripts/inside).
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from . import trixie

#: By what it is asked for, the package that depends on the newest one.
PACKAGES = {"bookworm": "linux-image-cloud-amd64",
            "6.12": "linux-image-6.12-cloud-amd64"}

#: The newest kernel, how to build a module for it as an administrator does, and what
#: a system has besides, which no package says that it needs.
NEWEST = ("linux-image-cloud-amd64", "linux-headers-cloud-amd64", "gcc-14", "make", "dkms",
          "base-files", "bash", "coreutils", "dash", "debianutils", "diffutils", "findutils",
          "grep", "gzip", "mawk", "perl-base", "sed", "tar", "util-linux", "xz-utils")


class Kernel(NamedTuple):
    image: Path
    modules: Path
    version: str                # as uname -r says it


def fetch(cache, name="bookworm"):
    """A kernel, from the cache or from Debian's mirror: bookworm's, 6.12, or the
    newest."""
    if name == "newest":
        return _newest(cache)
    tree = cache / ("kernel" if name == "bookworm" else f"kernel-{name}")
    if not tree.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _unpack(_package(cache, name), tree)
    image = next(tree.glob("boot/vmlinuz-*"))
    return Kernel(image, tree / "lib/modules", image.name.removeprefix("vmlinuz-"))


def newest_tree(cache):
    """Where the newest kernel lies, with all that builds modules for it."""
    tree = trixie.fetch(cache, *NEWEST)
    # What Debian's alternatives would do.
    awk = tree / "usr/bin/awk"
    if not awk.is_symlink():
        try:
            awk.symlink_to("mawk")
        except FileExistsError:
            pass                        # somebody was faster
    return tree


def _newest(cache):
    tree = newest_tree(cache)
    image = next(tree.glob("usr/lib/modules/*/vmlinuz"))
    version = image.parent.name
    modules = tree / f"modules-{version}"
    if not modules.exists():
        unfinished = tree / f"modules.{os.getpid()}"
        shutil.copytree(image.parent / "kernel", unfinished)
        _unpack_modules(unfinished)
        _settle(unfinished, modules)
    return Kernel(image, modules, version)


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
    _unpack_modules(unfinished)
    _settle(unfinished, tree)


def _unpack_modules(tree):
    """The guests' insmod takes modules as they are."""
    packed = list(tree.rglob("*.ko.xz"))
    if packed:
        _output("xz", "-d", *packed)


def _settle(unfinished, tree):
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
