"""What must not leave a device with a text: keys, passwords, the names of networks, and where it hangs."""

import re

_GONE = "[redacted]"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b[0-9a-fA-F]{64}\b"), _GONE),  # a device's key is written so
    (re.compile(r"\b[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])"), _GONE),  # 32 bytes in base64
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), _GONE),
    (re.compile(r"(?<=://)[^/@\s\"']+(?=@)"), _GONE),  # user:password@ of an address
    (re.compile(r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b"), _GONE),  # a network card
)
_NAMED = re.compile(
    r"""(?ix) (?P<name> (?<!\w) ["']? [\w-]*
        (?: token | passw(?:or)?d | passphrase | secret | psk | api[_-]?key | authorization | credentials? | signature
          | e?ssid | wi-?fi[_ -]?(?:name|network) )
        ["']? \s* [:=] \s* )
    (?P<value> "(?:[^"\\\n]|\\.)*" | '[^'\n]*' | [^\s,}"'] [^,}\n]* )"""
)
_POSITION = re.compile(
    r"""(?ix) (?P<name> (?<!\w) ["']? (?: lat(?:itude)? | lon(?:gitude)? | lng ) ["']? \s* [:=] \s* )
    -? [\d.]+ (?: e-?\d+ )?"""
)
_PLACE = re.compile(r"-?\d{1,3}\.\d{3,}\s*°?\s*[NS]?\s*,\s*-?\d{1,3}\.\d{3,}(?:\s*°?\s*[EW])?")


def redact(text: str, *, keep_positions: bool = False) -> str:
    """Return a text without what must not leave the device; what is left stays readable.

    Args:
        text: a log, a configuration, lines of JSON.
        keep_positions: leave coordinates in.
    """
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    text = _NAMED.sub(_without_value, text)
    if not keep_positions:
        text = _POSITION.sub(lambda match: f'{match["name"]}"{_GONE}"', text)
        text = _PLACE.sub(_GONE, text)
    return text


def _without_value(match: re.Match[str]) -> str:
    quote = match["value"][0] if match["value"][0] in "\"'" else ""
    return f"{match['name']}{quote}{_GONE}{quote}"
