"""The built web app: its files in memory, each as it lies there and compressed, and the page that begins it.

The app is built by `./run web` into the package. Where it was not built there is no app, and a page that says so.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "web_app"
PAGE = "index.html"
MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".mp3": "audio/mpeg",
    ".md": "text/plain; charset=utf-8",
}
ENCODINGS = {"br": ".br", "gzip": ".gz"}
"""As requests name them, the best first; and the endings of the files."""
REFUSED = re.compile(r";\s*q=0(\.0*)?$")
NOT_BUILT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Whisper Farm</title>
<h1>Whisper Farm is running, but its web app has not been built</h1>
<p>In a checkout, <code>./run web</code> builds it; that needs Node 20.19 or newer and a package registry.
Start the server again afterwards. Everything else works without it: see <code>whisper-farm --help</code>.</p>
</html>"""


@dataclass(frozen=True, slots=True)
class AppFile:
    """One file, with its compressed forms by encoding."""

    content: bytes
    media_type: str
    encoded: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WebApp:
    """`files` by their paths below `/app`; `page` is None where the app was not built."""

    files: dict[str, AppFile]
    page: str | None

    @classmethod
    def read(cls, folder: Path = FOLDER) -> WebApp:
        if not (folder / PAGE).is_file():
            return cls({}, None)
        found = [path for path in sorted(folder.rglob("*")) if path.suffix in MEDIA_TYPES]
        files = {f"/{path.relative_to(folder).as_posix()}": _file(path) for path in found}
        page = (folder / PAGE).read_text(encoding="utf-8")
        return cls(files, page.replace('"./assets/', '"./app/assets/'))

    def begin(self) -> tuple[str, str]:
        """The page with a fresh nonce, and the nonce."""
        nonce = secrets.token_urlsafe(18)
        return (self.page or NOT_BUILT).replace("{{nonce}}", nonce), nonce


def content_policy(nonce: str, blob_origin: str | None) -> str:
    """What the page may load: from here alone, and recordings from the object store where there is one."""
    media = f"'self' {blob_origin}" if blob_origin else "'self'"
    return (
        f"default-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; connect-src {media}; "
        f"media-src {media}; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def best_encoding(accepted: str, file: AppFile) -> str | None:
    """The encoding to answer with; None for the file as it is."""
    parts = [part.strip().lower() for part in accepted.split(",")]
    wanted = {part.split(";")[0].strip() for part in parts if not REFUSED.search(part)}
    return next((name for name in ENCODINGS if name in wanted and name in file.encoded), None)


def _file(path: Path) -> AppFile:
    encoded = {
        name: path.with_name(path.name + ending).read_bytes()
        for name, ending in ENCODINGS.items()
        if path.with_name(path.name + ending).is_file()
    }
    return AppFile(path.read_bytes(), MEDIA_TYPES[path.suffix], encoded)
