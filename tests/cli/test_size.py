"""Sizes, as people write them."""

import json

import pytest
from simulated import SimulatedBalloon, run

MIB = 1 << 20


@pytest.mark.parametrize("text, size", [
    ("512M", 512 * MIB), ("512m", 512 * MIB), ("512MiB", 512 * MIB), ("512mib", 512 * MIB),
    ("0.5G", 512 * MIB), ("0.5GiB", 512 * MIB), ("0.0005T", (1 << 40) // 2000),
    ("1.5M", 3 * MIB // 2), ("524288K", 512 * MIB), ("536870912", 512 * MIB),
    ("0.123456789G", 123456789 * (1 << 30) // 10**9)])
def test_a_size_is_understood(simulated_balloon, text, size):
    done = simulated_balloon.ctl("--json", simulated_balloon.control, "balloon", text)
    assert json.loads(done.stdout)["target"] == size


@pytest.mark.parametrize("text", [
    "1GB", "1Gi", "1.5", ".5G", "1.G", "1,5G", "0.0000000001G", "1.5.5G", "1GiBs", "1 G", " 1G",
    "+1G", "1e3", "0x1000", "0.0G", "8388608T", "9223372036854775808", "18446744073709551615",
    "99999999999999999999", "", "G", "1P"])
def test_what_is_no_size_is_refused_with_what_would_be(program, text):
    done = run(program, "balloon", "--socket-path=/nowhere/x", f"--target={text}")
    assert done.returncode == 2
    assert f"--target={text}: expected a number of bytes, or one with K, M, G or T" in done.stderr


def test_a_share_of_the_guests_memory_is_a_size(simulated_balloon):
    """Of 1 GiB."""
    done = simulated_balloon.ctl("--json", simulated_balloon.control, "balloon", "50%")
    assert json.loads(done.stdout)["target"] == 512 * MIB
    done = simulated_balloon.ctl("--json", simulated_balloon.control, "balloon", "100%")
    assert json.loads(done.stdout)["target"] == 1024 * MIB


@pytest.mark.parametrize("text", ["0%", "101%", "1000%", "%", "-5%", "5.5%", "x%"])
def test_a_share_is_1_to_100(program, text):
    done = run(program, "ctl", "/nowhere", "balloon", "--", text)
    assert done.returncode == 2 and "100" in done.stderr


def test_a_share_of_no_guest_is_refused(bed, program):
    balloon = bed.balloon()
    done = run(program, "ctl", balloon.control, "balloon", "50%")
    assert done.returncode == 1 and "before a guest is there" in done.stderr


def test_minus_one_is_no_size(program):
    assert "-1: expected a number of bytes" in run(
        program, "balloon", "--socket-path=/nowhere/x", "--target=-1").stderr
    assert run(program, "ctl", "/nowhere", "balloon", "--", "-1").returncode == 2


def test_all_memory_of_no_guest_is_not_8_eib(bed, program):
    """The real program, before a VM has come."""
    balloon = bed.balloon()
    run(program, "ctl", balloon.control, "balloon", "all")
    shown = run(program, "ctl", balloon.control, "balloon").stdout
    assert "EiB" not in shown
    assert balloon.query()["target"] is None


def test_an_option_takes_the_same_sizes(bed):
    balloon = SimulatedBalloon(bed, "b1", "--target=0.75GiB")
    shown = balloon.ctl("--json", balloon.control, "query-balloon").stdout
    assert json.loads(shown)["target"] == 768 * MIB


@pytest.mark.parametrize("options, size", [
    (["--target=50%"], 512 * MIB), (["--target=100%"], 1024 * MIB),
    (["--target=25%", "--target=768M"], 768 * MIB), (["--target=768M", "--target=25%"], 256 * MIB)])
def test_an_option_takes_a_share_of_the_guests_memory(bed, options, size):
    """Of 1 GiB; the last one counts."""
    balloon = SimulatedBalloon(bed, "b1", *options)
    shown = balloon.ctl("--json", balloon.control, "query-balloon").stdout
    assert json.loads(shown)["target"] == size


@pytest.mark.parametrize("text", ["0%", "101%", "1000%", "%", "-5%", "5.5%", "x%", "4294967297%"])
def test_an_option_takes_a_share_of_1_to_100(program, text):
    done = run(program, "balloon", "--socket-path=/nowhere/x", f"--target={text}")
    assert done.returncode == 2
    assert f"--target={text}: expected 1% to 100%" in done.stderr


def test_a_share_to_begin_with_is_no_size_before_a_guest_is_there(bed):
    balloon = bed.balloon("--target=50%")
    assert balloon.query()["target"] is None
