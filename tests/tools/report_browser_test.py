"""The page of `gradwire report` in a real browser. Usage: report_browser_test.py REPORT_FIXTURE GRADWIRE

Needs chromium (scripts/install-deps test); without it, 77: skipped.
"""
import html.parser
import http.server
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

SECTIONS = ["heat", "budget", "bytes", "share", "curves", "times", "timelines", "events", "plans", "layers"]
CASES = ["usual", "bytes", "plain", "deep", "hook", "one", "empty"]
VOID = {"meta", "input", "img", "br", "link"}


class Page(html.parser.HTMLParser):
    """Elements of a page, each with tag, attributes, the section it stands in, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.section = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "section":
            self.section = attributes["id"]
        element = {"tag": tag, "section": self.section, "text": "", **attributes}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        while self.open and self.open.pop()["tag"] != tag:
            pass
        if tag == "section":
            self.section = None

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def find(self, tag, section=None, css=None):
        return [each for each in self.elements if each["tag"] == tag and section in (None, each["section"])
                and (css is None or css in each.get("class", "").split())]


class Browser:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def open(self, path, *options):
        """Returns what the page became, and what the browser complained of."""
        with tempfile.TemporaryDirectory(dir=self.folder) as profile:
            result = subprocess.run(
                [self.program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={profile}",
                 "--enable-logging=stderr", *options, path.as_uri()],
                capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]

    def dom(self, path, *options):
        return self.open(path, "--dump-dom", *options)

    def requests(self, path):
        """URLs that the page asked for; what the browser asks for on its own account has no origin."""
        log = self.folder / "net.json"
        self.dom(path, f"--log-net-log={log}")
        found = json.loads(log.read_text())
        starts = found["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
        jobs = [each["params"] for each in found["events"] if each["type"] == starts and "url" in each.get("params", {})]
        return {job["url"] for job in jobs if job["initiator"] != "not an origin"}


def bits_class(layer):
    if not layer.get("count") or not layer["bytes"]:
        return None
    return min(max(round(math.log2(8 * layer["bytes"] / layer["count"])), -5), 5)


def cells(run):
    """A cell of the heat map is a layer's spec and colour for as long as both stay."""
    count = 0
    last = {}
    for plan in run["plans"]:
        for layer in plan["layers"]:
            now = (layer["spec"], bits_class(layer))
            count += last.get(layer["name"]) != now
            last[layer["name"]] = now
    return count


def check_page(text, run):
    page = Page(text)
    assert [each["id"] for each in page.find("section")] == SECTIONS
    name = run["run"]["name"] or "Run"
    assert page.find("h1")[0]["text"] == name, page.find("h1")
    assert page.find("title")[0]["text"] == f"{name} - gradwire report"
    assert len(page.find("script")) == 1 and not page.find("img") and not page.find("link")
    assert not [each for each in page.elements if any(key.startswith("on") for key in each)]
    assert not [each for each in page.elements if "href" in each or "src" in each or "style" in each
                and "tip" not in each.get("class", "").split()]
    assert "{{" not in text.replace("{{heading}}", "") and "NaN" not in text and "nan" not in text, "a number that is none"
    assert len(page.find("rect", "heat", "cell")) == cells(run), (len(page.find("rect", "heat", "cell")), cells(run))

    plans = run["plans"]
    layers = [layer["name"] for layer in plans[-1]["layers"]] if plans else []
    assert [row["text"] for row in page.find("th", "layers") if row.get("scope") == "row"] == layers
    names = [each for each in page.find("text", "heat", "name")]
    assert len(names) == len(layers)
    for shown, full in zip(names, layers):
        title = shown["text"]
        assert title == full or ("…" in title and title.endswith(full)), (title, full)
    assert len(page.find("tr", "plans")) == (len(plans) + 1 if plans else 0)
    assert len(page.find("tr", "events")) == (len(run["events"]) + 1 if run["events"] else 0)
    assert len(page.find("div", "timelines", "panel")) == len(run["timelines"])
    buckets = sum(len(each["buckets"]) for each in run["timelines"])
    assert len(page.find("rect", "timelines", "span")) == buckets
    known = bool(plans) and plans[-1]["bytes"] > 0
    assert len(page.find("rect", "share", "bar")) == (min(len(layers), 40) if known else 0)
    assert len(page.find("svg", "curves", None)) == 2 * len(run["curves"])  # with the legend's
    # A part that shows nothing says why.
    for section in SECTIONS:
        has = [each for each in page.elements if each["section"] == section and each["tag"] in ("svg", "table")]
        why = page.find("p", section, "nothing")
        assert bool(has) != bool(why), (section, len(has), why)
    return page


def check_case(browser, tools, which):
    run_path, page_path = browser.folder / f"{which}.json", browser.folder / f"{which}.html"
    subprocess.run([tools[0], which, run_path], check=True, timeout=120)
    subprocess.run([tools[1], "report", run_path, "-o", page_path], check=True, timeout=120, stdout=subprocess.DEVNULL)
    run, text = json.loads(run_path.read_text()), page_path.read_text()
    dom, complaints = browser.dom(page_path)
    assert complaints == [], complaints  # such as a style or script that the policy blocks
    page = check_page(dom, run)
    assert len(page.find("div", None, "tip")) == 1, "the script did not run"
    assert browser.requests(page_path) == set()
    return text, run


def check_pictures(browser, which):
    """Dark and light are both drawn, and differ."""
    pictures = []
    for theme in (0, 1):
        path = browser.folder / f"{which}-{theme}.png"
        browser.open(browser.folder / f"{which}.html", f"--screenshot={path}", "--window-size=1200,1600",
                     "--hide-scrollbars", f"--blink-settings=preferredColorScheme={theme}")
        pictures.append(path.read_bytes())
        assert len(pictures[-1]) > 20_000, f"{len(pictures[-1])} bytes: an empty picture"
    assert pictures[0] != pictures[1]


def without_policy(text):
    begin = text.index('<meta http-equiv="Content-Security-Policy"')
    return text[:begin] + text[text.index("\n", begin):]


def check_policy(browser, text):
    """What gets into the page runs and asks for nothing; the same without the policy does both, so that is what is seen."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        intruder = (f"<img src='{url}/image'><link rel='stylesheet' href='{url}/style'><iframe src='{url}/frame'></iframe>"
                    f"<script src='{url}/script'></script><script>document.title = 'owned'; fetch('{url}/fetch')</script>")
        path = browser.folder / "intruder.html"
        for policy in (True, False):
            path.write_text((text if policy else without_policy(text)).replace("<main>", intruder + "<main>", 1))
            dom, complaints = browser.dom(path)
            owned = Page(dom).find("title")[0]["text"] == "owned"
            blocked = any("Content Security Policy" in complaint for complaint in complaints)
            requests = browser.requests(path)
            assert owned != policy and bool(asked) != policy and bool(requests) != policy and blocked == policy, (
                policy, owned, asked, requests, complaints)
        server.shutdown()


def check_tip(browser, text):
    """Moving onto a cell shows its title at once."""
    move = ("<script>const cell = document.querySelector('.cell'); cell.dispatchEvent(new PointerEvent('pointermove', "
            "{bubbles: true, clientX: 5, clientY: 5}));</script></body>")
    path = browser.folder / "tip.html"
    path.write_text(without_policy(text).replace("</body>", move, 1))
    page = Page(browser.dom(path)[0])
    tip = page.find("div", None, "tip")[0]
    assert "hidden" not in tip and tip["text"].startswith("stem.conv.weight\n"), tip


def check_without_script(browser, text, run):
    """A page whose script fails has lost its quick tips only."""
    path = browser.folder / "no-script.html"
    begin, end = text.rindex("<script>"), text.rindex("</script>")
    path.write_text(without_policy(text[:begin] + "<script>throw new Error('broken')" + text[end:]))
    dom, complaints = browser.dom(path)
    assert complaints
    page = check_page(dom, run)
    assert not page.find("div", None, "tip")


def main(arguments):
    if len(arguments) != 3:
        sys.exit(__doc__)
    program = shutil.which("chromium")
    if program is None:
        print("SKIPPED: no chromium on this machine, so nobody has looked at the page of `gradwire report`")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(program, pathlib.Path(folder))
        pages = {which: check_case(browser, arguments[1:], which) for which in CASES}
        text, run = pages["usual"]
        check_pictures(browser, "deep")
        check_policy(browser, text)
        check_tip(browser, text)
        check_without_script(browser, text, run)
    print(f"{len(pages)} pages in {program}: as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
