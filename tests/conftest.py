import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers have the cores already: threads of BLAS would wait for each other
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest


@pytest.fixture(autouse=True, scope="session")
def signals_are_heard():
    """A shell's background job and `nohup` have signals ignored, and every process that a test starts would ignore them too."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
