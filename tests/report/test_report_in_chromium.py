"""Pages as a browser lays them out, on a phone and on a wide screen: nothing is clipped, and no line is endless."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_events import CAMERA, LINE, recorded

from spikelfp.report import show_events

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (420, 1600)

MEASURE = """<!DOCTYPE html><html><body>{frames}<pre id="found"></pre><script>
addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, width = frame.clientWidth, beyond = [], clipped = [];
    for (const each of page.body.querySelectorAll("*")) {{
      const box = each.getBoundingClientRect();
      if (box.width && (box.right > width + 1 || box.left < -1)) beyond.push(each.tagName + " " + each.className);
      const style = frame.contentWindow.getComputedStyle(each);
      if (style.overflowX === "hidden" && each.scrollWidth > each.clientWidth + 1) clipped.push(each.tagName);
    }}
    const pictures = [...page.querySelectorAll("img")].filter((each) => each.getBoundingClientRect().width);
    return {{width, scroll: page.documentElement.scrollWidth, beyond, clipped,
      pictures: pictures.map((each) => [each.naturalWidth, each.getBoundingClientRect().width])}};
  }});
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script></body></html>"""


def measured(page: Path) -> list[dict[str, object]]:
    """Findings of a headless Chromium in the page, at each of the widths."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the path to lay the page out")
    frames = "".join(f'<iframe src="{page.name}" style="width:{width}px;height:900px;border:0"></iframe>'
                     for width in WIDTHS)  # fmt: skip
    around = page.with_name("around.html")
    around.write_text(MEASURE.format(frames=frames))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=10000", "--dump-dom", around.as_uri()],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    text = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.S)
    assert text is not None, done.stderr[-2000:]
    return json.loads(html.unescape(text[1]))


@pytest.mark.parametrize("sensor", [CAMERA, LINE], ids=["camera", "line"])
def test_nothing_of_a_recording_is_clipped(tmp_path, sensor):
    page = tmp_path / "page.html"
    note = "3 events before the first word of time were left out: " + "a_long_name_of_a_file" * 4 + ".raw"
    show_events(recorded(sensor), sensor, page, name="a recording", notes=[note])
    found = measured(page)
    assert [each["width"] for each in found] == list(WIDTHS)
    for each in found:
        assert each["scroll"] <= each["width"], each
        assert each["clipped"] == []
        assert len(each["pictures"]) >= 4
        assert all(natural > 0 and shown > 100 for natural, shown in each["pictures"])


def test_a_page_that_is_too_wide_is_found(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<!DOCTYPE html><html><body><div style="width:900px">x</div></body></html>')
    narrow, wide = measured(page)
    assert narrow["scroll"] > 420
    assert narrow["beyond"]
    assert (wide["scroll"], wide["beyond"]) == (1600, [])
