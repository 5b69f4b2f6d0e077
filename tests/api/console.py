"""A person at the console, without a browser: the cookie, and what the page gave to be sent back."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx

from tests.api.conftest import TOKEN, Served


class Person:
    """Speaks with the console of `server` as its page does."""

    def __init__(self, server: Served) -> None:
        self.http = httpx.Client(base_url=server.bare.base_url, timeout=20, trust_env=False)
        self.origin = str(server.bare.base_url).rstrip("/")
        self.proof = ""

    def log_in(self, token: str = TOKEN, **headers: str) -> httpx.Response:
        answer = self.http.post("/console/login", data={"token": token}, headers={"origin": self.origin, **headers})
        if answer.status_code == 303:
            self.proof = self.proof_in(self.page())
        return answer

    def page(self, **query: Any) -> str:
        answer = self.http.get("/", params=query)
        assert answer.status_code == 200, answer.text
        return answer.text

    @staticmethod
    def proof_in(page: str) -> str:
        (proof,) = re.findall(r'"X-Console-Proof": "(\w+)"', page)
        return str(proof)

    def reference_of(self, key: str) -> str:
        links = re.findall(r'hx-get="/console/sessions/(\w+)"[^>]*>([^<]*)</a>', self.page(show="all"))
        (reference,) = [ref for ref, name in links if unescape(name) == key]
        return str(reference)

    def send(self, path: str, **fields: str) -> httpx.Response:
        headers = {"origin": self.origin, "x-console-proof": self.proof}
        return self.http.post(path, data=fields, headers=headers)
