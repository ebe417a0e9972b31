"""Addresses that users give: which may be asked for at all, and what is called after them. Loads nothing heavy."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from whisper_farm.errors import AddressRefused

MOST_URL = 2000


def check_url(url: str) -> str:
    """The address, if it is one of http or https without a password; raises `AddressRefused`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressRefused(f"{url[:100]!r} is no address.") from None
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= MOST_URL
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain or port == 0:
        raise AddressRefused(f"{url[:100]!r} is no address of the form https://HOST/PATH.")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("An address with a name or password in it is not used.")
    return url


def is_link(word: str) -> bool:
    """Whether a word of the command line is a link and not the name of a file."""
    return word.lower().startswith(("http://", "https://"))


def host_of(url: str) -> str:
    """The host of an address, for messages: the rest may hold secrets."""
    return urlsplit(url).hostname or "the link"


def link_name(url: str) -> str:
    """What a recording behind a link is called."""
    last = unquote(urlsplit(url).path, errors="replace").rstrip("/").rpartition("/")[2]
    return "".join(letter if letter.isprintable() else "_" for letter in last or host_of(url))[-255:]
