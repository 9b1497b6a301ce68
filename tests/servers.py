"""Jupyter's servers for tests, started on a free port and ended after."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(module: str, root: Path, log: Path, *options: str, **environment: str):
    """``python -m MODULE`` on the folder root, without a token; its address, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("w") as errors:  # the process keeps its own
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--no-browser", "--allow-root", f"--port={port}",
             "--ServerApp.port_retries=0", "--IdentityProvider.token=",
             f"--ServerApp.root_dir={root}", *options],
            cwd=root, stdout=subprocess.DEVNULL, stderr=errors, env=os.environ | environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/api").read()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)
