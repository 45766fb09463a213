"""A proxy before a PostgreSQL server: it counts round trips, and loses what it is told to lose."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Fate = Literal["is lost", "loses its answer", "loses its sender", "is answered late"]

LATE_SECONDS = 0.2
READY = re.compile(b"Z\0\0\0\5[ITE]")
"""How the server ends an answer, and says that it waits for more."""


class Proxy:
    """Forwards connections to the server of a URL."""

    silent_seconds = 0.0
    """How long a client waits for an answer that is lost, before its connection ends."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = parts.hostname, parts.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        place = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self._listener.getsockname()[1]}"
        query = "&".join(filter(None, [parts.query, "sslmode=disable", "gssencmode=disable"]))
        self.url = urlunsplit(parts._replace(netloc=place, query=query))
        self.round_trips = 0
        self._fates: list[tuple[bytes, Fate]] = []
        self._lines: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def expect(self, text: str, fate: Fate) -> None:
        """Decide what happens to the next message of a client that holds a text.

        One that is lost never comes to the server; where its answer is, the server has done what
        it was asked to; without its sender, the server does not notice until it is done.
        """
        self._fates.append((text.encode(), fate))

    def expected(self) -> bool:
        """Tell whether something was decided that has not happened yet."""
        return bool(self._fates)

    def cut(self) -> None:
        """End all connections; a backend that waits for a lock does not notice before it has it."""
        for line in self._lines:
            for end in line:
                hang_up(end)

    def refuse(self) -> None:
        """Take no more connections."""
        hang_up(self._listener)
        self._threads[0].join()

    def close(self) -> None:
        """End all connections and wait for the threads."""
        self.refuse()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        """Connect a client to the server; where that is away, hang up."""
        try:
            server = socket.create_connection(self._server)
        except OSError:
            hang_up(client)
            return
        self._lines.append((client, server))
        self._threads.append(threading.Thread(target=self._serve, args=(client, server)))
        self._threads[-1].start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError, ValueError):  # an end was closed by another thread
            self._forward(client, server)
        for end in (client, server):
            hang_up(end)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Forward messages until one meets its fate, or an end is closed."""
        fate: Fate | None = None
        while True:
            ready, _, _ = select.select([client, server], [], [])
            data = ready[0].recv(1 << 16)
            if not data:
                return
            if ready[0] is server and fate == "loses its answer":
                time.sleep(self.silent_seconds)
                return
            if ready[0] is server:
                if fate == "is answered late":
                    time.sleep(LATE_SECONDS)
                self.round_trips += len(READY.findall(data))
                client.sendall(data)
                continue
            fate = self.fate_of(data)
            if fate != "is lost":
                server.sendall(data)
            if fate in ("is lost", "loses its sender"):
                return

    def fate_of(self, data: bytes) -> Fate | None:
        """Return what happens to a message of a client."""
        for place, (text, fate) in enumerate(self._fates):
            if text in data:
                del self._fates[place]
                return fate
        return None


@contextmanager
def proxy_to(url: str) -> Generator[Proxy]:
    """Run a proxy to the server of a URL."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


def hang_up(end: socket.socket) -> None:
    """End a connection at once, for whoever waits for it as well."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
