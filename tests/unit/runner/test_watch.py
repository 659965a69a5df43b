"""What is noted of a GPU around a job, with a driver that says what each test needs."""

from __future__ import annotations

import pytest

from lorabench.nvml import GpuUse
from lorabench.runner import watch as module
from lorabench.runner.waiting import finish
from lorabench.runner.watch import GONE_WITHIN_S, GpuWatch

MIB = 2**20
IDLE = GpuUse(frozenset(), 4 * MIB)
TIMING = {"event": "phase", "phase": "timing"}
RESULT = {"event": "result"}
END = {"event": "end"}
COOL = {"sm_clock_mhz": 1980, "memory_clock_mhz": 2619, "temperature_c": 41, "power_w": 350.0, "throttle_reasons": []}


class Driver:
    """Answers of the driver; a list is given one after the other, its last for good."""

    def __init__(self):
        self.use = [IDLE]
        self.state = COOL
        self.throttled_s = [{}]
        self.now = 100.0
        self.asked = 0

    def next(self, answers):
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def gpu_use(self, index):
        assert index == 3
        self.asked += 1
        return self.next(self.use)


@pytest.fixture
def driver(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(module, "gpu_use", driver.gpu_use)
    monkeypatch.setattr(module, "device_state", lambda index: dict(driver.state))
    monkeypatch.setattr(module, "throttled_s", lambda index: driver.next(driver.throttled_s))
    monkeypatch.setattr(module.time, "monotonic", lambda: driver.now)
    return driver


@pytest.fixture
def said():
    return []


@pytest.fixture
def watch(driver, said):
    """A job's watch; keywords are the driver's answers from its start on."""

    def start(**answers):
        vars(driver).update(answers)
        return GpuWatch(3, said.append)

    return start


def wait(watch, driver):
    """Goes through the waits after the job's end; their lengths."""
    lengths = []
    for pause in watch.until_gone():
        lengths.append(pause.deadline - driver.now)
        driver.now = pause.deadline
    return lengths


def through(watch, *events, driver=None, seconds=10.0):
    for event in events:
        watch.heard(event)
        if driver is not None:
            driver.now += seconds


def test_a_case_alone_on_a_cool_gpu_has_its_state_and_no_warning(watch, driver, said):
    watching = watch(throttled_s=[{"power cap": 7.0, "thermal slowdown": 0.0}])
    through(watching, {"event": "phase", "phase": "load"}, TIMING, RESULT, END, driver=driver)
    assert wait(watching, driver) == []
    assert watching.notes.device == {
        **COOL,
        "throttled_s": {"power cap": 0.0, "thermal slowdown": 0.0},
        "used_bytes": IDLE.used_bytes,
    }
    assert watching.notes.warnings == []
    assert said == []


@pytest.mark.parametrize("others", [GpuUse(frozenset({7, 8}), 300 * MIB), GpuUse(frozenset(), 300 * MIB)])
def test_others_on_the_gpu_are_told(watch, driver, said, others):
    watching = watch(use=[others])
    [warning] = watching.notes.warnings
    assert "300 MiB" in warning
    assert ("2 processes" in warning) == bool(others.pids)
    assert len(said) == 1
    assert wait(watching, driver) == []


def test_what_an_idle_driver_holds_is_nobody(watch):
    assert watch(use=[GpuUse(frozenset(), 40 * MIB)]).notes.warnings == []


@pytest.mark.parametrize("ending", ["result", "phase"])
def test_the_state_is_read_once_right_after_the_timed_pass(watch, driver, ending):
    watching = watch()
    through(watching, TIMING, {"event": ending, "phase": "profile"})
    driver.state = {**COOL, "sm_clock_mhz": 345}
    through(watching, RESULT, RESULT, END)
    assert watching.notes.device["sm_clock_mhz"] == 1980


@pytest.mark.parametrize("events", [[RESULT, END], [TIMING, END], [TIMING, {"event": "raised"}, END]])
def test_without_a_finished_timed_pass_there_is_no_state(watch, events):
    watching = watch()
    through(watching, *events)
    assert watching.notes.device == {}


def test_a_throttled_gpu_is_told(watch, driver):
    watching = watch(state={**COOL, "throttle_reasons": ["power cap", "application clocks"]})
    through(watching, TIMING, RESULT, driver=driver)
    assert watching.notes.warnings == ["the GPU was slowed down while timed (power cap)"]
    assert watching.notes.device["throttle_reasons"] == ["power cap", "application clocks"]


def test_clocks_that_somebody_set_are_no_throttling(watch, driver):
    watching = watch(state={**COOL, "throttle_reasons": ["application clocks"]})
    through(watching, TIMING, RESULT, driver=driver)
    assert watching.notes.warnings == []


@pytest.mark.parametrize(("slow_s", "told"), [(0.05, False), (2.5, True)])
def test_throttling_between_the_readings_is_told_by_its_share_of_the_pass(watch, driver, slow_s, told):
    watching = watch(throttled_s=[{"thermal slowdown": 30.0}, {"thermal slowdown": 30.0 + slow_s}])
    through(watching, TIMING, RESULT, driver=driver)
    assert watching.notes.device["throttled_s"]["thermal slowdown"] == pytest.approx(slow_s)
    assert bool(watching.notes.warnings) == told
    if told:
        assert "thermal slowdown for 25% of the time" in watching.notes.warnings[0]


def test_what_is_counted_is_not_told_twice(watch, driver):
    state = {**COOL, "throttle_reasons": ["power cap", "power brake"]}
    watching = watch(state=state, throttled_s=[{"power cap": 30.0}, {"power cap": 39.0}])
    through(watching, TIMING, RESULT, driver=driver)
    assert watching.notes.warnings == [
        "the GPU was slowed down while timed (power cap for 90% of the time, power brake)"
    ]


def test_who_comes_while_a_case_is_timed_is_told(watch, driver):
    watching = watch(use=[IDLE, GpuUse(frozenset({70, 71}), 900 * MIB)])
    through(watching, TIMING, RESULT, driver=driver)
    assert watching.notes.warnings == ["another process came to the GPU while the case was timed"]


def test_the_case_itself_is_no_other(watch, driver):
    watching = watch(use=[IDLE, GpuUse(frozenset({70}), 900 * MIB)])
    through(watching, TIMING, RESULT, driver=driver)
    assert watching.notes.warnings == []


@pytest.mark.parametrize("pids", [frozenset({70}), frozenset()])
def test_the_next_case_waits_until_the_gpu_is_free(watch, driver, said, pids):
    held = GpuUse(pids, 900 * MIB)
    watching = watch(use=[IDLE, held, held, held, IDLE])
    lengths = wait(watching, driver)
    assert len(lengths) == 3
    assert lengths == sorted(lengths)
    assert watching.notes == module.Notes()
    assert said == []


@pytest.mark.parametrize("pids", [frozenset({70}), frozenset()])
def test_what_stays_is_told_after_a_bounded_wait(watch, driver, said, pids):
    watching = watch(use=[IDLE, GpuUse(pids, 504 * MIB)])
    assert sum(wait(watching, driver)) == pytest.approx(GONE_WITHIN_S)
    assert driver.asked < 50
    assert watching.notes.device == {"left_bytes": 500 * MIB}
    [warning] = watching.notes.warnings
    assert warning.startswith(
        "1 process, 500 MiB more than before stayed" if pids else "500 MiB more than before stayed"
    )
    assert len(said) == 1


def test_a_process_that_is_still_listed_has_not_gone_whatever_it_holds(watch, driver):
    watching = watch(use=[IDLE, GpuUse(frozenset({70}), 4 * MIB), IDLE])
    assert len(wait(watching, driver)) == 1


def test_listed_neighbours_that_grow_hold_nothing_up(watch, driver):
    watching = watch(use=[GpuUse(frozenset({7}), 100 * MIB), GpuUse(frozenset({7}), 5000 * MIB)])
    assert wait(watching, driver) == []
    assert watching.notes.device == {}


def test_a_driver_that_tells_nothing_is_not_waited_for(watch, driver):
    watching = watch(use=[None], state={})
    through(watching, TIMING, RESULT)
    assert wait(watching, driver) == []
    assert watching.notes == module.Notes()


def test_another_device_is_not_watched():
    watching = module.NoWatch()
    through(watching, TIMING, RESULT, END)
    assert finish(watching.until_gone()) is None
    assert watching.notes == module.Notes()
