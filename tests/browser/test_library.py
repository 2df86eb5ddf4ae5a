"""The Library and Settings in a real browser: a run's files, words, notes, trash, other programs, users."""

import re
import zipfile

from playwright.sync_api import Page, Route, expect

from app.gate import accounts
from app.settings import load_settings
from tests.app.programs import adapter, program
from tests.app.saved_run import saved_run
from tests.browser.conftest import Site
from trainer.contract.rundir import RunDir
from trainer.formats.header import read_header


def test_a_step_is_chosen_and_everything_is_done_with_it(page: Page, site: Site) -> None:
    run = saved_run(site.home)
    adapter(site.home / "library" / "clay.safetensors", 2048, **{"modelspec.trigger_phrase": "zq clay"})
    forge = program(site.home.parent / "forge", "forge")
    adapter(forge / "models/Lora/sailor.safetensors")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(site.address)
    _settings(page, site, str(forge))
    page.get_by_role("tab", name="Library", exact=True).click()
    _find(page)
    _run(page, run)
    _keep(page, site)
    _send(page, site)


def test_the_address_names_what_is_opened_whatever_comes_late(page: Page, site: Site) -> None:
    for name in ("named", "newest"):
        adapter(site.home / "library" / f"{name}.safetensors")
    held: list[Route] = []

    def hold(route: Route) -> None:
        """Keep what the loaded page asks for its address on the way."""
        late = (route.request.post_data_json or {}).get("data") or [""]
        held.append(route) if late[0] == "library/named" else route.continue_()

    page.route("**/queue/join*", hold)
    page.goto(f"{site.address}?adapter=library%2Fnamed")
    page.wait_for_selector("html[data-live=yes]")
    page.get_by_role("tab", name="Settings", exact=True).click()
    page.get_by_role("tab", name="Library", exact=True).click()
    head = page.locator("#library-head h3")
    expect(head).to_have_text("named")
    assert held and page.url.endswith("?adapter=library%2Fnamed")
    page.locator("#library-gallery .open", has_text="newest").click()
    expect(head).to_have_text("newest")
    expect(page).to_have_url(re.compile("adapter=library%2Fnewest"))


def _settings(page: Page, site: Site, forge: str) -> None:
    """Another program is named, somebody is let in and not any more, the report can be copied."""
    page.get_by_role("tab", name="Settings", exact=True).click()
    folder = page.locator("#settings-program-folder").get_by_role("textbox")
    folder.fill("/no/such/folder")
    page.locator("#settings-program-add").click()
    expect(page.get_by_text("there is no such folder")).to_be_visible()
    folder.fill(forge)
    folder.press("Enter")
    expect(page.locator("#settings-programs")).to_contain_text("LoRAs go to")
    assert [client.title for client in load_settings(site.home).clients] == ["Forge"]
    page.locator("#settings-user-name").get_by_role("textbox").fill("ada")
    page.locator("#settings-user-password input").fill("eleven cats on a roof")
    page.locator("#settings-user-add").click()
    expect(page.locator("#settings-who")).to_contain_text("ada")
    assert [user.name for user in accounts.users(site.home)] == ["ada"]
    page.locator("#settings-user-gone input").click()
    page.get_by_role("option", name="ada").click()
    page.locator("#settings-user-remove").click()
    expect(page.locator("#settings-who")).not_to_contain_text("ada")
    page.get_by_text("dark", exact=True).click()
    expect(page.locator("body.dark")).to_be_attached()
    page.get_by_role("button", name="Report to copy").click()
    expect(page.locator("#settings-report textarea")).to_have_value(re.compile(r"LoRA Atelier .*\n\[ok\] Python"))
    expect(page.locator("#settings-hub")).to_contain_text("in all")


def _find(page: Page) -> None:
    """Cards of three places; a word finds one, the keyboard opens it, the address says which, its words are copied."""
    cards = page.locator("#library-gallery .card")
    expect(cards).to_have_count(3)
    expect(page.locator("#library-gallery")).to_contain_text("Forge")
    page.locator("#library-search").get_by_role("textbox").fill("zq")
    expect(cards).to_have_count(1)
    page.locator("#library-gallery .open").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#library-head h3")).to_have_text("clay")
    expect(page.locator("#library-gallery .card[aria-current]")).to_have_count(1)
    assert page.url.endswith("?adapter=library%2Fclay")
    page.locator("#library-gallery .chip").click()
    assert page.evaluate("navigator.clipboard.readText()") == "zq clay"
    page.reload()
    expect(page.locator("#library-head h3")).to_have_text("clay")
    expect(cards).to_have_count(3)


def _run(page: Page, run: RunDir) -> None:
    """A run's earlier step becomes the chosen one, and is taken away with everything."""
    page.locator("#library-gallery .open", has_text="fox").click()
    head, versions = page.locator("#library-head h3"), page.locator("#library-versions")
    expect(head).to_have_text("fox")
    versions.select_option("step 200 (fox-s000200, 0.0 MB)")
    expect(head).to_have_text("fox-s000200")
    page.locator("#library-use").click()
    expect(head).to_have_text("fox-best")
    expect(page.locator("#library-use")).to_be_disabled()
    assert read_header(run.best_file).metadata["ss_steps"] == "200"
    with page.expect_download() as download:
        page.locator("#library-bundle").click()
    assert download.value.suggested_filename == "fox-best.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ["fox-best.safetensors", "fox-best.json", "fox-best.png", "fox-best-samples.png"]


def _keep(page: Page, site: Site) -> None:
    """Tags are kept as soon as the field is left; a file goes to the trash and comes back with them."""
    page.locator("#library-gallery .open", has_text="clay").click()
    expect(page.locator("#library-head h3")).to_have_text("clay")
    page.locator("#library-tags").fill("soft, warm")
    page.locator("#library-note").focus()
    page.locator("#library-search").get_by_role("textbox").focus()
    expect(page.locator("#library-gallery .tag")).to_have_text(["soft", "warm"])
    page.locator("#library-delete").click()
    expect(page.locator("#library-gallery .card")).to_have_count(2)
    assert not (site.home / "library/clay.safetensors").exists()
    page.locator("#library-undo").click()
    expect(page.locator("#library-tags")).to_have_value("soft, warm")
    expect(page.locator("#library-gallery .card")).to_have_count(3)


def _send(page: Page, site: Site) -> None:
    """To Forge, with what is to be pasted there; a second time under another name."""
    for name in ("clay", "clay-2"):
        page.locator("#library-send").click()
        expect(page.locator("#library-sent")).to_contain_text(f"<lora:{name}:1> zq clay")
    folder = site.home.parent / "forge/models/Lora"
    assert sorted(path.name for path in folder.iterdir()) == [
        "clay-2.json", "clay-2.safetensors", "clay.json", "clay.safetensors", "sailor.safetensors",
    ]  # fmt: skip
    page.locator("#library-try").click()
    expect(page.get_by_role("tab", name="Preview", exact=True)).to_have_attribute("aria-selected", "true")
    page.locator("#preview-rows .chip", has_text="zq clay").click()
    expect(page.locator("#preview-prompt textarea")).to_have_value("zq clay")
    expect(page).not_to_have_url(re.compile("adapter="))
