"""The driver as an administrator gets it: a DKMS tree, and a module that says what
it is."""

import contextlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from bed import kernel
from bed.balloon_driver import REPOSITORY, module

KMOD = REPOSITORY / "kmod"


def output(*argv, **options):
    done = subprocess.run([str(word) for word in argv], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)
    assert done.returncode == 0, f"{argv} ended with status {done.returncode}:\n{done.stdout}"
    return done.stdout


def modinfo(path, field):
    return output("/sbin/modinfo", "-F", field, path).strip()


def dkms_conf(name):
    return re.search(rf'^{name}="(.*)"$', (KMOD / "dkms.conf").read_text(), re.M)[1]


@contextlib.contextmanager
def builder(bed, linux, tmp_path):
    """A folder to lay the tree out in, and a function that runs dkms with it: with this
    system's, or, for a kernel whose headers want a newer one, inside that.  Both with
    the headers' folder."""
    release = kernel.fetch(bed.cache, linux).version
    if linux == "newest":
        tree = kernel.newest_tree(bed.cache)
        with tempfile.TemporaryDirectory(dir=tree / "tmp") as folder:
            def run(*words):
                inside = [str(word).removeprefix(str(tree)) for word in words]
                return output(REPOSITORY / "scripts/inside", tree, "env",
                              "sign_file=/nonexistent", "dkms", *inside)
            yield Path(folder), tree / f"usr/src/linux-headers-{release}", run
        return

    def run(*words):
        # Without signing: for that, it would make a key of the machine's.
        return output("/usr/sbin/dkms", *words, env={
            **os.environ, "sign_file": "/nonexistent", "PATH": "/usr/sbin:/usr/bin"})
    headers = output(REPOSITORY / "scripts/kernel-headers", release,
                     env={**os.environ, "BED": str(bed.cache)})
    yield tmp_path, headers.splitlines()[-1], run


@pytest.mark.parametrize("linux", ["bookworm", "6.12", "newest"])
def test_dkms_builds_the_tree_that_make_lays_out(bed, tmp_path, linux):
    release = kernel.fetch(bed.cache, linux).version
    name, version = dkms_conf("PACKAGE_NAME"), dkms_conf("PACKAGE_VERSION")
    with builder(bed, linux, tmp_path) as (folder, headers, dkms):
        output("make", "-C", KMOD, "dkms-tree", f"DESTDIR={folder}")
        built = folder / "dkms"
        built.mkdir()
        said = dkms("build", f"{name}/{version}", "-k", release, "--arch", "x86_64",
                    "--dkmstree", built, "--sourcetree", folder / "usr/src",
                    "--kernelsourcedir", headers)
        place = built / name / version / release / "x86_64"
        found = next(place.glob(f"module/{dkms_conf(re.escape('BUILT_MODULE_NAME[0]'))}.ko*"),
                     None)
        assert found, said
        assert "warning:" not in (place / "log/make.log").read_text()
        assert modinfo(found, "vermagic").split()[0] == release
        assert modinfo(found, "version") == version


def test_the_module_says_what_it_is_and_documents_its_parameters(bed):
    path = module(bed, "6.12")
    assert modinfo(path, "license") == "GPL"
    assert modinfo(path, "alias") == "virtio:d00000005v*"
    assert modinfo(path, "version") == dkms_conf("PACKAGE_VERSION")
    assert modinfo(path, "description") and modinfo(path, "author")
    parameters = dict(line.split(":", 1) for line in modinfo(path, "parm").splitlines())
    types = dict(line.split(":", 1) for line in modinfo(path, "parmtype").splitlines())
    assert parameters.keys() == types.keys()    # each has a description
    table = (KMOD / "README.md").read_text().split("## Parameters")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", table, re.M))
    assert documented.keys() == parameters.keys()
    for name, default in documented.items():
        assert f"(default: {default}" in parameters[name]


def test_virtio_balloon_makes_way_where_the_configuration_is_installed(tmp_path):
    (tmp_path / "umbra-balloon.conf").write_text((KMOD / "umbra-balloon.conf").read_text())
    assert "blacklist virtio_balloon" in output(
        "/sbin/modprobe", "--config", tmp_path, "--showconfig")
