#!/usr/bin/env python3
"""Make the pictures of the documentation, docs/images/*.png: the status pages as `pgfleet web` serves them over weeks
of a fleet's life (tests/integration/weeks_scene.py), and the report of the drill that `make demo` has done.

    scripts/system.sh chromium fonts-inter && .venv/bin/python scripts/screenshots.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser import Page, browser  # noqa: E402
from tests.integration import weeks_scene  # noqa: E402
from worker.local.valkey import Valkey  # noqa: E402

IMAGES = ROOT / "docs" / "images"
REPORT = ROOT / "build" / "drill-report.html"
WIDTH = 1180
LARGEST = 200_000  # bytes
#: name → height that is shown, 0 for all
HEIGHTS = {"status": 1120, "status-database": 1290, "status-run": 1000, "drill-report": 1180}


def main() -> int:
    if not REPORT.exists():
        subprocess.run([sys.executable, "-m", "worker", "demo"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory(prefix="pgfleet-pictures-") as folder:
        directory = Path(folder)
        broker = Valkey(directory / "valkey")
        broker.start()
        try:
            scene = weeks_scene.make(directory, PGFLEET_BROKER_URL=broker.url)
            with weeks_scene.served(scene.adapters) as address, browser() as pipe:
                page = Page(pipe)
                _shoot(page, "status", f"{address}/")
                _shoot(page, "status-database", f"{address}/database/goimg")
                _shoot(page, "status-run", f"{address}/run/{scene.running}")
                _shoot(page, "drill-report", REPORT.as_uri())
        finally:
            broker.stop()
    return 0


def _shoot(page: Page, name: str, address: str) -> None:
    page.media(prefers_color_scheme="light", prefers_reduced_motion="reduce")
    page.size(WIDTH, HEIGHTS[name])
    page.open(address)
    path = IMAGES / f"{name}.png"
    page.shoot(path, height=HEIGHTS[name])
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size:,} bytes")
    assert size < LARGEST, f"{path} is larger than {LARGEST:,} bytes"


if __name__ == "__main__":
    sys.exit(main())
