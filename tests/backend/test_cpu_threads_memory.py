"""The thread pool and the reused memory."""

import gc
import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.backend.cpu import blas, conv, memory, native, threads
from minigrad.backend.cpu.elementwise import relu

needs_control = pytest.mark.skipif(not blas.blas_threads(), reason="NumPy's BLAS is no OpenBLAS whose threads can be set")


@pytest.fixture(autouse=True)
def two_threads():
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("items", [0, 1, 5, [], ["a", "b", "c"]])
def test_parallel_for_calls_each_item_once(number, items):
    threads.set_num_threads(number)
    seen = []
    threads.parallel_for(seen.append, items)
    assert sorted(seen) == sorted(range(items) if isinstance(items, int) else items)


def test_parallel_for_uses_all_threads():
    both = threading.Barrier(2, timeout=10)  # passes only if two items run at the same time
    threads.parallel_for(lambda i: both.wait(), 2)


@pytest.mark.parametrize("bad", [0, 7, 19])
def test_parallel_for_raises_the_exception_of_a_call(bad):
    def fn(i):
        if i == bad:
            raise KeyError(i)

    for _ in range(20):
        with pytest.raises(KeyError, match=str(bad)):
            threads.parallel_for(fn, 20)
    threads.parallel_for(lambda i: None, 20)  # the pool survives


def test_nested_loops_run_serially():
    seen = []

    def outer(i):
        here = threading.get_ident()
        threads.parallel_for(lambda j: seen.append((i, j, threading.get_ident() == here)), 3)

    threads.parallel_for(outer, 4)
    assert sorted(seen) == [(i, j, True) for i in range(4) for j in range(3)]


def test_loops_of_several_callers_do_not_mix():
    totals = [0] * 4

    def caller(k):
        for _ in range(50):
            seen = []
            threads.parallel_for(seen.append, 10)
            totals[k] += sum(seen)

    callers = [threading.Thread(target=caller, args=(k,)) for k in range(4)]
    [t.start() for t in callers]
    [t.join() for t in callers]
    assert totals == [50 * 45] * 4


@needs_control
def test_blas_is_single_threaded_inside_and_restored_after():
    get, put = blas.blas_threads()
    original = get()
    try:
        put(2)
        inside = []
        threads.parallel_for(lambda i: inside.append(get()), 4)
        assert inside == [1] * 4 and get() == 2
        with pytest.raises(ZeroDivisionError):
            threads.parallel_for(lambda i: 1 / 0, 2)
        assert get() == 2
    finally:
        put(original)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_its_own_pool():
    threads.parallel_for(lambda i: None, 2)
    pid = os.fork()
    if pid == 0:
        seen = []
        threads.parallel_for(seen.append, 10)
        os._exit(0 if sorted(seen) == list(range(10)) else 1)
    assert os.waitpid(pid, 0)[1] == 0


@needs_control
@settings(deadline=None)
@given(st.permutations([0, 0, 1, 1, 2, 2]), st.sampled_from([1, 2]))
def test_blas_has_one_thread_until_the_last_has_left(order, number):
    get, put = blas.blas_threads()
    original, inside = get(), set()
    put(number)
    try:
        for who in order:  # comes, then goes
            (blas.single_threaded_blas.__exit__ if who in inside else blas.single_threaded_blas.__enter__)()
            inside ^= {who}
            assert get() == (1 if inside else number)
    finally:
        put(original)


@needs_control
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_one_thread_of_blas_and_its_parent_as_many_as_before():
    get, put = blas.blas_threads()
    original = get()
    try:
        for number in (1, 2, 1):
            put(number)
            pid = os.fork()
            if pid == 0:
                os._exit(get())
            assert os.waitpid(pid, 0)[1] >> 8 == 1 and get() == number
    finally:
        put(original)


FORKS = """
import os, signal, sys, threading, time
import numpy as np, minigrad as mg

def step(dtype):
    normal = np.random.default_rng(0).normal
    x, w, a = (mg.Tensor(normal(size=size).astype(dtype), requires_grad=True) for size in (
        (4, 16, 24, 24), (32, 16, 3, 3), (200, 200)))
    optimiser = mg.optim.Adam([w, a])
    loss = mg.conv2d(x, w, padding=1).sum() + mg.matmul(a, a).mean() + mg.dropout(mg.softmax(a), training=True).sum()
    (loss + mg.scaled_dot_product_attention(*[a.reshape(2, 4, 50, 100)] * 3).mean()).backward()
    optimiser.step()

steps = [0, 0, 0]

def train(k):
    while True:
        step("f")
        steps[k] += 1

for k in range(3):
    threading.Thread(target=train, args=(k,), daemon=True).start()
while min(steps) == 0:
    time.sleep(0.01)
for i in range(40):
    time.sleep(i % 7 / 100)
    child = os.fork()
    if not child:
        signal.alarm(20)  # ends a child that hangs
        step("f"), step("d")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0, (i, status)
before = list(steps)
while any(a == b for a, b in zip(before, steps)):
    time.sleep(0.01)
print("all came back", flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork") or not native.kernel("product"), reason="needs fork, and products that are not NumPy's")
def test_children_forked_while_threads_compute_do_not_hang_nor_do_those_threads():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=100,
                          cwd=pathlib.Path(__file__).parents[2], env={**os.environ, "MINIGRAD_NUM_THREADS": "2"})
    assert done.stdout == "all came back\n", done.stderr


def test_the_number_of_threads_is_set():
    mg.set_num_threads(3)
    assert mg.get_num_threads() == threads.get_num_threads() == 3
    with pytest.raises(ValueError, match="at least one"):
        mg.set_num_threads(0)
    for number in (1025, 10**6, 10**12):  # with which OpenMP ends the process
        with pytest.raises(ValueError, match="at most 1024"):
            mg.set_num_threads(number)
    for number in (1.0, True, "2", None, np.ones(2), mg.Tensor([1, 2])):
        with pytest.raises(TypeError, match="set_num_threads: a whole number"):
            mg.set_num_threads(number)
    assert mg.get_num_threads() == 3


@pytest.mark.parametrize("n, parts", [(0, 2), (1, 2), (5, 2), (10, 3)])
def test_split_covers_the_range(n, parts):
    slices = threads.split(n, parts)
    assert [i for s in slices for i in range(n)[s]] == list(range(n))
    assert all(s.stop > s.start for s in slices) and len(slices) <= parts


@pytest.mark.parametrize("shape", [(), 7, (0,), (3, 5), (300, 300), (2, 3, 100, 1000)])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "?", "c16"])
def test_empty_has_shape_and_type(shape, dtype):
    a = memory.empty(shape, dtype)
    assert a.shape == np.empty(shape).shape and a.dtype == dtype and a.flags.c_contiguous and a.flags.writeable
    if a.nbytes >= memory.SMALL:
        assert a.ctypes.data % memory.ALIGNMENT == 0
    assert not memory.zeros(shape, dtype).any()


def test_memory_is_reused_when_the_last_view_dies():
    memory.empty_cache()
    a = memory.empty((512, 512))
    address, view = a.ctypes.data, a.T[3:, ::2]
    del a
    assert memory.empty((512, 512)).ctypes.data != address  # the view still holds it
    del view
    memory.empty_cache()
    a = memory.empty((512, 512))
    address = a.ctypes.data
    del a
    assert memory.cached_bytes() >= 512 * 512 * 4
    assert memory.empty((256, 1024)).ctypes.data == address
    memory.empty_cache()
    assert memory.cached_bytes() == 0


def test_returned_at_once_without_the_garbage_collector():
    gc.disable()
    try:
        memory.empty_cache()
        for _ in range(100):
            memory.empty((1000, 1000))
        assert memory.cached_bytes() <= 5_000_000
    finally:
        gc.enable()


def test_free_list_keeps_to_its_limit(monkeypatch):
    memory.empty_cache()
    monkeypatch.setattr(memory, "_limit", 3 << 20)
    memory._room[0] = 0
    arrays = [memory.empty((1 << 20,), np.uint8) for _ in range(10)]
    del arrays
    assert memory.cached_bytes() <= 3 << 20


def test_memory_that_is_short_is_taken_from_the_free_list(monkeypatch):
    memory.empty_cache()
    block = memory._Block

    def short(size):
        if size > 2 << 20 and memory.cached_bytes():
            raise MemoryError
        return block(size)

    monkeypatch.setattr(memory, "_Block", short)
    memory.empty(1 << 20, np.uint8)  # goes to the list at once
    assert memory.cached_bytes() == 1 << 20
    assert (large := memory.empty(3 << 20, np.uint8)).size == 3 << 20 and memory.cached_bytes() == 0
    monkeypatch.setattr(memory, "_Block", lambda size: (_ for _ in ()).throw(MemoryError("none")))
    monkeypatch.setattr(sys, "unraisablehook", lambda error: pytest.fail(str(error)))
    with pytest.raises(MemoryError, match="none"):
        memory.empty(5 << 20, np.uint8)


def test_the_free_list_is_limited_by_the_container(monkeypatch):
    for text, limit in (("400\n", 100), ("max\n", None)):
        monkeypatch.setattr(memory, "_limit", None)
        monkeypatch.setattr(pathlib.Path, "read_text", lambda path: text)
        assert memory.cache_limit() == limit or limit is None and memory.cache_limit() > 1 << 20


def test_live_arrays_of_many_threads_never_share_memory():
    memory.empty_cache()
    errors = []

    def worker(k):
        rng, held = np.random.default_rng(k), []
        for i in range(200):
            a = memory.empty(int(rng.integers(1 << 16, 1 << 18)), np.uint8)
            stamp = (k * 200 + i) % 251
            a[:] = stamp
            held.append((a, stamp))
            if len(held) > 5:
                a, stamp = held.pop(int(rng.integers(6)))
                if not (a == stamp).all():
                    errors.append((k, i))

    workers = [threading.Thread(target=worker, args=(k,)) for k in range(4)]
    [t.start() for t in workers]
    [t.join() for t in workers]
    assert not errors


def test_scratch_belongs_to_one_thread_and_tag():
    a, b = memory.scratch("a", (10, 10)), memory.scratch("b", (10, 10))
    assert not np.shares_memory(a, b) and np.shares_memory(a, memory.scratch("a", (5,), np.float64))
    others = []
    other = threading.Thread(target=lambda: others.append(memory.scratch("a", (10, 10))))
    other.start()
    other.join()
    assert not np.shares_memory(a, others[0])


def test_kernels_are_safe_under_concurrent_callers():
    x = np.random.default_rng(0).standard_normal((400, 400))
    wrong = []

    def caller():
        for _ in range(20):
            if not np.array_equal(relu(x), np.maximum(x, 0)):
                wrong.append(1)

    callers = [threading.Thread(target=caller) for _ in range(4)]
    [t.start() for t in callers]
    [t.join() for t in callers]
    assert not wrong


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="Linux tells how much memory a process has")
def test_a_thread_that_ends_leaves_no_memory_behind():
    x, w = np.ones((2, 16, 64, 64), np.float32), np.ones((16, 16, 3, 3), np.float32)

    def megabytes():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

    def after(number):
        for _ in range(number):
            thread = threading.Thread(target=lambda: conv.conv2d(x, w, padding=(1, 1)))
            thread.start()
            thread.join()
        return megabytes()

    before = after(10)
    assert after(100) - before < 20


def test_what_the_caller_ignores_all_threads_ignore():
    threads.set_num_threads(4)
    found = []

    def note(i):
        time.sleep(0.001)
        found.append((threading.get_ident(), np.geterr()["over"], np.geterr()["invalid"]))

    for over, invalid in (("ignore", "raise"), ("raise", "ignore")):
        found.clear()
        with np.errstate(over=over, invalid=invalid):
            threads.parallel_for(note, 40)
        assert len({thread for thread, *_ in found}) > 1
        assert {tuple(state) for _, *state in found} == {(over, invalid)}
    called = []
    with np.errstate(divide="call", call=lambda kind, flag: called.append(kind)):
        threads.parallel_for(lambda i: (time.sleep(0.001), np.ones(1) / np.zeros(1)), 40)
    assert len(called) == 40


@pytest.mark.parametrize("number", [True, np.True_, 1.5, 2.0, "2", None, np.nan, [2], np.array([2, 3]), np.array(2.0)])
def test_threads_are_whole_numbers(number):
    with pytest.raises(TypeError, match="set_num_threads: a whole number"):
        threads.set_num_threads(number)
    assert threads.get_num_threads() == 2


@pytest.mark.parametrize("value", ["0", "-3", "two", "1.5", "²", "1025", "1000000"])
def test_the_variable_of_threads_is_checked(value, monkeypatch):
    monkeypatch.setenv("MINIGRAD_NUM_THREADS", value)
    monkeypatch.setattr(threads, "_num_threads", None)
    with pytest.raises(ValueError, match=f"MINIGRAD_NUM_THREADS={value}: a whole number"):
        threads.get_num_threads()
