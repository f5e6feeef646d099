"""The cache of what was computed."""

import functools
import threading
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from naf.app.cache import ByteCache, held_bytes
from tests.helpers import randn


def test_the_least_recently_used_goes_first():
    cache = ByteCache(3000)
    for key in "abc":
        cache.put(key, torch.zeros(250))
    assert cache.get("a") is not None
    cache.put("d", torch.zeros(250))
    assert cache.kept() == ["c", "a", "d"]
    assert cache.get("b") is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 400)), max_size=40))
def test_the_bound_is_kept_and_the_count_is_that_of_the_entries(steps):
    cache = ByteCache(1000)
    for key, size in steps:
        cache.put(key, torch.zeros(size, dtype=torch.uint8))
        assert cache.nbytes <= 1000
        assert cache.nbytes == sum(len(cache.get(each)) for each in cache.kept())
        assert cache.get(key) is not None


def test_what_is_too_large_by_itself_is_not_kept_and_drives_nothing_out():
    cache = ByteCache(1000)
    cache.put("a", torch.zeros(100))
    cache.put("b", torch.zeros(1000))
    assert cache.kept() == ["a"]
    cache.put("a", torch.zeros(1000))  # nor is the old value of its key, which it was to replace
    assert cache.kept() == []
    assert cache.nbytes == 0


def test_shared_memory_counts_once_and_as_long_as_one_entry_holds_it():
    cache = ByteCache(10_000)
    shared = torch.zeros(500)
    cache.put("a", (shared, torch.zeros(100)))
    cache.put("b", {"view": shared[:10], "again": [shared]})
    assert cache.nbytes == 2400
    cache.put("a", 0)
    assert cache.nbytes == 2000
    cache.put("b", 0)
    assert cache.nbytes == 0


def test_all_that_a_value_refers_to_is_counted_but_no_network():
    @dataclass
    class Record:
        map: torch.Tensor
        picture: Image.Image
        network: nn.Module

        def method(self):
            return self.map

    inner = torch.zeros(7)
    record = Record(torch.zeros(3), Image.new("RGB", (5, 4)), nn.Linear(100, 100))
    assert held_bytes(record) == 12 + 60
    assert held_bytes(record.method) == 12 + 60
    assert held_bytes(functools.partial(max, inner, key=lambda x: x + inner)) == 28
    assert held_bytes(np.zeros((3, 3))) == 72
    assert held_bytes([None, 1, "text", 2.0, (), {}]) == 0
    own = [torch.zeros(2)]
    own.append(own)
    assert held_bytes(own) == 8


def test_a_part_of_a_tensor_counts_with_the_whole_that_it_keeps_alive():
    assert held_bytes(randn(10, 10)[3]) == 400


def test_threads_may_share_it():
    cache, errors = ByteCache(4000), []

    def work(seed):
        try:
            for step in range(200):
                cache.put((seed + step) % 7, torch.zeros(50 * (1 + step % 9)))
                cache.get(step % 7)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert cache.nbytes == sum(held_bytes(cache.get(key)) for key in cache.kept()) <= 4000
