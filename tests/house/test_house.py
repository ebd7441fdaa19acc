"""scripts/check-house finds a violation of each of its rules, and a list that says too much."""

import json
import os
import re
import shutil
import subprocess

import pytest
from bed.bed import REPOSITORY, build_directory

CHECK = REPOSITORY / "scripts/check-house"


class House:
    """A copy of what the check reads, to be spoilt.  Its objects are this build's, but for
    the files that are compiled anew."""

    def __init__(self, folder):
        self.root = folder / "house"
        self.script = self.root / "scripts/check-house"
        for name in ("src", "include", "kmod", "docs", "scripts"):
            shutil.copytree(REPOSITORY / name, self.root / name, symlinks=True)
        build = build_directory().resolve()
        self.plan = [entry | {"file": os.path.relpath(os.path.join(entry["directory"],
                                                                   entry["file"]), REPOSITORY)}
                     for entry in json.loads((build / "compile_commands.json").read_text())]
        self.plan = [entry for entry in self.plan if entry["file"].startswith("src/")
                     and not entry["output"].startswith("tests/")]

    def append(self, name, line):
        with open(self.root / name, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def replace(self, name, old, new):
        text = (self.root / name).read_text()
        assert old in text
        (self.root / name).write_text(text.replace(old, new, 1))

    def compile(self, name):
        """With this build's command, from the copy."""
        entry = next(entry for entry in self.plan if entry["file"] == name)
        command = entry["command"]
        output = str(self.root / (name.replace("/", "_") + ".o"))
        command = re.sub(r" -o \S+", f" -o {output}", command)
        command = re.sub(r" -M[FQ] \S+| -MD", "", command)
        command = re.sub(r" -c \S+$", f" -c {self.root / name}", command)
        assert output in command and str(self.root / name) in command
        subprocess.run(command, shell=True, check=True, cwd=entry["directory"])
        entry["output"] = output

    def check(self):
        plan = self.root / "plan"
        plan.mkdir(exist_ok=True)
        (plan / "compile_commands.json").write_text(json.dumps(self.plan))
        done = subprocess.run([self.script, f"--build={plan}"], capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout.splitlines()[:-1 if done.returncode == 0 else None]


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_the_house_as_it_is_passes(house):
    assert house.check() == []


@pytest.mark.parametrize("name, line, complaint", [
    pytest.param("src/base/log.c", '#include "ring/split.h"',
                 'include: src/base/log.c:N: includes "ring/split.h"; base may include umbra',
                 id="upward"),
    pytest.param("src/host/worker.h", '#include "vdpa/vhost_vdpa.h"',
                 'include: src/host/worker.h:N: includes "vdpa/vhost_vdpa.h"; host may include ',
                 id="upward-in-a-header-that-nobody-compiles"),
    pytest.param("src/cli/main.c", '#include "memory/memory.h"',
                 'include: src/cli/main.c:N: includes "memory/memory.h"; cli may include base',
                 id="the-program-into-the-library"),
    pytest.param("include/umbra/error.h", '#include "base/error.h"',
                 'include: include/umbra/error.h:N: includes "base/error.h"; a public header ',
                 id="a-public-header-into-the-library"),
    pytest.param("src/vhost_user/message.c", "uint16_t f(le16 *w) { return shm_load16(w); }",
                 "ring-word: src/vhost_user/message.c:N: shm_load16: a word of a ring",
                 id="a-load"),
    pytest.param("src/host/sharing.c", "void f(le32 *w) { shm_store32_release(w, 1); }",
                 "ring-word: src/host/sharing.c:N: shm_store32_release: a word of a ring",
                 id="a-store"),
    pytest.param("src/lib/ring_memory.c", "void *f(struct split_ring *r) { return &r->used->idx; }",
                 "ring-word: src/lib/ring_memory.c:N: ->used->idx: a word of a ring",
                 id="the-address-of-a-word"),
    pytest.param("src/host/sharing.c", "int f(void) { return VHOST_USER_SET_VRING_KICK; }",
                 "vhost-user: src/host/sharing.c:N: VHOST_USER_SET_VRING_KICK: not of ",
                 id="a-number-of-vhost-user"),
    pytest.param("src/host/sharing.c", "uint64_t f(void) { return BIT64(15); }",
                 "vhost-user: src/host/sharing.c:N: BIT64(15): a bit without a name",
                 id="a-bit-without-a-name"),
    pytest.param("src/session/backend_source.c", '#include "vhost_user/protocol.h"',
                 'vhost-user: src/session/backend_source.c:N: includes "vhost_user/protocol.h"',
                 id="the-header-of-the-numbers"),
])
def test_one_line_that_violates_a_rule_is_found(house, name, line, complaint):
    house.append(name, line)
    number = len((house.root / name).read_text().splitlines())
    (found,) = house.check()
    assert found.startswith(complaint.replace(":N:", f":{number}:"))


@pytest.mark.parametrize("line, kind, name", [
    pytest.param("static bool is_power_of_two(uint64_t v)\n{\n\treturn v;\n}", "function",
                 "is_power_of_two", id="function"),
    pytest.param("struct umbra_error {\n\tint i;\n};", "type", "umbra_error", id="struct"),
])
def test_a_name_that_something_else_has_is_found(house, line, kind, name):
    house.append("src/cli/main.c", line)
    if kind == "type":
        house.append("src/base/log.c", line)
    found = [line for line in house.check() if line.startswith("name: src/cli/main.c:")]
    assert len(found) == 1 and f": {name}: a {kind} of this name is in src/base/" in found[0]


@pytest.mark.parametrize("name, line", [
    pytest.param("src/base/log.c", "int nobody(void);\n\nint nobody(void)\n{\n\treturn 0;\n}",
                 id="external"),
    pytest.param("src/base/bits.h", "static inline int nobody(void)\n{\n\treturn 0;\n}",
                 id="inline"),
])
def test_a_function_that_nobody_calls_is_found(house, name, line):
    house.append(name, line)
    (found,) = house.check()
    assert found.startswith(f"caller: {name}:") and " nobody: has no caller" in found
    house.append("kmod/codec.c", "int in_kmod(void)\n{\n\treturn nobody();\n}")
    assert house.check() == []


def test_a_function_that_another_file_calls_has_a_caller(house):
    house.append("src/base/log.c", "int somebody(void);\n\nint somebody(void)\n{\n\treturn 0;\n}")
    house.append("src/cli/main.c", "int somebody(void);\nint (*called)(void) = somebody;")
    house.compile("src/base/log.c")
    house.compile("src/cli/main.c")
    assert house.check() == []


def test_a_function_that_tests_ask_and_somebody_calls_stands_in_the_list_in_vain(house):
    house.append("src/cli/main.c", "const void *asked(void);\n\nconst void *asked(void)\n{\n"
                                   "\treturn asked;\n}")
    house.replace("scripts/check-house", "ASKED_BY_TESTS = frozenset([",
                  'ASKED_BY_TESTS = frozenset(["asked",')
    (found,) = house.check()
    assert found.startswith("caller: asked has a caller, or is gone: take it out of ")


def test_functions_of_one_slot_may_share_a_name(house):
    for name in ("src/cli/main.c", "src/base/log.c"):
        house.append(name, "static int shared(void)\n{\n\treturn 0;\n}\n"
                           "struct { int (*run)(void); } t_%s = { .run = shared };" % name[4:7])
    assert house.check() == []


@pytest.mark.parametrize("line", [
    "/* VHOST_USER_SET_VRING_KICK, shm_load16(), BIT64(3) */",
    '// #include "ring/split.h"',
    'const char *s = "\\"VHOST_USER_SET_VRING_KICK, r->used->idx";'])
def test_what_is_only_said_violates_nothing(house, line):
    house.append("src/base/log.c", line)
    assert house.check() == []


def test_a_table_that_the_manual_does_not_show_is_found(house):
    house.replace("src/meson.build", "'memory': ['base'],", "'memory': [],")
    assert [line for line in house.check() if line.startswith("table: docs/architecture.md: ")]


def test_a_room_that_uses_what_is_above_it_is_found(house):
    house.replace("src/meson.build", "'base': [],", "'base': ['ring'],")
    assert "table: src/meson.build: base uses ring, which is not below it" in house.check()


def test_two_files_of_a_room_that_call_each_other_are_found_unless_both_heads_say_so(house):
    # log.c needs no other file of its room; error.c is made to call it, and it error.c.
    house.append("src/base/error.c", "void in_error(void); void in_log(void);\n"
                                     "void in_error(void) { in_log(); }")
    house.append("src/base/log.c", "void in_error(void); void in_log(void);\n"
                                   "void in_log(void) { in_error(); }")
    house.compile("src/base/error.c")
    house.compile("src/base/log.c")
    assert house.check() == [
        "circle: src/base/error.c: calls in a circle with log.c, through src/base/log.c (in_log)",
        "circle: src/base/log.c: calls in a circle with error.c, "
        "through src/base/error.c (in_error)"]

    for name, other in (("error.c", "log.c"), ("log.c", "error.c")):
        house.replace(f"src/base/{name}", "*/\n",
                      f"*/\n/*\n * Calls in a circle\n * with {other}: for a test.\n */\n")
    assert house.check() == []


def test_two_files_of_two_rooms_that_call_each_other_are_found_whatever_they_say(house):
    for name, other, own, theirs in (("src/base/error.c", "fault.c", "in_error", "in_fault"),
                                     ("src/ring/fault.c", "error.c", "in_fault", "in_error")):
        house.replace(name, "*/\n", f"*/\n/* Calls in a circle with {other}: for a test. */\n")
        house.append(name, f"void {own}(void); void {theirs}(void);\n"
                           f"void {own}(void) {{ {theirs}(); }}")
        house.compile(name)
    found = house.check()
    assert len(found) == 2
    assert all(line.startswith("circle: src/") and line.endswith(", across rooms")
               for line in found)


def test_a_head_that_speaks_of_a_circle_that_is_gone_is_found(house):
    house.replace("src/base/error.c", "*/\n", "*/\n/* Calls in a circle with log.c: once. */\n")
    assert house.check() == ["circle: src/base/error.c: its head says that it calls in a circle "
                             "with log.c, which it does not"]


def test_a_violation_that_stands_in_the_list_and_nowhere_else_is_found(house):
    house.replace("scripts/check-house", "frozenset([", 'frozenset([("include", "base"),')
    (found,) = house.check()
    assert found.startswith("include: nothing in base violates it any more: take ")


def test_what_is_not_built_is_said(house):
    house.plan = [entry for entry in house.plan if entry["file"] != "src/base/log.c"]
    plan = house.root / "plan"
    plan.mkdir()
    (plan / "compile_commands.json").write_text(json.dumps(house.plan))
    done = subprocess.run([house.script, f"--build={plan}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "check-house: not built: src/base/log.c\n")
