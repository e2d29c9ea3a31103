"""Compilation is announced once, and only for this package."""

import os
import subprocess
import sys

import numba

from spikelfp.kernels.choice import Announcer

SCRIPT = """
import torch
from spikelfp import nn
nn.LIF()(torch.rand(3, 2, 4))
nn.LIF(reset="zero")(torch.rand(3, 2, 4).double())
"""


class Event:
    def __init__(self, function):
        self.data = {"dispatcher": function}


def test_it_is_told_once(capsys):
    foreign = numba.njit(lambda x: x)
    own = numba.njit(lambda x: x)
    own.py_func.__module__ = "spikelfp.kernels.numba_scan"
    announcer = Announcer()
    announcer.on_start(Event(foreign))
    assert capsys.readouterr().err == ""
    announcer.on_start(Event(own))
    announcer.on_start(Event(own))
    assert capsys.readouterr().err.count("compiling kernels") == 1


def test_the_first_use_says_so_and_the_second_is_silent(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "SPIKELFP_KERNELS": "auto"}
    runs = [
        subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stderr.count("compiling kernels") == 1
    assert runs[1].stderr == ""
    assert not runs[0].stdout
