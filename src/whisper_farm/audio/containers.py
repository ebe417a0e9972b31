"""Which containers and codecs are read, how a file is recognised as one of them, and what each kind knows of time.

Only names and tables; `source.py` opens files by them.
"""

from __future__ import annotations

import av

from whisper_farm.transcript.options import Raw

FORMATS = (
    "aac,ac3,aiff,alaw,amr,amrnb,amrwb,ape,asf,asf_o,au,avi,caf,dsf,dss,dts,dtshd,eac3,flac,flv,g722,gsm,iff,ircam,loas,"
    "live_flv,matroska,webm,mmf,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,mulaw,mxf,nistsphere,nut,ogg,oma,qcp,"
    "qoa,rm,rso,sln,sox,spdif,tak,truehd,tta,voc,w64,wav,wsd,wtv,wv,xwma,tty"
)
"""The containers that are read. Playlists, pictures, games and whatever nobody records in are not on it."""
PICTURES = ",".join(sorted(name for name in av.formats_available if name.endswith("_pipe")))
"""Recognised only to be told what they are: no decoder of theirs may run."""
HEADERLESS: dict[str, Raw] = {
    ".g722": "g722", ".gsm": "gsm", ".sln": "s16le", ".al": "alaw", ".alaw": "alaw", ".pcma": "alaw",
    ".ul": "mulaw", ".ulaw": "mulaw", ".mulaw": "mulaw", ".pcmu": "mulaw",
}  # fmt: skip
"""How telephone recordings are coded, by the endings of their names: bytes without a header look like anything."""
HEADERS = (b"RIFF", b"RF64", b"FORM", b"OggS", b"fLaC", b"ID3", b"#!AMR", b".snd", b"caff", b"\x1a\x45\xdf\xa3")
"""What files begin with that are no telephone recordings, whatever their names."""
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
"""Says how long each track is; other formats know only the longest."""
PLACED_FORMATS = frozenset(["matroska,webm", "flv", "ogg", "asf", "nut", "mpeg"])
"""Each packet says where in the file it stands."""
RAW_FORMATS = frozenset(("mp3", "aac", "ac3", "eac3", "dts", "truehd", "amr", "amrnb", "amrwb", "loas", "gsm"))
"""No time stamps of their own: lost bytes are lost time."""
PLAIN_FORMATS = frozenset(["wav", "w64", "aiff", "au", "caf"])
"""Their PCM can be decoded from any place."""


def _decodes_sound(name: str) -> bool:
    try:
        return av.Codec(name, "r").type == "audio"
    except av.codec.codec.UnknownCodecError:  # it only encodes
        return False


CODECS = ",".join(sorted(filter(_decodes_sound, av.codecs_available)))
"""The decoders that may run: those of sound. A video's pictures are never decoded, nor its cover."""
