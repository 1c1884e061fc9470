"""Screens: noVNC on the gateway's websocket."""

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys


def canvas(page):
    return page.driver.find_element(By.CSS_SELECTOR, "#console canvas")


def changed(page, before, what):
    return page.wait(what, lambda: page.picture() != before and page.picture())


def quiet(page):
    """Waits until the screen stops changing by itself, as far as it does."""
    last = page.picture()
    for _ in range(20):
        page.js("return new Promise((done) => setTimeout(done, 200))")
        now = page.picture()
        if now == last:
            return now
        last = now
    return last


def test_the_screen_is_seen_and_changes_with_keys_and_pointer(page):
    page.open("qemu/100", "vnc")
    page.wait("a picture", lambda: page.js("return document.querySelector('#console canvas').width") > 100)
    before = quiet(page)
    page.shot("screen-dark")
    canvas(page).click()
    page.keys("hello", Keys.ENTER, "world")
    before = changed(page, before, "the screen to change after typing")
    page.shot("screen-typed-dark")
    before = quiet(page)
    ActionChains(page.driver).move_to_element_with_offset(canvas(page), 60, 40).click_and_hold().move_by_offset(50, 30).release().perform()
    changed(page, before, "the screen to change after pointing")
    page.colours("light")
    page.shot("screen-light")


def test_scaling_fits_or_keeps_the_size(page):
    page.open("qemu/100", "vnc")
    size = "const c = document.querySelector('#console canvas'); return [c.getBoundingClientRect().width, c.width, document.querySelector('#console').clientWidth]"
    page.wait("a picture", lambda: page.js(size)[1] > 100)
    page.click("scaling")
    page.see("scaling-menu")
    page.shot("screen-scaling-menu-dark")
    page.click("item-scaling-native")
    page.wait("the original size", lambda: abs(page.js(size)[0] - page.js(size)[1]) < 2)
    page.window(500, 700)
    page.click("scaling")
    page.click("item-scaling-fit")
    page.wait("a fit", lambda: page.js(size)[0] <= page.js(size)[2] + 1)


def test_the_guest_screen_is_resized_where_it_can_be(page, mock):
    page.open("qemu/100", "vnc")
    page.wait("a picture", lambda: page.js("return document.querySelector('#console canvas').width") == 640)
    page.click("scaling")
    page.click("item-scaling-remote")
    page.wait("the new size", lambda: page.js("return document.querySelector('#console canvas').width") == page.js("return document.querySelector('#console').clientWidth"))


def test_combinations_are_sent_from_the_menu(page):
    page.open("qemu/100", "vnc")
    sent = """window.sent = []; const send = sallyport.rfb.sendKey.bind(sallyport.rfb);
        sallyport.rfb.sendKey = (keysym, code, down) => { window.sent.push([code, down]); send(keysym, code, down); };"""
    page.js(sent)
    page.click("ctrl-alt-del")
    expected = [["ControlLeft", True], ["AltLeft", True], ["Delete", True], ["Delete", False], ["AltLeft", False], ["ControlLeft", False]]
    assert page.js("return window.sent.splice(0)") == expected
    page.click("keys")
    page.see("keys-menu")
    page.shot("screen-keys-menu-dark")
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    assert page.js("return window.sent.splice(0)")[2] == ["F1", True]
    assert not page.all("keys-menu")
    page.click("keys")
    page.keys(Keys.ESCAPE)
    assert not page.all("keys-menu")


def test_text_is_typed_key_by_key_with_progress_and_cancel(page):
    page.open("qemu/100", "vnc")
    page.wait("a picture", lambda: page.js("return document.querySelector('#console canvas').width") > 100)
    before = quiet(page)
    page.js("""window.sent = []; const send = sallyport.rfb.sendKey.bind(sallyport.rfb);
        sallyport.rfb.sendKey = (keysym, code, down) => { window.sent.push([keysym, code, down]); send(keysym, code, down); };""")
    page.click("type-text")
    page.see("type-text-input").send_keys("Ab@1")
    page.find("type-text-layout").find_element(By.CSS_SELECTOR, "[value=us]").click()
    page.find("type-text-rate").find_element(By.CSS_SELECTOR, "[value='160']").click()
    page.shot("type-text-dark")
    page.find("type-text-go").click()
    page.wait("the dialog to close", lambda: not page.all("type-text-dialog"))
    assert [code for _, code, down in page.js("return window.sent") if down] == ["ShiftLeft", "KeyA", "KeyB", "ShiftLeft", "Digit2", "Digit1"]
    changed(page, before, "the typed text to be seen")
    # On a German keyboard the same characters are on other keys.
    page.js("window.sent = []")
    page.click("type-text")
    page.see("type-text-input").send_keys("yz@{ß^")
    page.find("type-text-layout").find_element(By.CSS_SELECTOR, "[value=de]").click()
    page.find("type-text-go").click()
    page.wait("the dialog to close", lambda: not page.all("type-text-dialog"))
    down = [code for _, code, down in page.js("return window.sent") if down]
    assert down == ["KeyZ", "KeyY", "AltRight", "KeyQ", "AltRight", "Digit7", "Minus", "Backquote", "Space"]
    # Cancelled in the middle.
    page.js("window.sent = []")
    page.click("type-text")
    page.js("document.querySelector('[data-testid=type-text-input]').value = 'x'.repeat(400)")
    page.find("type-text-rate").find_element(By.CSS_SELECTOR, "[value='40']").click()
    page.find("type-text-go").click()
    page.wait("some progress", lambda: page.find("type-text-progress").text.startswith(("5 of", "6 of", "7 of", "8 of", "9 of")) or len(page.js("return window.sent")) > 10)
    page.shot("type-text-progress-dark")
    page.find("type-text-cancel").click()
    page.js("return new Promise((done) => setTimeout(done, 400))")
    count = len(page.js("return window.sent"))
    assert 0 < count < 800
    page.js("return new Promise((done) => setTimeout(done, 400))")
    assert len(page.js("return window.sent")) == count


def test_the_clipboard_goes_both_ways(page, mock):
    page.open("qemu/100", "vnc")
    page.click("clipboard")
    page.see("clipboard-to").send_keys("from here")
    page.find("clipboard-send").click()
    page.wait("the guest's answer", lambda: page.find("clipboard-from").get_attribute("value") == "FROM HERE")


def test_modifiers_are_held_until_let_go(page):
    page.window(390, 844, phone=True)
    page.open("qemu/100", "vnc")
    page.see("extra-keys")
    page.shot("screen-phone-dark")
    page.js("""window.sent = []; const send = sallyport.rfb.sendKey.bind(sallyport.rfb);
        sallyport.rfb.sendKey = (keysym, code, down) => { window.sent.push([code, down]); send(keysym, code, down); };""")
    page.find("hold-alt").click()
    assert page.find("hold-alt").get_attribute("aria-pressed") == "true"
    page.find("key-Tab").click()
    page.find("hold-alt").click()
    assert page.js("return window.sent") == [["AltLeft", True], ["Tab", True], ["Tab", False], ["AltLeft", False]]
    page.click("keys")
    page.see("keys-menu")
    page.shot("screen-phone-keys-dark")


def test_a_read_only_screen_takes_no_keys(page):
    page.open("qemu/100", "vnc", readOnly=True)
    page.see("read-only")
    page.wait("a picture", lambda: page.js("return document.querySelector('#console canvas').width") > 100)
    assert page.js("return sallyport.rfb.viewOnly") is True
    assert not page.all("keys") and not page.all("type-text")


def test_ping_and_notices_pass_beside_the_picture(page):
    page.open("qemu/100", "vnc")
    page.wait("a round trip", lambda: "ms" in page.find("roundtrip").text)
