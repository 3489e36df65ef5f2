"""Picture of MLflow for docs/: python docs/site/mlflow_pictures.py RECORDS FOLDER PORT IMAGES."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from pictures import BROWSERS
from playwright.sync_api import sync_playwright


def main(records: str, folder: str, port: str, images: str) -> None:
    """Import the records, start MLflow, and write a picture of the view whose link comes first."""
    command = [sys.executable, "-m", "harness", "ui", "--records", records]
    process = subprocess.Popen(
        [*command, "--folder", folder, "--port", port], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("  http"):
                take(line.strip(), Path(images) / "mlflow.png")
                return
        sys.exit("error: MLflow shows no view")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def take(address: str, path: Path) -> None:
    """Write a picture of a view, without MLflow's assistant beside it."""
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 620})
        page.goto(address)
        page.get_by_text("LS4 on Solar Weekly").first.wait_for(timeout=120_000)
        for close in reversed(page.get_by_role("button", name="Close").all()):
            close.click()
        page.wait_for_timeout(2000)
        page.screenshot(path=path)
        print(path)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
