"""Write every generated page: ``python -m scripts.reference``."""

from __future__ import annotations

from pathlib import Path

from scripts.reference.pages import pages

for _path, _text in pages():
    Path(_path).write_text(_text)
