#!/usr/bin/python3
"""What umbra costs a disk: direct, passed through, shadowed.

Three null disks of qemu-storage-daemon, which do nothing, so that only the
transport is measured.  The load is connected to the first one directly, to the
second through an umbra that passes through, to the third through an umbra that
is shadowed:

	load ------------------ disk		direct
	load ----- umbra ------ disk		passthrough
	load ----- umbra ------ disk		shadow

The load is fio in a User Mode Linux guest (guest-...), one guest with all
three as its disks, or the load program beside this file (native-...).

Two of the three are idle at any time, and idle costs nothing.  The three are
measured in turn, back to back, since the machine has other things to do.  A
round is TURNS turns, each beginning with another of the three, and its figures
are the means of the turns; a figure of the output is the median of the rounds.
Only the ratios mean something elsewhere.

One JSON object a line:

	case			name: who-what-blocksize-queuedepth
	direct, passthrough, shadow	requests/s, medians of the rounds
	passthrough_over_direct, shadow_over_direct	ratios of these
	shadow_over_direct_by_round	[least, median, most] ratio of one round
	direct_range, ...	[least, most] of the rounds
	by_round		requests/s of each round: [direct, passthrough, shadow]
	seconds			time for each mode in a round
	notifications		of the shadow, for each request: kicks_in (from
				the load), kicks_out (to the disk), calls_in
				(from the disk), calls_out (to the load)
	umbra			of the shadow, for each request: cpu_us, and
				context_switches
	requests_shadowed	that these are means of
	latency_us		native only: [mean, p99] of each, medians
	rounds, cpus, load_average	as of every benchmark (common.py)

With --cpus=0 all programs share one processor.  That takes out what it costs to
wake another one, which on a virtual machine is most of the time and varies with
the neighbours: what remains is the work itself.
"""

import json
import statistics
import subprocess
from pathlib import Path

from common import Output, arguments, begin, by_round, least_most, note, on_bed, rotated

MODES = ("direct", "passthrough", "shadow")
DISK_BYTES = 1 << 30
TURNS = 4               # in a round
NOTIFICATIONS = ("kicks-in", "kicks-out", "calls-in", "calls-out")

#: name: what it is of, rw, block size, depth
CASES = {
    "guest-randread-4k-qd1": ("guest", "randread", 4096, 1),
    "guest-randread-4k-qd32": ("guest", "randread", 4096, 32),
    "guest-randwrite-4k-qd32": ("guest", "randwrite", 4096, 32),
    "guest-seqread-256k-qd8": ("guest", "read", 256 << 10, 8),
    "native-randread-4k-qd1": ("native", "randread", 4096, 1),
    "native-randread-4k-qd32": ("native", "randread", 4096, 32),
}


class Rig:
    """The three disks and the two umbras; .paths[mode] has a .socket."""

    def __init__(self, bed):
        disks = [bed.backend(name=f"disk{i}", size=DISK_BYTES, null=True)
                 for i in range(3)]
        self.shadow = bed.umbra(disks[2], name="shadow", shadow="on")
        self.paths = {
            "direct": disks[0],
            "passthrough": bed.umbra(disks[1], name="pass", shadow="auto"),
            "shadow": self.shadow,
        }
        self._counts = {}

    def check(self):
        """Is what we measure what we say?"""
        assert self.paths["passthrough"].state() == "passthrough"
        assert self.paths["shadow"].state() == "shadowed"

    def shadow_counts(self):
        """What the shadow has done so far."""
        queues = self.shadow.vhost()["queues"]
        # Only a ring in use is reported; its counts go on with the next use.
        if queues:
            self._counts = {name.replace("-", "_"): sum(q[name] for q in queues)
                            for name in ("requests", *NOTIFICATIONS)}
        counts = dict(self._counts)
        counts["cpu_us"] = cpu_us(self.shadow.pid)
        counts["context_switches"] = self.shadow.context_switches()
        return counts


def cpu_us(pid):
    """Processor time of all threads of a process, microseconds."""
    return sum(int((task / "schedstat").read_text().split()[0])
               for task in Path(f"/proc/{pid}/task").iterdir()) / 1000


class Native:
    """The load program."""

    def __init__(self, bed, rig):
        self.program = bed.build / "bench/load"
        self.rig = rig

    def warm_up(self):
        for mode in MODES:
            self._run(mode, "randread", 4096, 1, 0.2)

    def round(self, order, rw, block, depth, seconds):
        """{mode: [(requests/s, latency) of each turn]}"""
        results = {mode: [] for mode in MODES}
        for mode in order:
            results[mode].append(self._run(mode, rw, block, depth, seconds))
        return results

    def _run(self, mode, rw, block, depth, seconds):
        command = [self.program, f"--socket={self.rig.paths[mode].socket}",
                   f"--rw={rw}", f"--block-size={block}", f"--depth={depth}",
                   f"--seconds={seconds}", "--hold"]
        with subprocess.Popen(command, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as load:
            # It gives up by itself if the disk does not answer.
            line = load.stdout.readline()
            if line and mode == "shadow":
                self.rig.shadow_counts()
        assert load.returncode == 0, f"{command} failed"
        result = json.loads(line)
        assert result["errors"] == 0 and result["requests"] > 0
        return (result["requests_per_s"],
                (result["latency_mean_us"], result["latency_p99_us"]))

    def end(self):
        pass


class Guest:
    """fio in a guest, one job after the other."""

    def __init__(self, bed, rig):
        self.guest = bed.uml(*(rig.paths[mode] for mode in MODES))
        rig.check()

    def warm_up(self):
        self.round(MODES, "randread", 4096, 1, 0.2)

    def round(self, order, rw, block, depth, seconds):
        words = ["fio", f"--rw={rw}", f"--bs={block}", f"--iodepth={depth}",
                 "--ioengine=libaio", "--direct=1", "--thread", "--time_based",
                 f"--runtime={seconds * 1000:.0f}ms", "--output-format=json",
                 "--allow_file_create=0", "--stonewall", "--randrepeat=0"]
        for mode in order:
            words += [f"--name={mode}",
                      "--filename=/dev/vd" + "abc"[MODES.index(mode)]]
        output = self.guest.check(self.guest.host_tool(*words),
                                  deadline=len(order) * seconds + 60)
        side = "write" if "write" in rw else "read"
        results = {mode: [] for mode in MODES}
        for job in json.loads(output[output.index("{"):])["jobs"]:
            assert job["error"] == 0, output
            results[job["jobname"]].append((job[side]["iops"], None))
        return results

    def end(self):
        assert self.guest.poweroff() == 0


def turns(number):
    """The order of one round: each mode TURNS times, the first one rotating."""
    return [mode for turn in range(TURNS) for mode in rotated(MODES, number + turn)]


def mean(results):
    """Of the turns of a round: (requests/s, latencies or None)."""
    rates, latencies = zip(*results)
    return (statistics.mean(rates), latencies[0] and
            [statistics.mean(values) for values in zip(*latencies)])


def measure(rig, load, name, rounds, seconds):
    """All rounds of one case; the object for the output."""
    _, rw, block, depth = CASES[name]
    before = rig.shadow_counts()
    results = []
    for number in range(rounds):
        done = load.round(turns(number), rw, block, depth, seconds / TURNS)
        results.append({mode: mean(done[mode]) for mode in MODES})
        note(f"{name} {number + 1}/{rounds}: " + ", ".join(
            f"{mode} {results[-1][mode][0]:.0f}" for mode in MODES))
    after = rig.shadow_counts()

    rates = {mode: [result[mode][0] for result in results] for mode in MODES}
    rate = {mode: statistics.median(rates[mode]) for mode in MODES}
    done = after["requests"] - before["requests"]
    assert done > 0, "no request went through the shadow"
    per_request = {key: round((after[key] - before[key]) / done, 4) for key in after}
    line = {"case": name}
    line.update((mode, round(rate[mode], 1)) for mode in MODES)
    for mode in MODES[1:]:
        line[f"{mode}_over_direct"] = round(rate[mode] / rate["direct"], 4)
    line["shadow_over_direct_by_round"] = by_round(rates["shadow"], rates["direct"], 4)
    for mode in MODES:
        line[f"{mode}_range"] = least_most(rates[mode], 1)
    line["by_round"] = [[round(result[mode][0], 1) for mode in MODES]
                        for result in results]
    line.update(seconds=seconds, requests_shadowed=done)
    line["notifications"] = {key: per_request[key] for key in (
        "kicks_in", "kicks_out", "calls_in", "calls_out")}
    line["umbra"] = {key: per_request[key] for key in ("cpu_us", "context_switches")}
    if results[0]["direct"][1]:
        line["latency_us"] = {
            mode: [round(statistics.median(values), 2)
                   for values in zip(*(result[mode][1] for result in results))]
            for mode in MODES}
    return line


def run(bed, options, output):
    rig = Rig(bed)
    for kind, make in (("native", Native), ("guest", Guest)):
        cases = [name for name in options.case or CASES if CASES[name][0] == kind]
        if not cases:
            continue
        load = make(bed, rig)
        load.warm_up()
        for name in cases:
            line = measure(rig, load, name, options.rounds, options.seconds)
            output.write(line)
            note(f"{name}: passthrough/direct {line['passthrough_over_direct']:.3f}, "
                 f"shadow/direct {line['shadow_over_direct']:.3f}")
        load.end()


def main():
    parser = arguments(__doc__, CASES)
    parser.add_argument("--seconds", type=float, default=2.0,
                        help="for each of the three in a round; default: 2")
    options = begin(parser)
    if options.seconds <= 0:
        parser.error("--seconds must be positive")
    on_bed(lambda bed: run(bed, options, Output(options)))


if __name__ == "__main__":
    main()
