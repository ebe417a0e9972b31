"""People who use the web app of a served farm, without a browser: cookies and the header of the app."""

from __future__ import annotations

import httpx

from support.served_farm import ServedFarm
from whisper_farm.store.accounts import link_for
from whisper_farm.store.database import Database

APP = {"Whisper-Farm-App": "1"}


class People:
    """Signs people in to a served farm."""

    def __init__(self, farm: ServedFarm) -> None:
        self.farm = farm

    def link(self, name: str = "admin") -> str:
        """The secret of a fresh link, as the server's own command makes it."""
        database = Database.open(self.farm.data / "farm.db")
        try:
            return database.write(lambda tx: link_for(tx, name))
        finally:
            database.close()

    def stranger(self) -> httpx.Client:
        """The app in a browser where nobody is signed in."""
        client = self.farm.client("")
        client.headers.update(APP)
        return client

    def admin(self) -> httpx.Client:
        """The first administrator, signed in by a link."""
        return self.by_link(self.link())

    def user(self, name: str) -> httpx.Client:
        """Somebody whom an administrator has invited, signed in by the invitation."""
        answer = self.admin().post("/app/people", json={"name": name})
        assert answer.status_code == 201, answer.text
        return self.by_link(answer.json()["link"])

    def by_link(self, secret: str) -> httpx.Client:
        """Whoever a link signs in."""
        client = self.stranger()
        answer = client.post("/app/session", json={"link": secret})
        assert answer.status_code == 204, answer.text
        return client
