"""A small pool of threads for loops over blocks of arrays.

NumPy releases the interpreter lock inside its loops and inside BLAS, so plain threads keep all cores busy. Handing
whole blocks (copy, multiply, reduce) to the threads, with BLAS at one thread each, beats BLAS's own threads on the
products of convolutions: the copies between the products then run in parallel too, and a block never leaves the cache
of its core.
"""

import operator
import os
import threading
from queue import SimpleQueue

import numpy as np

from .blas import blas_threads, single_threaded_blas

MOST = 1024  # threads: of many more OpenMP ends the process
_num_threads = None  # decided at the first use
_queue = None  # the pool: jobs that waiting threads pick up
_workers = 0  # threads that listen to the queue (the calling thread comes on top)
_busy = threading.Lock()  # held while a parallel loop runs: a loop inside it, or beside it, runs serially
on_change = []  # functions that are told the number of threads when it is set


def get_num_threads() -> int:
    """The number of threads that share the CPU's work: as set, `MINIGRAD_NUM_THREADS`, or the cores this process may use.

    Raises:
        ValueError: the variable is no whole number from 1 to 1,024.
    """
    global _num_threads
    if _num_threads is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        given = os.environ.get("MINIGRAD_NUM_THREADS", "").strip() or str(cores)
        if not given.isdecimal() or not 1 <= int(given) <= MOST:
            raise ValueError(f"MINIGRAD_NUM_THREADS={given}: a whole number of threads from 1 on wanted, at most {MOST}")
        _num_threads = int(given)
    return _num_threads


def set_num_threads(n: int) -> None:
    """Shares the CPU's work that begins from now on by `n` threads. Results may differ in their last digits.

    Raises:
        TypeError: `n` is no whole number; ValueError: it is below 1 or above 1,024.
    """
    global _num_threads
    try:
        number = None if isinstance(n, (bool, np.bool_)) else operator.index(n)
    except (TypeError, ValueError):  # of arrays and Tensors
        number = None
    if number is None:
        raise TypeError(f"set_num_threads: a whole number of threads wanted, not {n!r}")
    if number < 1:
        raise ValueError(f"set_num_threads: expected at least one thread, got {n}")
    if number > MOST:
        raise ValueError(f"set_num_threads: expected at most {MOST} threads, got {n}")
    _num_threads = number
    for tell in on_change:
        tell(_num_threads)


def parallel_for(fn, items, blas=False):
    """Call `fn(item)` for each item, on all threads; return when the last call is done.

    Args:
        fn: a function of one item. Calls run in any order and at the same time.
        items: a sequence, or an int n for range(n). Threads take the next item when they are free.
        blas: say True where `fn` multiplies matrices. If BLAS's own threads cannot be switched off, such a loop runs
            serially, since two levels of threads are slower than one.

    The first exception of a call ends the loop and is raised here. Inside the loop BLAS runs single-threaded.
    """
    items = range(items) if isinstance(items, int) else items
    threads = min(get_num_threads(), len(items))
    if threads < 2 or (blas and not blas_threads()) or not _busy.acquire(blocking=False):
        for item in items:
            fn(item)
        return
    try:
        _start_workers(threads - 1)
        with single_threaded_blas:
            job = _Job(fn, items)
            for _ in range(threads - 1):
                _queue.put(job)
            job.run()
            job.done.wait()
    finally:
        _busy.release()
    if job.error is not None:
        raise job.error


def split(n, parts):
    """Cut range(n) into at most `parts` slices of nearly equal length, none empty."""
    parts = max(1, min(parts, n))
    return [slice(n * i // parts, n * (i + 1) // parts) for i in range(parts)] if n else []


class _Job:
    """One loop. The threads that work on it, the caller among them, take items until none is left."""

    def __init__(self, fn, items):
        self.fn, self.items = fn, items
        self.lock, self.done = threading.Lock(), threading.Event()
        self.next = self.running = 0
        self.error, self.errors_of_numpy = None, {"call": np.geterrcall(), **np.geterr()}

    def run(self):
        with np.errstate(**self.errors_of_numpy):  # what the caller ignores, other threads ignore
            self._take_items()

    def _take_items(self):
        while True:
            with self.lock:
                if self.next == len(self.items):
                    return
                item = self.items[self.next]
                self.next += 1
                self.running += 1
            error = None
            try:
                self.fn(item)
            except BaseException as e:  # also KeyboardInterrupt: the caller raises it
                error = e
            with self.lock:
                if error is not None:
                    self.error = self.error or error
                    self.next = len(self.items)
                self.running -= 1
                if self.running == 0 and self.next == len(self.items):
                    self.done.set()


def _work(queue):
    while True:
        queue.get().run()


def _start_workers(n):
    global _queue, _workers
    if _queue is None:
        _queue = SimpleQueue()
    while _workers < n:
        threading.Thread(target=_work, args=(_queue,), name=f"minigrad-{_workers}", daemon=True).start()
        _workers += 1


def _after_fork():
    """Threads do not survive a fork: the child starts with an empty pool."""
    global _queue, _workers, _busy
    _queue, _workers, _busy = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
