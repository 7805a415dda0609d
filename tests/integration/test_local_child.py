"""Child processes, ports and directories of the embedded stack."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from tests.services import processes_below, wait_until
from worker.errors import PgfleetError
from worker.local.child import Child, User
from worker.local.environment import plain
from worker.local.place import Place
from worker.local.ports import free_ports, on_free_ports
from worker.local.postgres import Postgres


def shell(own: Path, script: str, **options: object) -> Child:
    argv = ["/bin/sh", "-c", script]
    return Child("the script", argv, env=plain(own), cwd=own, log=own / "log", **options)  # type: ignore[arg-type]


class TestChild:
    def test_that_ends_while_it_starts_shows_its_last_words(self, own: Path) -> None:
        child = shell(own, "echo first; echo 'no such luck' >&2; exit 7")
        child.start()
        with pytest.raises(PgfleetError, match=r"the script ended by itself \(exit code 7\)") as caught:
            child.wait_ready(lambda: False, 10)
        assert "first\nno such luck" in caught.value.hint

    def test_that_is_never_ready_is_told_after_the_deadline(self, own: Path) -> None:
        child = shell(own, "sleep 60")
        child.start()
        with pytest.raises(PgfleetError, match="was not ready after 0 s"):
            child.wait_ready(lambda: False, 0.1)
        assert child.running
        child.stop()

    def test_that_ignores_the_stop_signal_is_killed_with_its_children(self, own: Path) -> None:
        child = shell(
            own, "trap '' TERM; sleep 61 & echo ready; while :; do sleep 0.1; done", stop_seconds=0.2
        )
        child.start()
        child.wait_ready(lambda: "ready" in child.tail(), 5)
        assert len(processes_below(own)) >= 2
        child.stop()
        assert wait_until(lambda: not processes_below(own), 1)

    def test_outlives_the_thread_that_started_it(self, own: Path) -> None:
        """The kernel's death signal is about the creating thread: it must not be the caller's."""
        child = shell(own, "sleep 60")
        thread = threading.Thread(target=child.start)
        thread.start()
        thread.join()
        with pytest.raises(PgfleetError, match="did not end"):
            child.wait(0.3)
        child.stop()
        assert not child.running

    def test_can_be_started_again(self, own: Path) -> None:
        child = shell(own, "echo once; exec sleep 60")
        for count in (1, 2):
            child.start()
            with pytest.raises(PgfleetError, match="started already"):
                child.start()
            assert wait_until(lambda count=count: child.tail().count("once") == count)  # type: ignore[misc]
            child.stop()

    def test_an_exit_by_signal_is_128_more(self, own: Path) -> None:
        child = shell(own, "kill -9 $$")
        child.start()
        assert child.wait(5) == 137

    def test_a_program_that_is_not_there_says_so(self, own: Path) -> None:
        child = Child("nothing", [own / "missing"], env=plain(own), log=own / "log")
        child.start()
        with pytest.raises(PgfleetError, match="exit code 126") as caught:
            child.wait_ready(lambda: False, 5)
        assert "No such file" in caught.value.hint


class TestPorts:
    def test_are_different(self) -> None:
        assert len(set(free_ports(50))) == 50

    def test_another_is_tried_when_somebody_was_quicker(self) -> None:
        tried = []

        def start(ports: list[int]) -> str:
            tried.append(ports)
            if len(tried) < 3:
                raise PgfleetError("It ended.", "bind: Address already in use")
            return "up"

        assert on_free_ports(2, start) == "up"
        assert len({tuple(ports) for ports in tried}) == 3

    def test_other_failures_are_not_tried_again(self) -> None:
        tried = []

        def start(ports: list[int]) -> None:
            tried.append(ports)
            raise PgfleetError("It ended.", "no space left on device")

        with pytest.raises(PgfleetError, match="It ended"):
            on_free_ports(1, start)
        assert len(tried) == 1

    def test_postgres_finds_another_when_its_port_is_taken(
        self, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            offers = iter([[taken.getsockname()[1]], free_ports(1)])
            monkeypatch.setattr("worker.local.ports.free_ports", lambda count: next(offers))
            server = Postgres(own / "pg", fsync=False)
            server.start()
            assert server.port != taken.getsockname()[1]
            server.stop()


class TestPlace:
    def test_is_removed(self, root: Path) -> None:
        place = Place(root=root)
        (place.path / "some").mkdir()
        place.remove()
        place.remove()
        assert not list(root.iterdir())

    def test_of_a_killed_owner_is_swept_and_no_other(self, root: Path) -> None:
        living, kept, dead = Place(root=root), Place(root=root, keep=True), Place(root=root)
        kept.remove()
        os.close(dead._lock)  # what the kernel does when its owner is killed
        newest = Place(root=root)
        assert {entry for entry in root.iterdir()} == {living.path, kept.path, newest.path}
        living.remove()
        newest.remove()

    def test_must_be_open_to_the_servers_user(self, own: Path) -> None:
        closed = own / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(PgfleetError, match="No temporary directory is open to the user"):
            Place(User("other", 4242, 4242), root=closed)

    def test_a_long_root_is_refused(self, own: Path) -> None:
        deep = own / ("x" * 60)
        deep.mkdir()
        with pytest.raises(PgfleetError, match="short path"):
            Place(root=deep)
