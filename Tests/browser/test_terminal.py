"""Terminals: typing, reading, size, credit, search, paste."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys


@pytest.mark.parametrize("target", ["node/pve1", "lxc/200"])
def test_a_shell_is_typed_into_and_read(page, target):
    link = page.open(target, "terminal", key=False)
    assert link["token"] not in page.driver.current_url
    assert link["token"] not in page.js("return document.documentElement.outerHTML")
    page.command("echo answer-$((6*7))")
    page.expect("answer-42")
    # As octal bytes: the shell's locale doesn't matter.
    page.command("printf '" + "".join(f"\\{byte:03o}" for byte in "grüße 漢字 🚪|\n".encode()) + "'")
    page.expect("grüße 漢字 🚪|")
    assert page.see("state").text == "Connected"
    page.shot(f"terminal-{target}-dark")


def test_characters_beyond_ascii_arrive_as_utf_8(page):
    page.open("node/pve1", "terminal")
    page.command("cat > /dev/null")
    # What comes before the shell has handed the terminal over is kept, but not echoed.
    page.js("return new Promise((done) => setTimeout(done, 500))")
    page.js("sallyport.terminal.input('größe 漢字 🚪 ∎')")
    page.expect("größe 漢字 🚪 ∎")
    page.chord(Keys.CONTROL, "c")
    page.expect("^C\n")  # what is typed before the shell is back goes with the interrupt
    page.command("cat | wc -c")
    page.wait("the command to run", lambda: page.text().count("wc -c") == 1)
    page.js("return new Promise((done) => setTimeout(done, 500))")
    # The last character comes in two halves, as some keyboards deliver it: 2 + 3 + 4 bytes and the line's end.
    page.js("for (const part of ['ü', '漢', '\\ud83d', '\\udeaa', '\\r', '\\x04']) sallyport.terminal.input(part)")
    page.expect("\n10\n")


def test_a_serial_port_answers(page):
    page.open("qemu/100", "serial0")
    page.command("hello-serial")
    page.expect("hello-serial")
    page.shot("serial-dark")


def test_the_guest_knows_the_size(page):
    page.open("node/pve1", "terminal")

    def agree(mark):
        rows, columns = page.js("return [sallyport.terminal.rows, sallyport.terminal.cols]")
        page.command(f"echo {mark}=$(stty size)")
        page.expect(f"{mark}={rows} {columns}")
        return rows, columns

    def settle(before):
        page.wait("another size", lambda: page.js("return [sallyport.terminal.rows, sallyport.terminal.cols]") != list(before))
        page.js("return new Promise((done) => setTimeout(done, 500))")

    first = agree("a")
    page.window(900, 600)
    settle(first)
    second = agree("b")
    assert second[0] < first[0] and second[1] < first[1]
    page.click("font-up")
    settle(second)
    assert agree("c")[1] < second[1]


def test_much_output_flows_by_credit_and_ends(page):
    page.open("node/pve1", "terminal")
    page.command("seq 1 90000; echo fin-$((1+1))")
    page.expect("\nfin-2\n", patience=90)
    text = page.text()
    assert "\n90000\n" in text and "\n89999\n" in text
    assert page.js("return sallyport.bytesReceived") > 500_000


def test_a_flood_is_stopped_by_ctrl_c(page):
    page.open("node/pve1", "terminal")
    page.command("yes")
    page.wait("the flood", lambda: page.js("return sallyport.bytesReceived") > 300_000)
    page.js("sallyport.terminal.focus()")
    page.chord(Keys.CONTROL, "c")
    page.expect("^C\n", patience=60)
    page.command("echo calm-$((2+2))")
    page.expect("calm-4", patience=60)


def test_a_large_paste_arrives_whole(page):
    page.open("node/pve1", "terminal")
    page.command("stty -echo; cat | md5sum; stty echo")
    page.wait("the command to run", lambda: "md5sum" in page.text())
    page.js("return new Promise((done) => setTimeout(done, 500))")
    line = "0123456789 grüße aus der Zwischenablage, Zeile für Zeile\n"
    text = line * 3000
    page.click("type-text")
    page.see("type-text-dialog")
    page.js("document.querySelector('[data-testid=type-text-input]').value = arguments[0]", text)
    page.find("type-text-go").click()
    page.wait("the dialog to close", lambda: not page.all("type-text-dialog"))
    page.js("sallyport.terminal.focus()")
    page.chord(Keys.CONTROL, "d")
    import hashlib
    page.expect(hashlib.md5(text.encode()).hexdigest(), patience=90)


def test_the_terminal_is_searched(page):
    page.open("node/pve1", "terminal")
    page.command("for i in 1 2 3; do echo need''le-$i; done; seq 1 100")
    page.expect("\n100\n")
    page.click("search-toggle")
    page.see("find-text").send_keys("needle-")
    page.wait("the count", lambda: page.find("find-count").text in ("1 of 3", "2 of 3", "3 of 3"))
    first = page.find("find-count").text
    page.shot("terminal-search-dark")
    page.find("find-text").send_keys(Keys.ENTER)
    page.wait("the next match", lambda: page.find("find-count").text != first)
    page.find("find-text").send_keys("zzz")
    page.wait("no match", lambda: page.find("find-count").text == "No match")
    page.find("find-text").send_keys(Keys.ESCAPE)
    page.command("echo back-$((3+3))")
    page.expect("back-6")


def test_the_clipboard_panel_shows_what_the_guest_copied(page):
    page.open("node/pve1", "terminal")
    page.command("printf '\\033]52;c;%s\\a' $(printf 'from the guest' | base64)")
    page.see("clipboard-notice")
    page.click("clipboard")
    page.see("clipboard-dialog")
    assert page.find("clipboard-from").get_attribute("value") == "from the guest"
    page.find("clipboard-to").send_keys("echo to-$((4+4))")
    page.shot("clipboard-dark")
    page.find("clipboard-send").click()
    page.keys(Keys.ENTER)
    page.expect("to-8")


def test_bracketed_paste_is_marked(page):
    page.open("node/pve1", "terminal")
    page.command("printf '\\033[?2004h'; cat -v")
    page.js("return new Promise((done) => setTimeout(done, 500))")
    page.js("sallyport.view.paste('marked')")
    page.keys(Keys.ENTER)
    page.expect("^[[200~marked^[[201~")
    page.chord(Keys.CONTROL, "c")


def test_a_read_only_terminal_takes_no_keys(page):
    page.open("node/pve1", "terminal", readOnly=True)
    page.see("read-only")
    assert not page.all("type-text")
    page.js("sallyport.terminal.focus()")
    page.keys("echo typed", Keys.ENTER)
    page.js("return new Promise((done) => setTimeout(done, 700))")
    assert "typed" not in page.text()
    page.shot("terminal-read-only-dark")


def test_a_phone_gets_the_keys_it_lacks(page):
    page.window(390, 844, phone=True)
    page.open("node/pve1", "terminal")
    page.see("extra-keys")
    assert page.js("return document.documentElement.scrollWidth") <= 390
    page.command("cat")
    page.find("hold-control").click()
    assert page.find("hold-control").get_attribute("aria-pressed") == "true"
    page.keys("c")
    page.expect("^C\n")
    assert page.find("hold-control").get_attribute("aria-pressed") == "false"
    page.command("echo before")
    page.expect("\nbefore\n")
    page.find("key-ArrowUp").click()
    page.keys("-again", Keys.ENTER)
    page.expect("\nbefore-again\n")
    page.shot("terminal-phone-dark")
    page.find("more").click()
    page.see("font-up")
    page.shot("terminal-phone-menu-dark")
    page.driver.find_element(By.ID, "theme").click()
    page.shot("terminal-phone-light")


def test_the_keyboard_leads_out_of_the_console_again(page):
    page.open("node/pve1", "terminal")
    page.js("sallyport.terminal.focus()")
    page.keys(Keys.TAB)
    assert page.js("return document.activeElement.className").startswith("xterm")
    page.chord(Keys.CONTROL, Keys.ALT, Keys.SHIFT)
    page.wait("the focus on a button", lambda: page.js("return document.activeElement.closest('#actions') !== null"))
    page.keys(Keys.ARROW_RIGHT, Keys.ENTER)
    page.command("echo out-$((7+7))")
    page.expect("out-14")


def test_the_round_trip_is_shown(page):
    page.open("node/pve1", "terminal")
    page.wait("a round trip", lambda: "ms" in page.find("roundtrip").text)
    assert 0 <= page.js("return sallyport.roundTrip") < 5000


def test_light_and_dark(page):
    page.open("node/pve1", "terminal")
    page.command("ls -la --color=always /")
    page.expect("proc")
    dark = page.js("return sallyport.terminal.options.theme.background")
    page.colours("light")
    page.wait("the light theme", lambda: page.js("return sallyport.terminal.options.theme.background") != dark)
    page.js("return new Promise((done) => setTimeout(done, 300))")
    page.shot("terminal-light")
