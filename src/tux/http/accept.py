"""Accept (RFC 9110 section 12.5.1), as far as a choice between HTML and JSON needs it."""

from __future__ import annotations


def prefers_json(value: str | None) -> bool:
    """Whether a client would rather have application/json than text/html: its weight is greater, or the same while JSON
    alone is named (as programs say it: "application/json, */*"). None and "": HTML."""
    if not value:
        return False
    json, html = _weight(value, "application/json"), _weight(value, "text/html")
    return json[1] > html[1] or (json[1] == html[1] > 0.0 and json[0] > html[0])


def _weight(value: str, wanted: str) -> tuple[int, float]:
    """How exactly the type is named (3: itself, 2: "application/*", 1: "*/*", 0: not at all), and its weight there: the
    most exact one counts. What cannot be read is skipped."""
    exact = {wanted: 3, wanted.partition("/")[0] + "/*": 2, "*/*": 1}
    best = (0, 0.0)
    for element in value.split(","):
        name, *parameters = element.split(";")
        rank = exact.get(name.strip(" \t").lower(), 0)
        if rank > best[0]:
            best = (rank, _quality(parameters))
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, equals, number = parameter.partition("=")
        if equals and name.strip(" \t").lower() == "q":
            try:
                return min(max(float(number), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
