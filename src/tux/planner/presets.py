"""Fields that many sites want, under one name each."""

from __future__ import annotations

import re

from tux.planner.rules import HeaderRule

IMMUTABLE = "public, max-age=31536000, immutable"
"""Cache-Control of files whose name changes with their content (RFC 8246): a year, the longest that caches care for."""

HASHED = re.compile(rb"(?:.*/)?[^/]*[-._](?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{8,64}\.[^/]+", re.DOTALL)
"""Paths of such files: eight or more hexadecimal digits between two separators, as webpack, Django, Rails and Hugo
write them. There must be a letter and a digit among them: neither a date (report-20261125.pdf) nor a word is a hash."""

CORS = (HeaderRule("*", "Access-Control-Allow-Origin", "*"),)
"""Scripts of other sites may read the files, without credentials (Fetch standard, section 3.3)."""
CORS_PREFLIGHT = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "GET, HEAD"),
    ("Access-Control-Allow-Headers", "*"),
    ("Access-Control-Max-Age", "86400"),
)
"""... and ask with any field but credentials; for a day."""

SECURITY = (
    HeaderRule("*", "Content-Security-Policy", "frame-ancestors 'self'"),
    HeaderRule("*", "Referrer-Policy", "strict-origin-when-cross-origin"),
    HeaderRule("*", "X-Frame-Options", "SAMEORIGIN"),
)
"""What hardly a site is broken by: no other site shows it in a frame, none learns which page a link was on. With
X-Content-Type-Options, which is always sent."""
