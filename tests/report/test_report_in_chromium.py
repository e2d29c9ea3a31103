"""Pages as a browser lays them out, on a phone and on a wide screen: nothing is clipped, and no line is endless."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_events import CAMERA, LINE, folder_of, recorded

from spikelfp.report import show_events, write_report
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (420, 1600)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path to lay the page out")

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
    assert CHROMIUM is not None
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


def check_page(page: Path, pictures: int) -> None:
    found = measured(page)
    assert [each["width"] for each in found] == list(WIDTHS)
    for each in found:
        assert each["scroll"] <= each["width"], each
        assert each["clipped"] == []
        assert len(each["pictures"]) >= pictures
        assert all(natural > 0 and shown > 100 for natural, shown in each["pictures"])


@pytest.mark.parametrize("sensor", [CAMERA, LINE], ids=["camera", "line"])
def test_nothing_of_a_recording_is_clipped(tmp_path, sensor):
    page = tmp_path / "page.html"
    note = "3 events before the first word of time were left out: " + "a_long_name_of_a_file" * 4 + ".raw"
    show_events(recorded(sensor), sensor, page, name="a recording", notes=[note])
    check_page(page, pictures=4)


@pytest.mark.parametrize("kind", ["spiking-mlp", pytest.param("spiking-lenet", marks=pytest.mark.slow)])
def test_nothing_of_a_run_is_clipped(trained, kind):
    check_page(write_report(trained(kind)), pictures=5)


@pytest.mark.slow
def test_nothing_of_a_run_with_long_names_is_clipped(tmp_path):
    folder = folder_of(CAMERA, tmp_path / ("recordings_of_" + "a_very_long_campaign_" * 4))
    for number, place in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        place.rename(place.with_name(f"{number}_a_gesture_with_an_endless_name_of_letters_without_a_space"))
    config = RunConfig(data=f"folder:{folder}", cache_dir=str(tmp_path / "cache"), hidden=(16,), steps=6, epochs=1,
                       batch_size=8, device="cpu")  # fmt: skip
    train(config, tmp_path / "run", progress=False)
    check_page(write_report(tmp_path / "run"), pictures=5)


def test_a_page_that_is_too_wide_is_found(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<!DOCTYPE html><html><body><div style="width:900px">x</div></body></html>')
    narrow, wide = measured(page)
    assert narrow["scroll"] > 420
    assert narrow["beyond"]
    assert (wide["scroll"], wide["beyond"]) == (1600, [])
