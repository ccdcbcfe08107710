"""A plugin of pytest for tests/gpu.sh: the file $NAMES says which tests failed, and which began and have not ended."""
import os
import pathlib


class Names:
    """Writes the file whenever a test begins or ends, as a part that takes too long is killed."""

    def __init__(self, path):
        self.path, self.failed, self.running = path, [], []

    def pytest_runtest_logstart(self, nodeid):
        self.running.append(nodeid)
        self._write()

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid):
        self.running.remove(nodeid)
        self._write()

    def _write(self):
        lines = [f"failed: {name}\n" for name in self.failed] + [f"no end: {name}\n" for name in self.running]
        self.path.write_text("".join(lines))


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # what workers of pytest-xdist do is reported by the process that started them
        config.pluginmanager.register(Names(pathlib.Path(os.environ["NAMES"])))
