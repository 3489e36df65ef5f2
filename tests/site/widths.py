"""That a page fits a wide window and a phone, light and dark."""

from pathlib import Path

from playwright.sync_api import Page

WIDTHS, SCHEMES = (1400, 400), ("light", "dark")


def fits(page: Page, address: Path) -> None:
    """Check that no page has to be scrolled to the side."""
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(address.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
