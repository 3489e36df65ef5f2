"""The report in a browser: links, sorting, widths; the page fixture fails on console errors."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from harness.present import figures, report, tables
from tests.present import outputs
from tests.site.widths import fits


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    cells = outputs.write_cells(folder / "cells", outputs.solar())
    tables.write([cells], folder / "tables")
    figures.write([cells], folder, folder / "figures")
    report.write([cells], folder / "tables", folder / "figures", folder / "report.html")
    return folder / "report.html"


@pytest.mark.slow
def test_report_fits_every_width_and_scheme(address: Path, page: Page) -> None:
    fits(page, address)


@pytest.mark.slow
def test_links_of_the_contents_lead_to_what_they_name(address: Path, page: Page) -> None:
    page.goto(address.as_uri())
    links = page.get_by_role("navigation", name="Contents").get_by_role("link")
    assert links.count() > 5
    for link in links.all():
        link.click()
        target = page.locator(page.evaluate("location.hash"))
        expect(target).to_have_count(1)
        expect(target).to_be_in_viewport()


@pytest.mark.slow
def test_a_link_to_a_folded_figure_opens_it(address: Path, page: Page) -> None:
    page.goto(address.as_uri())
    figure = page.locator("#scores_solar_weekly_full")
    expect(figure).to_be_hidden()
    page.goto(f"{address.as_uri()}#scores_solar_weekly_full")
    expect(figure).to_be_visible()


@pytest.mark.slow
def test_headings_sort_within_models_and_controls(address: Path, page: Page) -> None:
    page.goto(address.as_uri())
    table = page.locator("#table1_full-1 + .scroll table")
    names = table.locator("tbody th")
    before = names.all_text_contents()
    n_models = table.locator("tbody.models th").count()
    heading = table.locator("thead th").first
    button = table.get_by_role("button", name="robust").first
    column = button.evaluate("b => b.closest('th').cellIndex")
    button.focus()
    page.keyboard.press("Enter")
    texts = table.locator(f"tbody.models tr > :nth-child({column + 1})").all_text_contents()
    numbers = [float(t.split()[0]) for t in texts if t[0].isdigit()]
    assert len(numbers) > 1 and numbers == sorted(numbers)
    assert not any(t[0].isdigit() for t in texts[len(numbers) :])  # what did not end well: last
    assert set(names.all_text_contents()[:n_models]) == set(before[:n_models])
    expect(heading).to_be_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert names.all_text_contents() == before
