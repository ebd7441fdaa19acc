"""Programs of Debian 13 (trixie) that bookworm has too old: downloaded with all
the libraries that they need, unpacked side by side, never installed.

apt does it, as it would for a machine with nothing installed: a root of its own,
this machine's mirror and settings (proxies, ...), signatures checked against
Debian's keys.  A program then runs under its own tree's dynamic loader, so that
paths stay the host's.  No root and no chroot is needed.
"""

import fcntl
import os
import re
import shutil
import subprocess
import time

SUITES = ("trixie", "trixie-backports")         # the last is preferred
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def fetch(cache, package, *more):
    """The tree of the newest version of this package, and of more, from the cache or
    from the mirror.  It is called by the first one's name."""
    tree = cache / f"trixie-{package}"
    if not tree.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = cache / f"trixie-{package}.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            _unpack(cache, [package, *more], unfinished)
            try:
                unfinished.rename(tree)
            except OSError:
                if not tree.exists():           # or somebody was faster
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return tree


def program(tree, name, folder="usr/bin", libraries=()):
    """The words that run a program of a tree; with folders of libraries that it
    loads by name, besides the usual one."""
    path = ":".join(map(str, (tree / "usr/lib/x86_64-linux-gnu", *libraries)))
    return [tree / "usr/lib64/ld-linux-x86-64.so.2", "--library-path", path,
            tree / folder / name]


def _unpack(cache, packages, tree):
    apt = tree / "apt"
    (apt / "archives/partial").mkdir(parents=True)
    (apt / "status").touch()                    # nothing is installed there
    own = {"Dir::State::Status": apt / "status", "Dir::Cache": apt,
           "Dir::Cache::Archives": apt / "archives"}
    try:
        _apt_get(_lists(cache), own, "install", "--download-only", *packages)
    except FileNotFoundError:                   # the mirror may have moved on since
        (cache / "trixie-lists/fetched").unlink(missing_ok=True)
        _apt_get(_lists(cache), own, "install", "--download-only", *packages)
    for archive in (apt / "archives").glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", archive, tree], check=True)
    shutil.rmtree(apt)
    for name in ("usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(tree / name, ignore_errors=True)


def _lists(cache):
    """What the mirror has, as apt keeps it: fetched anew once a day, for all
    packages."""
    lists = cache / "trixie-lists"
    lists.mkdir(exist_ok=True)
    with open(lists / "lock-of-the-bed", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fetched = lists / "fetched"
        if not fetched.exists() or fetched.stat().st_mtime < time.time() - 86400:
            mirror = _mirror()
            (lists / "sources.list").write_text("".join(
                f"deb [signed-by={KEYRING}] {mirror} {suite} main\n" for suite in SUITES))
            (lists / "lists/partial").mkdir(parents=True, exist_ok=True)
            (lists / "status").touch()
            _apt_get(lists, {"Dir::State::Status": lists / "status", "Dir::Cache": lists},
                     "update", "--error-on=any")
            fetched.touch()
    return lists


def _apt_get(lists, places, *words):
    options = [word for name, value in {
        "Dir::Etc::SourceList": lists / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State::Lists": lists / "lists",
        **places,
        "APT::Sandbox::User": "",               # the folder may be ours alone
        "APT::Default-Release": SUITES[-1],
        "APT::Install-Recommends": "false",
    }.items() for word in ("-o", f"{name}={value}")]
    done = subprocess.run(["apt-get", *options, "-q", "-y", *words],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise FileNotFoundError(
            f"Debian's mirror, in {' or '.join(SUITES)}: 'apt-get {' '.join(words)}' "
            f"says:\n{done.stdout[-1500:]}{done.stderr}")


def _mirror():
    """Where this machine has its Debian from."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)",
         "Created-By: Packages"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"^(\S+/) bookworm$", listing, re.M)
    if not found:
        raise FileNotFoundError("apt has no source of Debian's suite bookworm, so that it is "
                                f"not known where to find {SUITES[0]}:\n{listing}")
    return found[1]
