"""The site: it builds without a warning, without a network, and works in a browser."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from harness.catalogue import ROOT
from harness.present import figures, leaderboard, report, tables
from tests.present.test_leaderboard import write
from tests.site.widths import fits


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    out = folder / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"]
    paths = ["-d", folder / "doctrees", "-c", "docs/site", "docs", out]
    done = subprocess.run([*command, *paths], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cells = write(folder / "cells")
    leaderboard.write([cells], out / "leaderboard", home="../")
    tables.write([cells], folder / "tables")
    figures.write([cells], folder, folder / "figures")
    report.write([cells], folder / "tables", folder / "figures", out / "report.html", home="./")
    return out


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for html in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', html.read_text())
        assert not [address for address in loaded if "://" in address], html


@pytest.mark.slow
def test_every_link_leads_to_a_page_or_a_file_of_the_repository(site: Path) -> None:
    built = ROOT / "results" / "site"  # by `make site`
    for html in site.rglob("*.html"):
        for address in re.findall(r'<a [^>]*href="([^"#]+)', html.read_text()):
            if "://" in address or address.startswith(("data:", "mailto:")):
                continue
            target = Path(os.path.normpath(html.parent / address))
            if not target.is_relative_to(site):
                target = Path(os.path.normpath(built / os.path.relpath(target, site)))
            assert target.exists(), f"{html}: {address}"


@pytest.mark.slow
def test_pages_fit_every_width_and_scheme(site: Path, page: Page) -> None:
    row = next((site / "leaderboard" / "rows").glob("*-ls4.html"))
    for address in (site / "index.html", site / "leaderboard" / "index.html", row):
        fits(page, address)


@pytest.mark.slow
def test_leaderboard_sorts_filters_compares_and_exports(site: Path, page: Page) -> None:
    page.goto((site / "leaderboard" / "index.html").as_uri() + "#task=generation")
    page.get_by_label("Show").select_option("prediction_robust")
    names = page.locator("section:visible tbody.models tr:visible th")
    expect(names).to_have_text(["LS4", "Latent ODE", "RNN-VAE", "SaShiMi"])
    page.get_by_role("button", name="Solar Weekly").focus()
    page.keyboard.press("Enter")
    expect(names).to_have_text(["LS4", "RNN-VAE", "Latent ODE", "SaShiMi"])
    page.keyboard.press("Enter")
    expect(names).to_have_text(["Latent ODE", "RNN-VAE", "LS4", "SaShiMi"])  # not run: last

    page.locator("section:visible").get_by_label("compare LS4", exact=True).check()
    page.locator("section:visible").get_by_label("compare RNN-VAE", exact=True).check()
    page.get_by_role("button", name="Compare two rows").click()
    expect(page.get_by_role("dialog")).to_contain_text("LS4 is better")
    verdicts = page.get_by_role("dialog").locator("b").all_text_contents()
    assert {"LS4 is better", "no clear difference"} >= set(verdicts)
    page.keyboard.press("Escape")

    page.locator("input[name=filter]").fill("rnn")
    expect(names).to_have_text(["RNN-VAE"])
    for button, begins in (("CSV", "model,Solar Weekly\n"), ("LaTeX", "% robust prediction")):
        with page.expect_download() as found:
            page.get_by_role("button", name=button, exact=True).click()
        text = found.value.path().read_text()
        assert text.startswith(begins) and "RNN-VAE" in text and "LS4" not in text

    page.locator("section:visible tbody.models a:visible").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("RNN-VAE on Solar Weekly")
