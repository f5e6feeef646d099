"""The application as a user starts it: a process of its own, with an address."""

import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

WAIT = 60  # seconds after which something has gone wrong


@contextmanager
def running(*arguments):
    """`naf app` with the embedded backbone, until the context ends: the process, its address and its folder."""
    with tempfile.TemporaryDirectory() as folder:
        # Its temporary files lie where they can be looked at; what would open more than wanted is set.
        environment = {**os.environ, "TMPDIR": folder, "OMP_NUM_THREADS": "1", "GRADIO_ALLOWED_PATHS": "/"}
        with socket.create_server(("127.0.0.1", 0)) as free:  # two runs of tests at once look for different ones
            port = free.getsockname()[1]
        command = [sys.executable, "-c", "from naf.cli import main; main()", "app", "--no-open", "--port", str(port)]
        log = Path(folder) / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*command, "--backbone", "embedded", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        try:
            yield Running(process, address_of(process, log), Path(folder), log)
        finally:
            process.terminate()
            process.communicate(timeout=WAIT)


class Running:
    """A running application."""

    def __init__(self, process, address, temporary, log):
        self.process, self.address, self.temporary, self.log = process, address, temporary, log

    @property
    def folders(self):
        """Those of its own, in the folder for temporary files."""
        return list(self.temporary.glob("naf-app-*"))

    def url(self, path):
        return self.address.rstrip("/") + path


def address_of(process, log):
    """What the process says it listens at."""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(WAIT), "naf app says nothing"
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, line + log.read_text()
    return found.group()
