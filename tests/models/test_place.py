"""Devices and dtypes as asked, or an error; offloaded parts always come back."""

from __future__ import annotations

import pytest
import torch

from llm_dit.base.errors import ConfigError
from llm_dit.weights.place import Placement, at_work, choose_placement


class Recorder(torch.nn.Linear):
    """A module that remembers where it was sent, and can fail on the way."""

    def __init__(self, fails_at: int | None = None):
        super().__init__(2, 2)
        self.sent: list[str] = []
        self.fails_at = fails_at

    def to(self, device):
        self.sent.append(device)
        if len(self.sent) - 1 == self.fails_at:
            raise torch.OutOfMemoryError("full")
        return super().to(device)


# The name of a device without index is one device with two names: moves are real, and need no accelerator.
OFFLOADED = Placement("cpu:0", "float32", offload=True)


def test_offloaded_module_is_moved_for_its_work_and_back():
    module = Recorder()
    with at_work(module, OFFLOADED) as working:
        assert working is module
        assert module.sent == ["cpu:0"]
    assert module.sent == ["cpu:0", "cpu"]


def test_offloaded_module_comes_back_when_its_work_fails():
    module = Recorder()
    with pytest.raises(RuntimeError, match="boom"), at_work(module, OFFLOADED):
        raise RuntimeError("boom")
    assert module.sent == ["cpu:0", "cpu"]


def test_module_that_did_not_fit_is_brought_back_too():
    module = Recorder(fails_at=0)
    with pytest.raises(torch.OutOfMemoryError), at_work(module, OFFLOADED):
        pytest.fail("it has not arrived")
    assert module.sent == ["cpu:0", "cpu"]


def test_without_offload_nothing_moves():
    module = Recorder()
    with at_work(module, Placement("cpu:0", "float32")) as working:
        assert working is module
    assert module.sent == []


def test_offloaded_parts_rest_on_the_cpu():
    assert Placement("cuda", "bfloat16", offload=True).resting_device == "cpu"
    assert Placement("cuda", "bfloat16").resting_device == "cuda"


def test_cpu_computes_in_float32_unless_asked_otherwise():
    assert choose_placement("cpu") == Placement("cpu", "float32", False)
    assert choose_placement("cpu", "bfloat16", True) == Placement("cpu", "bfloat16", True)
    assert choose_placement("cpu", "bfloat16").torch_dtype == torch.bfloat16


def test_auto_takes_what_is_there():
    placement = choose_placement()
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert placement.dtype == ("bfloat16" if accelerated else "float32")
    assert (placement.device == "cpu") != accelerated


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_absent_device_is_refused_and_the_present_ones_named(device):
    if {"cuda": torch.cuda, "mps": torch.backends.mps}[device].is_available():
        pytest.skip(f"{device} is here")
    with pytest.raises(ConfigError, match=rf"hardware\.device={device}: .*Present: .*cpu"):
        choose_placement(device)
