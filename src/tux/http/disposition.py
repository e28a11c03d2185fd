"""Content-Disposition of what is to be saved and not shown (RFC 6266)."""

from __future__ import annotations

import re
from urllib.parse import quote

_ATTR_CHAR = "!#$&+-.^_`|~"
"""RFC 8187 section 3.2.1, beside letters and digits."""
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of writing: a name ends in the extension it seems to have."""
_NOT_PLAIN = re.compile(r'[^ -~]|["%\\]')
"""What old clients take for something else in a quoted string (RFC 6266 appendix D)."""


def attachment(name: bytes) -> str:
    """The value of the field for a file of this name: ASCII, whatever bytes it has. `filename*` says what `filename`
    cannot."""
    text = _UNSAFE.sub("_", name.decode("utf-8", "replace"))
    plain = _NOT_PLAIN.sub("_", text)
    value = f'attachment; filename="{plain}"'
    return value if plain == text else f"{value}; filename*=UTF-8''{quote(text, safe=_ATTR_CHAR)}"
