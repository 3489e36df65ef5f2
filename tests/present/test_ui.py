"""MLflow in the browser: a busy port, no runs, and what a link opens."""

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from harness.catalogue import ROOT
from harness.errors import UserError
from harness.present import ui
from tests.present import outputs

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)


def test_a_busy_port_is_told_in_one_line_that_names_the_option() -> None:
    with socket.socket() as busy:
        busy.bind((ui.HOST, 0))
        busy.listen()
        with pytest.raises(UserError, match="try another: make ui PORT=") as caught:
            ui.check_port(busy.getsockname()[1])
    assert "\n" not in str(caught.value)


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="port 70000"):
        ui.check_port(70_000)


def test_without_runs_nothing_is_started(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs yet"):
        ui.serve(tmp_path, 0)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What the command prints until the server answers; it ends with Ctrl-C."""
    folder = tmp_path_factory.mktemp("ui")
    outputs.write_cells(folder / "cells", outputs.solar())
    with socket.socket() as free:
        free.bind((ui.HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "harness", "ui", "--records", folder / "cells"]
    options = ["--folder", folder / "mlflow", "--port", str(port)]
    log = folder / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if "Ctrl-C" in line:
                break
        try:
            yield lines
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0, log.read_text()
        finally:
            process.kill()  # one that goes on would be waited for


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
def test_a_link_opens_the_columns_of_its_view(printed: list[str]) -> None:
    assert printed[1] == "Table 1: generation, full-solar_weekly"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1700, "height": 800})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(printed[2])
        headers = page.get_by_role("columnheader")
        for name in (
            "marginal_robust",
            "classification_robust",
            "prediction_robust",
            "train_seconds",
            "seeds",
        ):
            expect(headers.filter(has_text=re.compile(f"^{name}$"))).to_be_visible(timeout=60_000)
        expect(headers.filter(has_text="marginal_literal")).to_have_count(0)
        expect(page.get_by_text("LS4 on Solar Weekly, full", exact=True)).to_be_visible()
        expect(page.get_by_text("seed 0")).to_have_count(0)
        browser.close()
    assert errors == []
