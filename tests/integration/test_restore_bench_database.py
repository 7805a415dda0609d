"""The benchmark's database, an image host's, comes back as it was: definitions by pg_dump, content by checksum."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PostgresOf
from tests.restore_scene import Scene, content_of, copy_by_hand, libpq, schema_of
from tests.services import KeyPair
from worker.process import run

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "goimg.sql"
SCALE = "0.01"  # about 20 MB on disk


@pytest.fixture(params=[(15, 15), (17, 17), (15, 17)], ids=lambda p: f"{p[0]}to{p[1]}")
def scene(
    request: pytest.FixtureRequest, postgres_of: PostgresOf, tmp_path: Path, gpg_keys: KeyPair
) -> Iterator[Scene]:
    """Of the majors whose servers here have its extensions: pgcrypto and pg_trgm."""
    source, target = (postgres_of(major) for major in request.param)
    scene = Scene(tmp_path, source, target, "goimg", gpg_keys)
    source.createdb("goimg", template="template0")
    psql = [str(source.bin_dir / "psql"), "-X", "-q", "-v", f"scale={SCALE}", "-f", str(SCRIPT)]
    loaded = run(psql, env=libpq(source, "goimg"))
    assert loaded.returncode == 0, loaded.stderr
    for folder in ("near", "far"):
        (tmp_path / folder).mkdir()
    yield scene
    source.dropdb("goimg")
    for name in scene.databases() - {"sample_template"}:
        target.dropdb(name)


def test_the_benchmark_database(scene: Scene) -> None:
    scene.backup()
    result = scene.restored(as_name="back")
    assert all(check["ok"] for check in result["checks"])
    expected, server = "goimg", scene.source
    if scene.source.major != scene.target.major:  # as that server spells it
        expected, server = "by_hand", scene.target
        server.createdb(expected, template="template0")
        copy_by_hand(scene, expected)
    before, after = schema_of(scene.target, server, expected), schema_of(scene.target, scene.target, "back")
    assert len(before) > 150
    assert "\n".join(difflib.unified_diff(before, after, lineterm="", n=1)) == ""
    content = content_of(scene.source, "goimg")
    assert content["public.images"].startswith("8000 ")
    assert sum(name.startswith("large object") for name in content) == 20
    assert content_of(scene.target, "back") == content
    assert not scene.litter()
    with scene.target.connect("back") as connection:  # the comparison does tell a difference
        connection.execute(
            "UPDATE thumbnails SET data = set_byte(data, 0, 255 - get_byte(data, 0)) WHERE image_id = 1000"
        )
    changed = content_of(scene.target, "back")
    assert {name for name in content if content[name] != changed[name]} == {"public.thumbnails"}
