"""The manual says what the program does, and the program what the manual says."""

import json
import re
import shutil
import subprocess

import pytest
from bed.bed import REPOSITORY
from simulated import run

MANUAL = REPOSITORY / "docs/man"
PAGES = sorted(page.name for page in MANUAL.iterdir() if page.name.startswith("umbra"))


pytestmark = pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_mistakes(page):
    done = subprocess.run(["mandoc", "-Tlint", "-Wall", MANUAL / page], capture_output=True,
                          text=True)
    complaints = [line for line in done.stdout.splitlines()
                  if "referenced manual not found" not in line]
    assert complaints == []
    references = set(re.findall(r"^\.Xr (umbra\S*) (\d)", (MANUAL / page).read_text(), re.M))
    assert {f"{name}.{section}" for name, section in references} <= set(PAGES)


@pytest.mark.parametrize("page, words", [
    ("umbra.1", ["--help"]), ("umbra-shadow.1", ["help", "shadow"]),
    ("umbra-ctl.1", ["help", "ctl"]),
    ("umbra-balloon.1", ["help", "balloon"])], ids=lambda case: case)
def test_help_and_page_have_the_same_options(program, page, words):
    shown = re.findall(r"^ +(?:-\w, )?--([a-z-]+)", run(program, *words).stdout, re.M)
    items = re.findall(r"^\.It Fl (?:\w , Fl )?-([a-z-]+)", (MANUAL / page).read_text(), re.M)
    assert shown
    assert sorted(shown) == sorted(items)


def members(value):
    """The names of all members, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from members(inner)


def test_the_page_has_every_command_and_every_member_of_a_balloon(simulated_balloon):
    page = (MANUAL / "umbra-qmp.7").read_text()
    with simulated_balloon.talk() as client:
        for command in client.ask("query-commands")["return"]:
            assert f".It Cm {command['name']}" in page
        for query in ("query-status", "query-balloon", "query-balloon-stats"):
            for name in members(client.ask(query)["return"]):
                assert re.search(rf"\.(It )?Va {re.escape(name)}\b", page), name


def test_the_page_has_every_command_and_every_member(simulated):
    page = (MANUAL / "umbra-qmp.7").read_text()
    simulated.knob("state", "broken why")
    simulated.wait_done("state")
    simulated.knob("break", "0 why")
    simulated.wait_done("break")
    with simulated.talk() as client:
        for command in client.ask("query-commands")["return"]:
            assert f".It Cm {command['name']}" in page
        for query in ("query-status", "query-vhost"):
            for name in members(client.ask(query)["return"]):
                assert re.search(rf"\.(It )?Va {re.escape(name)}\b", page), name


def test_the_conversation_in_the_page_happens(simulated):
    """Byte for byte up to white space and values that a device decides on."""
    page = (MANUAL / "umbra-qmp.7").read_text()
    block = re.search(r"\.Bd -literal[^\n]*\n(.*?)\.Ed", page, re.S).group(1)
    turns = re.findall(r"^(<-|->) (.*(?:\n    .*)*)", block, re.M)
    assert len(turns) == 5
    with simulated.talk(negotiate=False) as client:
        for way, said in turns:
            said = json.loads(said)
            if way == "->":
                client.send(json.dumps(said))
                continue
            got = client.greeting if "QMP" in said else client.read()
            if "QMP" in said:
                assert set(got["QMP"]["version"]["qemu"]) == set(said["QMP"]["version"]["qemu"])
            elif "id" in said:
                assert set(got["return"]) == set(said["return"])
                assert got["id"] == said["id"]
            else:
                assert got == said
