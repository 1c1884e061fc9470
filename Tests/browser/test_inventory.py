"""The inventory page: key, list, search, and the way to a console."""

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys


def rows(page):
    return {e.get_attribute("data-target") for e in page.all("guest")}


def test_the_key_is_asked_for_and_a_wrong_one_is_explained(page, gateway):
    page.colours("light")
    page.driver.get(gateway.base)
    page.see("sign-in")
    page.shot("sign-in-light")
    page.find("api-key").send_keys("wrong-key", Keys.ENTER)
    assert page.see("problem").text
    page.shot("sign-in-refused-light")
    page.find("api-key").send_keys(gateway.key)
    page.find("sign-in-button").click()
    page.see("cluster")
    assert "qemu/100" in rows(page)


def test_a_key_in_the_fragment_leaves_the_address_bar(page, gateway):
    page.open_inventory()
    assert page.driver.current_url == gateway.base
    assert gateway.key not in page.js("return document.documentElement.outerHTML")
    page.driver.refresh()
    page.see("cluster")
    page.click("sign-out")
    page.see("sign-in")
    page.driver.refresh()
    page.see("sign-in")


def test_nodes_and_guests_are_listed_with_their_state(page):
    page.open_inventory()
    assert "node/pve1" in {e.get_attribute("data-target") for e in page.all("node")}
    assert {"qemu/100", "qemu/102", "lxc/200"} <= rows(page)
    status = {e.get_attribute("data-target"): e.get_attribute("data-status") for e in page.all("guest")}
    assert status["qemu/100"] == "running" and status["qemu/102"] == "stopped"
    page.shot("inventory-dark")
    page.colours("light")
    page.wait("the light theme", lambda: page.js("return document.documentElement.dataset.theme") == "light")
    page.js("return new Promise((done) => setTimeout(done, 400))")
    page.shot("inventory-light")


def test_search_filters_and_order(page):
    page.open_inventory()
    page.driver.find_element(By.TAG_NAME, "body").send_keys("/")
    page.driver.switch_to.active_element.send_keys("qemu/100")
    page.wait("one guest", lambda: rows(page) == {"qemu/100"})
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.wait("all guests", lambda: len(rows(page)) > 2)
    page.find("filter-lxc").click()
    page.wait("containers only", lambda: rows(page) and all(t.startswith("lxc/") for t in rows(page)) and not page.all("node"))
    page.find("filter-all").click()
    page.find("filter-stopped").click()
    page.wait("stopped only", lambda: "qemu/102" in rows(page) and "qemu/100" not in rows(page))
    page.find("search").send_keys("there is no such guest")
    page.see("empty")
    page.shot("inventory-nothing-matches-dark")
    page.find("empty").find_element(By.TAG_NAME, "button").click()
    page.wait("all guests", lambda: len(rows(page)) > 2)

    def names():
        return [e.text.split("\n")[0].lower() for e in page.all("guest")]
    page.find("sort-name").click()
    page.wait("by name", lambda: names() == sorted(names()))
    page.find("sort-name").click()
    page.wait("by name, downwards", lambda: names() == sorted(names(), reverse=True))


def test_a_cluster_that_fails_is_explained_beside_those_that_work(page, mock):
    page.open_inventory()
    error = page.see("cluster-error")
    assert error.get_attribute("data-kind") == "tls-untrusted"
    assert "fingerprint" in error.text
    assert "qemu/100" in rows(page)


def test_a_refresh_leaves_focus_and_rows_where_they_are(page):
    page.open_inventory()
    link = page.find("open-qemu/100-vnc")
    page.js("arguments[0].focus()", link)
    before = page.js("return performance.getEntriesByName(new URL('v1/inventory', location.href).href).length")
    page.js("document.querySelector('#refresh').click()")
    page.wait("a second answer", lambda: page.js("return performance.getEntriesByName(new URL('v1/inventory', location.href).href).length") > before)
    assert page.js("return document.activeElement.dataset.testid") == "open-qemu/100-vnc"


def test_the_list_opens_a_console_in_a_tab_that_can_reconnect(page, gateway):
    page.open_inventory()
    first = page.driver.current_window_handle
    page.find("open-node/pve1-terminal").click()
    page.wait("a second tab", lambda: len(page.driver.window_handles) == 2)
    page.driver.switch_to.window(next(w for w in page.driver.window_handles if w != first))
    page.wait("the console to open", lambda: page.js("return window.sallyport?.phase") == "open")
    assert gateway.key not in page.driver.current_url and "t=" not in page.driver.current_url.split("#")[1].replace("target=", "")
    page.command("echo first-$((20+3))")
    page.expect("first-23")
    page.click("reconnect")
    page.wait("another session", lambda: page.js("return sallyport.phase") == "open" and "first-23" not in page.text())
    page.command("echo second-$((20+4))")
    page.expect("second-24")
    # A reload makes a new link too: what is in the address bar is enough, and no secret.
    page.driver.refresh()
    page.wait("the console to open again", lambda: page.js("return window.sallyport?.phase") == "open")


def test_the_list_fits_a_phone(page):
    page.window(390, 844, phone=True)
    page.open_inventory()
    assert page.js("return document.documentElement.scrollWidth") <= 390
    page.shot("inventory-phone-dark")
    page.colours("light")
    page.js("return new Promise((done) => setTimeout(done, 400))")
    page.shot("inventory-phone-light")
    assert page.find("open-qemu/100-vnc").size["height"] >= 36


def test_the_theme_can_be_switched(page):
    page.open_inventory()
    theme = "return document.documentElement.dataset.theme"
    assert page.js(theme) == "dark"
    page.click("theme-toggle")
    assert page.js(theme) == "light"
    page.driver.refresh()
    page.see("cluster")
    assert page.js(theme) == "light"
    page.click("theme-toggle")
    assert page.js(theme) == "dark"
    page.click("theme-toggle")
    page.colours("light")
    page.wait("the system's theme", lambda: page.js(theme) == "light")
