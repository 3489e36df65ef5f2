"""That a page fits a wide window and a phone, light and dark."""

from pathlib import Path

from playwright.sync_api import Page


def fits(page: Page, address: Path) -> None:
    """Check that no page has to be scrolled to the side."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (1400, 400):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(address.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
