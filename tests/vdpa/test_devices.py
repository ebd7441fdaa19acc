"""The table in docs/vdpa.md is what the kernel's devices do, without umbra."""

import json
import re
from pathlib import Path

import pytest

TABLE = Path(__file__).resolve().parents[2] / "docs/vdpa.md"
KINDS = ["VDUSE", "vdpa_sim_blk", "vdpa_sim_net", "vp_vdpa"]
BACKEND_FEATURES = {1: "IOTLB_MSG_V2", 2: "IOTLB_BATCH", 3: "IOTLB_ASID", 4: "SUSPEND",
                    5: "RESUME", 6: "ENABLE_AFTER_DRIVER_OK", 7: "DESC_ASID",
                    8: "IOTLB_PERSIST"}


def documented(kind):
    """{row: cell} of a kind's column in the first table of the document."""
    table = re.search(r"(?:^\|.*\n)+", TABLE.read_text(), re.M)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in table.splitlines()]
    column = rows[0].index(kind)
    return {row[0]: row[column] for row in rows[2:]}


def described(probe):
    """What vdpa-probe found, in the words of the document."""
    def number(name):
        return "none" if probe[name] is None else str(probe[name])

    return {
        "device id": number("id"),
        "rings": f"{probe['queues']} of {probe['queue_size']}",
        "address spaces": number("address_spaces"),
        "group 1 into a space of its own": number("group_asid"),
        "IOVA bits": str((probe["iova_last"] + 1).bit_length() - 1),
        "back-end features": " ".join(
            name for bit, name in BACKEND_FEATURES.items()
            if probe["backend_features"] >> bit & 1),
        "`IOTLB_UPDATE` of what is mapped": probe["map_again"],
        "`SET_VRING_BASE` of a running ring": probe["set_base_running"],
        "`SUSPEND`": probe["suspend"],
        "`RESUME`": probe["resume"],
        "start at an index of 5": probe["start_at_5"],
        "the index, running": number("get_base_at_5"),
        "the index, after a reset": number("base_after_reset"),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_device_is_as_documented(guest, add, kind):
    probe = json.loads(guest.check(f"vdpa-probe {add(kind).path}"))
    assert probe["map"] == probe["start"] == probe["unmap"] == "ok"
    # VERSION_1, ACCESS_PLATFORM
    assert probe["features"] >> 32 & 3 == 3
    assert described(probe) == documented(kind)


def test_every_kind_is_documented():
    header = re.search(r"^\|(.*)\|$", TABLE.read_text(), re.M)[1]
    assert [cell.strip() for cell in header.split("|")][1:] == KINDS
