"""`umbra balloon` is killed and started again, by a simulated service manager that keeps its fds,
under a front-end and a guest that are told nothing of it."""

import os
import random
import select
import signal
import struct
import subprocess
import threading

import pytest

from bed import BalloonDriver, Frontend, SimulatedServiceManager, wait_until
from bed.balloon_driver import Content, module
from bed.frontend import DEFLATE, INFLATE, OK, PAGE, MemoryFile, Region, extent, message
from bed.wait import PATIENCE

MIB = 1 << 20
IN_MESSAGE = 8                  # where the state says so


class Service:
    """The balloon as a service: killed and started as often as a test likes."""

    def __init__(self, bed, *options):
        self.bed = bed
        self.manager = SimulatedServiceManager(bed)
        self.options = ["--stall=3000", "--fd-store", *options]
        self.lives = 0
        self.start()

    def start(self):
        self.lives += 1
        self.balloon = self.bed.balloon(*self.options, name=f"b{self.lives}",
                                        manager=self.manager)
        return self.balloon

    def is_in_message(self):
        return self.manager.read("umbra-state", IN_MESSAGE, 8) != bytes(8)

    def kill(self, in_message=False):
        """SIGKILL, wherever it is; but not in the midst of a message, or just there."""
        pid = self.balloon.pid
        while True:
            os.kill(pid, signal.SIGSTOP)
            os.waitid(os.P_PID, pid, os.WSTOPPED)
            if self.is_in_message() == in_message:
                break
            os.kill(pid, signal.SIGCONT)
            wait_until(lambda: self.is_in_message() == in_message,
                       "a message to begin, or to end")
        self.balloon.kill()

    def restart(self):
        self.kill()
        return self.start()

    def log(self):
        return self.balloon.process.output()


@pytest.fixture
def service(bed):
    return Service(bed)


def one_region(size=8 * MIB):
    return Region(0x40003000, size, MemoryFile.memfd(size))


def check_account(service, pages):
    wait_until(lambda: service.balloon.query()["ballooned"] == pages * PAGE,
               f"{pages} pages in the balloon")


def check_went_on(service):
    wait_until(lambda: "the program before" in service.log(), "a word of the program before")
    assert "its front-end is connected" in service.log()
    assert "given up" not in service.log()


def test_a_balloon_that_is_killed_goes_on_with_its_front_end(bed, service):
    region = one_region()
    driver = Frontend(bed, service.balloon, [region])
    pages = 0
    for life in range(5):
        driver.inflate(extent(region.pfn + 256 * life, 20))
        pages += 256
        check_account(service, pages)
        service.balloon.take((1000 + life) * PAGE)
        wait_until(lambda: driver.config()[0] == 1000 + life, "the target")
        driver.set_actual(pages)
        service.restart()
        check_went_on(service)
        check_account(service, pages)
        assert driver.config() == (1000 + life, pages)
        assert service.balloon.query()["driver-ballooned"] == pages * PAGE
    assert region.file.intact() == set(range(pages, region.pages))
    driver.deflate(extent(region.pfn, 20))
    check_account(service, pages - 256)
    driver.disconnect()
    service.balloon.wait_state("waiting")


def test_what_was_on_its_way_is_done_by_the_next(bed, service):
    region = one_region()
    driver = Frontend(bed, service.balloon, [region])
    driver.inflate(extent(region.pfn, 20))
    check_account(service, 256)
    service.kill()
    driver.post(INFLATE, message(extent(region.pfn + 512, 20)))
    driver.post(DEFLATE, message(extent(region.pfn, 12)))
    driver._tell(24, struct.pack("<III8x", 0, 8, 0))
    service.start()
    assert driver.collect(INFLATE, 1)[0].code == OK
    assert driver.collect(DEFLATE, 1)[0].code == OK
    assert len(driver._answer(24)) == 20
    check_account(service, 511)
    gone = set(range(256)) | set(range(512, 768))
    assert region.file.intact() == set(range(region.pages)) - gone


def test_a_call_that_was_not_made_is_made(bed, service):
    driver = Frontend(bed, service.balloon, [one_region()])
    driver.request(3)
    service.kill()
    calls = [driver._rings[index].call for index in (INFLATE, DEFLATE)]
    for call in calls:
        try:
            os.eventfd_read(call)
        except BlockingIOError:
            pass
    service.start()
    for call in calls:
        assert select.select([call], [], [], PATIENCE)[0], "no call has come"


def test_a_ring_that_was_stopped_meanwhile_is_not_served(bed, service):
    """Its memory may be somebody else's."""
    region = one_region()
    driver = Frontend(bed, service.balloon, [region])
    driver.request(3)
    service.kill()
    driver.post(INFLATE, message(extent(region.pfn, 20)))
    driver._tell(18, struct.pack("<II", INFLATE, 0))
    service.start()
    driver.request(3)                   # all before has been heard
    assert service.balloon.query()["ballooned"] == 0
    assert region.file.intact() == set(range(region.pages))
    driver.enable(INFLATE)
    assert driver.collect(INFLATE, 1)[0].code == OK
    check_account(service, 256)


def test_a_death_in_the_midst_of_a_message_costs_the_connection_and_no_account(bed, service):
    region = one_region()
    driver = Frontend(bed, service.balloon, [region])
    driver.inflate(extent(region.pfn, 20))
    check_account(service, 256)
    driver._socket.send(struct.pack("<IH", 24, 1))      # half a header
    service.kill(in_message=True)
    driver.balloon = service.start()
    assert driver._socket.recv(1) == b""
    assert "ended in the midst of a message" in service.log()
    driver.reconnect()
    check_account(service, 256)
    driver.deflate(extent(region.pfn, 20))
    check_account(service, 0)


def test_wherever_it_is_killed_it_goes_on_or_closes_the_connection(bed, service):
    """Each message either finds the next one, or is the one that died with it."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    region = one_region()
    driver = Frontend(bed, service.balloon, [region])
    driver.inflate(extent(region.pfn, 20))
    for _ in range(40):
        left, enough = dice.randrange(1, 40), threading.Event()
        outcome = []

        def talk(left=left, enough=enough, outcome=outcome):
            try:
                while not outcome:
                    dice.choice((lambda: driver.set_memory([region]),
                                 lambda: driver.set_call(INFLATE),
                                 lambda: driver.set_actual(dice.randrange(1 << 16)),
                                 lambda: driver.enable(DEFLATE),
                                 driver.config))()
                    left -= 1
                    if not left:
                        enough.set()
            except ConnectionError:
                outcome.append("closed")

        thread = threading.Thread(target=talk)
        thread.start()
        assert enough.wait(PATIENCE)
        service.balloon.kill()
        driver.balloon = service.start()
        wait_until(lambda: "the program before" in service.log(), "a word of the program before")
        if "its front-end is connected" in service.log():
            outcome.append("goes on")
        thread.join(PATIENCE)
        assert not thread.is_alive()
        if outcome == ["closed"]:
            driver.reconnect()
        check_account(service, 256)
    driver.deflate(extent(region.pfn, 20))
    check_account(service, 0)
    assert region.file.intact() == set(range(256, region.pages))


def test_an_end_that_was_asked_for_is_survived_as_well(bed, service):
    region = one_region()
    driver = Frontend(bed, service.balloon, [region])
    driver.inflate(extent(region.pfn, 20))
    check_account(service, 256)
    service.balloon.terminate()
    service.start()
    check_went_on(service)
    check_account(service, 256)
    driver.deflate(extent(region.pfn, 20))
    check_account(service, 0)
    # And when the manager keeps nothing any more, the front-end hears of the end.
    service.balloon.terminate()
    service.manager.clear()
    assert driver._socket.recv(1) == b""


def test_regions_of_one_file_are_one_file_in_the_store(bed, service):
    memory = MemoryFile.memfd(8 * MIB)
    regions = [Region(0x40003000, 4 * MIB, memory),
               Region(0x80005000, 4 * MIB, memory, offset=4 * MIB)]
    driver = Frontend(bed, service.balloon, regions)
    driver.inflate(extent(regions[0].pfn, 20), extent(regions[1].pfn + 256, 20))
    for _ in range(3):
        service.restart()
        check_went_on(service)
        check_account(service, 512)
    driver.deflate(extent(regions[1].pfn + 256, 20))
    check_account(service, 256)


def test_the_account_follows_a_memory_table_over_a_death(bed, service):
    regions = [one_region(), Region(0x80005000, 4 * MIB, MemoryFile.memfd(4 * MIB))]
    driver = Frontend(bed, service.balloon, regions)
    driver.inflate(extent(regions[0].pfn, 20), extent(regions[1].pfn, 14))
    driver.remove_region(regions[1])
    check_account(service, 256)
    service.restart()
    check_account(service, 256)
    driver.add_region(regions[1])
    check_account(service, 256)
    service.restart()
    driver.deflate(extent(regions[0].pfn, 20))
    check_account(service, 0)


def test_the_store_has_what_is_needed_and_no_more(bed, service):
    region = one_region()
    driver = Frontend(bed, service.balloon, [region])
    driver.request(3)
    wait_until(lambda: not service.is_in_message(), "the last message to be written down")
    # State, ledger, connection, two files of memory; of each ring a kick and a call.
    names = service.manager.names()
    assert len(names) == len(set(names)) == 9
    for _ in range(3):
        for _ in range(10):
            driver.set_memory([region])
            driver.set_call(INFLATE)
        service.restart()
        wait_until(lambda: len(service.manager.names()) == 9, "nine fds in the store")
    driver.disconnect()
    service.balloon.wait_state("waiting")
    wait_until(lambda: len(service.manager.names()) == 2, "state and ledger in the store")


def test_a_front_end_that_has_gone_meanwhile_is_not_waited_for(bed, service):
    region = one_region()
    driver = Frontend(bed, service.balloon, [region])
    driver.inflate(extent(region.pfn, 20))
    check_account(service, 256)
    service.kill()
    driver.disconnect()
    driver.balloon = service.start()
    service.balloon.wait_state("waiting")
    driver.connect([driver._used(index) for index in (INFLATE, DEFLATE)])
    check_account(service, 256)


def test_whatever_was_kept_a_balloon_comes_up(bed, service):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    region = one_region()
    for _ in range(25):
        driver = Frontend(bed, service.balloon, [region])
        driver.inflate(extent(region.pfn, 20))
        check_account(service, 256)
        service.kill()
        text = service.manager.read("umbra-state", 0, 420000)
        for _ in range(dice.randrange(1, 4)):
            where = dice.choice((dice.randrange(24),
                                 24 + dice.randrange(16),
                                 24 + 16 + 8192 + dice.randrange(1200),
                                 dice.randrange(len(text))))
            service.manager.write("umbra-state", where, bytes([dice.choice((
                dice.randrange(256), ord("0") + dice.randrange(10), ord("\n"), ord(" ")))]))
        if dice.random() < 0.3:
            service.manager.write(dice.choice([name for name in service.manager.names()
                                               if name != "umbra-state"
                                               and is_file(service.manager, name)]),
                                  8 * dice.randrange(8), dice.randbytes(8))
        service.start()
        assert service.balloon.query()["ballooned"] <= region.size
        driver.disconnect()
        service.balloon.wait_state("waiting")
    # Of what the guest has not given away, nothing has gone.
    assert region.file.intact() >= set(range(256, region.pages))


def is_file(manager, name):
    try:
        manager.read(name, 0, 1)
        return True
    except OSError:
        return False


def test_without_a_service_manager_there_is_no_store(bed):
    done = subprocess.run([bed.program, "balloon", f"--socket-path={bed.path('x')}",
                           "--fd-store"], capture_output=True, text=True,
                          env={key: value for key, value in os.environ.items()
                               if key != "NOTIFY_SOCKET"})
    assert done.returncode == 1 and "NOTIFY_SOCKET is not set" in done.stderr


# Under a guest

def test_a_guest_keeps_its_memory_over_30_deaths_while_it_inflates_and_deflates(bed):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    service = Service(bed)
    guest = bed.uml(service.balloon, memory="512M", modules=[module(bed)],
                    parameters=["panic_on_warn=1"])
    driver = BalloonDriver(guest)
    driver.load()
    service.balloon.wait_driver()
    content = Content(guest).write(100).fragment()
    for _ in range(30):
        target = dice.randrange(250 * MIB // PAGE)
        service.balloon.take(target * PAGE)
        # Hit it wherever it is: before it has begun, amid, or when all is done.
        goal = dice.choice((0, target // 2, target))
        wait_until(lambda: service.balloon.query()["ballooned"] // PAGE
                   in range(*sorted((goal, target + 1))) or goal == 0, "some of the way")
        service.restart()
        check_went_on(service)
        wait_until(lambda: service.balloon.query()["ballooned"] == target * PAGE,
                   f"{target} pages in the balloon")
    query = service.balloon.query()
    wait_until(lambda: driver.held() * PAGE == service.balloon.query()["driver-ballooned"]
               == service.balloon.query()["ballooned"], "the books to agree")
    assert query["refused-messages"] == query["refused-records"] == 0
    service.balloon.agrees_on_held(guest)
    content.verify()
    driver.unload()
    assert service.balloon.query()["ballooned"] == 0
    content.verify()
    driver.check_log()
