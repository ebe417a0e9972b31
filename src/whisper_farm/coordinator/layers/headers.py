"""Headers: one of a request, and those that tell browsers to be careful with every answer.

Careful means: guess no types, show it in no frame, run nothing.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CAREFUL = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
POLICY = b"content-security-policy"
NOTHING = (POLICY, b"default-src 'none'; frame-ancestors 'none'")
"""For whatever is no page."""


class CarefulHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                own_policy = any(name == POLICY for name, _ in headers)
                message = {**message, "headers": [*headers, *CAREFUL, *(() if own_policy else (NOTHING,))]}
            await send(message)

        await self.app(scope, receive, careful)


def header(scope: Scope, wanted: str) -> str:
    """The first header of that name, which is given in small letters; empty if there is none."""
    name = wanted.encode()
    return next((bytes(value).decode("latin-1") for key, value in scope["headers"] if key == name), "")
