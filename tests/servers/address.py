"""Where a server answers: its address, and the URLs of databases on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server answers, and as whom its superuser connects.

    A host that starts with a slash is the folder of a socket; parameters are further ones of the
    DSN that named the server.
    """

    user: str
    password: str
    host: str
    port: int
    parameters: Mapping[str, str] = field(default_factory=dict)

    def url(self, database: str, *, user: str | None = None, password: str | None = None) -> str:
        """Return the URL of a database, for the superuser unless another user is named."""
        name = self.user if user is None else user
        secret = self.password if user is None else password or ""
        account = quote(name, safe="") + (f":{quote(secret, safe='')}" if secret else "")
        parameters = dict(self.parameters)
        place = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        if self.host.startswith("/"):
            parameters |= {"host": self.host, "port": str(self.port)}
            place = ""
        query = f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""
        return f"postgresql://{account}@{place}/{quote(database, safe='')}{query}"
