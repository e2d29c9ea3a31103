"""The Python of the documentation runs as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "events.md"


def test_events_from_arrays():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(code, PAGE.name, "exec"), names)
    assert names["sequences"].values.shape == (5, 8, 2, 16, 16)
    assert names["classes"].tolist() == [0, 1] * 4
