"""Pictures of the site's main pages and the report for docs/: pictures.py SITE IMAGES."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PAGES = {
    "site": "index.html",
    "leaderboard": "leaderboard/index.html",
    "row": "leaderboard/rows/full-generation-solar_weekly-ls4.html",
    "report": "report.html#table1_full",
}
BROWSERS = ("chromium", "google-chrome", "chromium-browser")


def main(site: Path, images: Path) -> None:
    """Write a picture of each page, as wide as a laptop's window."""
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    images.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        for name, address in PAGES.items():
            page.goto(f"{site.resolve().as_uri()}/{address}")
            page.screenshot(path=images / f"{name}.png")
            print(images / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
