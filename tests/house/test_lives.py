"""The manual's walks through the sources are those of the sources."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS_MOST = 10


def steps_of(title):
    """Function and file of each numbered step; a file is said where it changes."""
    manual = (ROOT / "docs/architecture.md").read_text()
    section = re.search(rf"^## {re.escape(title)}\n(.*?)^## ", manual, re.S | re.M).group(1)
    where = None
    for step in re.findall(r"^\d+\. (.*?)(?=^\d+\. |^\n|\Z)", section, re.S | re.M):
        name = re.match(r"`(\w+)\(\)`", step)
        file = re.match(r"`\w+\(\)`\s+\(([\w/]+\.c)\)", step)
        where = ROOT / "src" / file.group(1) if file else where
        yield name.group(1), where


def body_of(name, file):
    found = re.search(rf"^[a-z][^\n;{{}}]*\b{name}\([^;{{}}]*\)\n\{{\n(.*?)^\}}",
                      file.read_text(), re.S | re.M)
    assert found, f"{file} has no {name}()"
    return found.group(1)


def calls(body, name):
    """By its name, or by the member of a table that it fills."""
    members = set(re.findall(r"(?:->|\.)(\w+)\(|\bask\(\w+, (\w+)", body))
    members = {member for pair in members for member in pair if member}
    return re.search(rf"\b{name}\(", body) or any(
        name.startswith(m + "_") or name.endswith("_" + m) for m in members)


def test_the_life_of_one_message_is_a_chain_of_calls():
    steps = list(steps_of("The life of one message"))
    assert 8 <= len(steps) <= STEPS_MOST
    for (caller, file), (callee, _) in zip(steps, steps[1:]):
        assert calls(body_of(caller, file), callee), f"{caller}() does not call {callee}()"
    body_of(*steps[-1])


def test_a_call_that_is_none_is_found():
    assert calls("\treturn s->device->ops->ring_start(b);\n", "client_ring_start")
    assert not calls("\treturn s->device->ops->ring_start(b);\n", "client_ring_stop")
    assert calls("\treturn ask(s, ring_start, err);\n", "shadow_ring_start")
    assert not calls("\treturn ask(s, ring_start, err);\n", "shadow_ring_stop")
    with pytest.raises(AssertionError):
        body_of("no_such_function", ROOT / "src/device/shadow_rings.c")
