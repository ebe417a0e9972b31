"""The languages Whisper knows, by code and name: `English` and `en` mean the same."""

from __future__ import annotations

from difflib import get_close_matches

LANGUAGES: dict[str, str] = {
    "af": "afrikaans", "am": "amharic", "ar": "arabic", "as": "assamese", "az": "azerbaijani",
    "ba": "bashkir", "be": "belarusian", "bg": "bulgarian", "bn": "bengali", "bo": "tibetan",
    "br": "breton", "bs": "bosnian", "ca": "catalan", "cs": "czech", "cy": "welsh",
    "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
    "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fo": "faroese",
    "fr": "french", "gl": "galician", "gu": "gujarati", "ha": "hausa", "haw": "hawaiian",
    "he": "hebrew", "hi": "hindi", "hr": "croatian", "ht": "haitian creole", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian", "is": "icelandic", "it": "italian", "ja": "japanese",
    "jw": "javanese", "ka": "georgian", "kk": "kazakh", "km": "khmer", "kn": "kannada",
    "ko": "korean", "la": "latin", "lb": "luxembourgish", "ln": "lingala", "lo": "lao",
    "lt": "lithuanian", "lv": "latvian", "mg": "malagasy", "mi": "maori", "mk": "macedonian",
    "ml": "malayalam", "mn": "mongolian", "mr": "marathi", "ms": "malay", "mt": "maltese",
    "my": "myanmar", "ne": "nepali", "nl": "dutch", "nn": "nynorsk", "no": "norwegian",
    "oc": "occitan", "pa": "punjabi", "pl": "polish", "ps": "pashto", "pt": "portuguese",
    "ro": "romanian", "ru": "russian", "sa": "sanskrit", "sd": "sindhi", "si": "sinhala",
    "sk": "slovak", "sl": "slovenian", "sn": "shona", "so": "somali", "sq": "albanian",
    "sr": "serbian", "su": "sundanese", "sv": "swedish", "sw": "swahili", "ta": "tamil",
    "te": "telugu", "tg": "tajik", "th": "thai", "tk": "turkmen", "tl": "tagalog",
    "tr": "turkish", "tt": "tatar", "uk": "ukrainian", "ur": "urdu", "uz": "uzbek",
    "vi": "vietnamese", "yi": "yiddish", "yo": "yoruba", "yue": "cantonese", "zh": "chinese",
}  # fmt: skip
OTHER_LANGUAGE_NAMES: dict[str, str] = {
    "burmese": "my", "castilian": "es", "farsi": "fa", "flemish": "nl", "haitian": "ht",
    "iw": "he", "jv": "jw", "letzeburgesch": "lb", "mandarin": "zh",
    "moldavian": "ro", "moldovan": "ro", "nb": "no", "panjabi": "pa", "pushto": "ps",
    "sinhalese": "si", "valencian": "ca",
}  # fmt: skip
_TAGS = (
    "afr:af amh:am ara:ar asm:as aze:az bak:ba bel:be bul:bg ben:bn bod:bo tib:bo bre:br bos:bs cat:ca ces:cs cze:cs "
    "cym:cy wel:cy dan:da deu:de ger:de ell:el gre:el eng:en spa:es est:et eus:eu baq:eu fas:fa per:fa fin:fi fao:fo "
    "fra:fr fre:fr glg:gl guj:gu hau:ha heb:he hin:hi hrv:hr hat:ht hun:hu hye:hy arm:hy ind:id isl:is ice:is ita:it "
    "jpn:ja jav:jw kat:ka geo:ka kaz:kk khm:km kan:kn kor:ko lat:la ltz:lb lin:ln lao:lo lit:lt lav:lv mlg:mg mri:mi "
    "mao:mi mkd:mk mac:mk mal:ml mon:mn mar:mr msa:ms may:ms mlt:mt mya:my bur:my nep:ne nld:nl dut:nl nno:nn nor:no "
    "nob:no oci:oc pan:pa pol:pl pus:ps por:pt ron:ro rum:ro rus:ru san:sa snd:sd sin:si slk:sk slo:sk slv:sl sna:sn "
    "som:so sqi:sq alb:sq srp:sr sun:su swe:sv swa:sw tam:ta tel:te tgk:tg tha:th tuk:tk tgl:tl fil:tl tur:tr tat:tt "
    "ukr:uk urd:ur uzb:uz vie:vi yid:yi yor:yo zho:zh chi:zh cmn:zh"
)
"""ISO 639-2, as files tag their tracks."""
_THREE_LETTERS = dict(pair.split(":") for pair in _TAGS.split())


def code_of_tag(tag: str) -> str | None:
    """Whisper's code for the language of a tag: `ger`, `deu`, `de`, `de-AT`; None for one that it does not know."""
    word = tag.strip().lower().replace("_", "-").partition("-")[0]
    return word if word in LANGUAGES else _THREE_LETTERS.get(word) or OTHER_LANGUAGE_NAMES.get(word)


def code_of(written: str) -> str | None:
    """Whisper's code for a language written as code or English name; None for `auto`. Unknown ones: ValueError."""
    word = written.strip().lower()
    if word in ("auto", "none", ""):
        return None
    codes = {name: code for code, name in LANGUAGES.items()} | OTHER_LANGUAGE_NAMES | {code: code for code in LANGUAGES}
    code = codes.get(word) or code_of_tag(word)
    if code is None:
        near = get_close_matches(word, codes, 1, 0.7)
        hint = f"Did you mean '{near[0]}'?" if near else "Give a code or an English name, as de or German."
        raise ValueError(f"'{written}' is no language Whisper knows. {hint}")
    return code
