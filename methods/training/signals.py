"""What a run does on SIGINT (Ctrl-C), SIGTERM and SIGHUP."""
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def handling(names: tuple[str, ...], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside, the signals of these names, as far as the system has them, call `handler(number, frame)`.

    One that is ignored, as nohup wishes, stays so, and one that a program which runs Python inside handles in C stays with it.
    Signals are the main thread's: on another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    free = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, handler) for number in free}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
