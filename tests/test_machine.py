"""Memory that is used again."""

import gc
import threading

import torch

from spikelfp.machine import Pool, empty, pool


def test_memory_comes_back_when_nobody_uses_it():
    own = Pool()
    first = own.bytes(1000)
    place = first.data_ptr()
    assert place % 64 == 0
    held = own.used
    assert held >= 1000
    assert (own.idle, own.most) == (0, held)
    views = [first[8:].view(torch.float32), first.numpy()[5:]]
    del first
    gc.collect()
    while views:
        assert own.used == held, "a view still uses it"
        views.pop()
        gc.collect()
    assert (own.used, own.idle) == (0, held)
    assert own.bytes(1000).data_ptr() == place


def test_it_never_holds_more_than_was_in_use_at_once():
    own = Pool()
    for size in (1000, 2000, 3000, 500, 2500):
        held = own.bytes(size)
        assert own.used + own.idle <= own.most
        del held
        gc.collect()
    assert 3000 <= own.most < 3100
    own.release()
    assert (own.idle, own.most) == (0, 0)


def test_tensors_keep_their_memory_while_they_live():
    like = torch.empty(0, dtype=torch.float32)
    a = empty((1000, 300), like).zero_()
    b = a[500:].t()
    before = pool.used
    del a
    c = empty((1000, 300), like).fill_(7)
    assert not b.any()
    assert c.data_ptr() != b.data_ptr()
    assert pool.used >= before


def test_small_ones_are_torch_own():
    before = pool.used
    small = empty((10, 10), torch.empty(0, dtype=torch.float64))
    assert small.shape == (10, 10)
    assert small.dtype == torch.float64
    assert pool.used == before


def test_from_many_threads():
    own = Pool()

    def work():
        for size in range(1, 200):
            held = own.bytes(size % 7 + 1).fill_(size % 256)
            assert (held == size % 256).all()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    gc.collect()
    assert own.used == 0
