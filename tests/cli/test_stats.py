"""`umbra ctl ... stats`: asked of the guest now, and waited for."""

import json

GIB = 1 << 30


def rows(text):
    return {line[:19].strip(): line[19:] for line in text.splitlines()}


def test_what_is_shown_was_asked_for_now(simulated_balloon):
    done = simulated_balloon.ctl(simulated_balloon.control, "stats")
    assert done.returncode == 0
    shown = rows(done.stdout)
    assert shown["age"] == "0.0 s"
    assert shown["oom-kills"] == "unsupported"
    assert shown["free-memory"].endswith(" B")
    done = simulated_balloon.ctl("--json", simulated_balloon.control, "stats")
    # The simulated guest counts how often it was asked.
    assert json.loads(done.stdout)["stats"]["free-memory"] > int(shown["free-memory"].split()[0])


def test_what_a_driver_does_not_know_is_not_8_eib(simulated_balloon):
    """It may say so by -1."""
    done = simulated_balloon.ctl(simulated_balloon.control, "stats")
    assert rows(done.stdout)["available-memory"] == "unsupported"
    assert "EiB" not in done.stdout


def test_statistics_that_never_come_are_given_up(simulated_balloon):
    simulated_balloon.knob("mute")
    done = simulated_balloon.ctl("--timeout=1", simulated_balloon.control, "stats")
    assert done.returncode == 1
    assert "the guest has not sent statistics within 1000 ms" in done.stderr
    assert "none have come yet" in done.stdout


def test_without_a_driver_nothing_is_waited_for(simulated_balloon):
    simulated_balloon.knob("mute")
    simulated_balloon.knob("break", "queue 0: nonsense")
    with simulated_balloon.talk() as client:
        while client.ask("query-status").get("return", {}).get("state") != "broken":
            pass
    done = simulated_balloon.ctl("--timeout=0", simulated_balloon.control, "stats")
    assert done.returncode == 1
    assert "no driver is there" in done.stderr and "queue 0: nonsense" in done.stderr


def test_features_have_the_balloons_names(simulated_balloon):
    with simulated_balloon.talk() as client:
        names = client.ask("query-balloon")["return"]["features"]["names"]
    assert names == ["VIRTIO_BALLOON_F_MUST_TELL_HOST", "VIRTIO_BALLOON_F_STATS_VQ",
                     "VIRTIO_F_VERSION_1", "VIRTIO_BALLOON_F_PAGE_BITMAP"]
