"""MLflow in the browser: start its server on this machine, and say where its views are."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from pathlib import Path

from harness.errors import UserError
from harness.present.store import SQLITE
from harness.present.tracking import links

HOST = "127.0.0.1"
PATIENCE = 180  # seconds; a busy machine takes one minute
SETTINGS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def check_port(port: int) -> None:
    """Refuse a port that cannot be listened at.

    Raises
    ------
    UserError
        If another program has it, or it is none.
    """
    try:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((HOST, port))
    except (OSError, OverflowError):
        raise UserError(f"port {port} cannot be had; try another: make ui PORT=5001") from None


def serve(folder: Path, port: int) -> None:
    """Serve the runs of a folder until Ctrl-C; print the links to its views when it answers.

    Raises
    ------
    UserError
        If there are no runs, the port is in use, or the server ends.
    """
    database = folder / "mlflow.db"
    if not database.exists():
        raise UserError(f"{database}: no runs yet; try: make demo")
    check_port(port)
    log = folder / "server.log"
    uri, server = f"{SQLITE}{database}", f"http://{HOST}:{port}"
    found = links(uri)
    options = [
        "--workers",
        "1",
        "--backend-store-uri",
        uri,
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    # Both signals end the server. A shell that starts this in the background would ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, *options],
            env=os.environ | SETTINGS,
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C reaches this process, which ends the server's workers
        )
    try:
        print(f"starting MLflow; it takes up to a minute and says more in {log}", flush=True)
        if not _answers(process, f"{server}/health"):
            raise UserError(f"{server}: MLflow does not answer; see {log}")
        for name, address in found:
            print(f"{name}\n  {server}/{address}")
        print(f"{server}  (Ctrl-C ends it)", flush=True)
        if found and _has_desktop():
            webbrowser.open(f"{server}/{found[0][1]}")
        process.wait()
    except KeyboardInterrupt:
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _answers(process: subprocess.Popen[bytes], health: str) -> bool:
    """Wait until a server answers, and say whether it does."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(health, timeout=5).close()
            return True
        except OSError:
            time.sleep(0.5)
    return False


def _has_desktop() -> bool:
    known = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, known))
