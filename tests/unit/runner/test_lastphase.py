from __future__ import annotations

import os
import signal

import pytest

from lorabench.runner.lastphase import LastPhase


def test_before_the_first_phase_there_is_none():
    assert LastPhase.create().get() == (None, None)


@pytest.mark.parametrize("name", ["load", "", "phasé", "x" * 59])
def test_what_was_set_is_read(name):
    slot = LastPhase.create()
    slot.set("a longer name before", 9)
    slot.set(name, 3)
    assert slot.get() == (name, 3)


def test_a_long_name_is_cut():
    slot = LastPhase.create()
    slot.set("x" * 200, 0)
    assert slot.get() == ("x" * 59, 0)


def test_clearing_forgets():
    slot = LastPhase.create()
    slot.set("load", 0)
    slot.clear()
    assert slot.get() == (None, None)


def test_it_outlives_a_killed_process():
    slot = LastPhase.create()
    pid = os.fork()
    if pid == 0:
        slot.set("backward", 2)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert slot.get() == ("backward", 2)


def test_it_is_shared_by_descriptor():
    slot = LastPhase.create()
    LastPhase(slot.fd).set("merge", 1)
    assert slot.get() == ("merge", 1)
