"""Tables for the reader, JSON for the next program."""

import json
import os

# Title, load, field, digits after the point.
THROUGHPUT = (
    ("down MiB/s", "down", "rate", 0), ("down CPU s/GiB", "down", "cpu", 2),
    ("up MiB/s", "up", "rate", 0), ("up CPU s/GiB", "up", "cpu", 2))
ROUND_TRIPS = (
    ("p50 us", "echo", "p50", 0), ("p99 us", "echo", "p99", 0),
    ("quiet p99 alone", "quiet-alone", "p99", 0), ("beside 8 busy", "quiet-beside-8", "p99", 0),
    ("beside 8 flat out", "quiet-flat-out", "p99", 0))
MEMORY = (
    ("idle KiB", "idle", "memory", 1), ("idle KiB after use", "idle-used", "memory", 1),
    ("KiB of all held", "held", "memory", 1), ("all opened in s", "held", "open_seconds", 1))


def cell(spread, digits):
    if spread is None:
        return "–"
    middle, least, greatest = (f"{value:.{digits}f}" for value in spread)
    return middle if least == greatest else f"{middle} ({least}–{greatest})"


def table(title, rows, headings):
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    lines = [title]
    for row in [headings, *rows]:
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        lines.append("  " + "  ".join(cells))
    return "\n".join(lines) + "\n"


def _section(title, results, contenders, columns, suffix=""):
    rows = []
    for contender in contenders:
        cells = [
            cell(results.spread(load + suffix, contender.name, field), digits)
            for _, load, field, digits in columns]
        if any(cell != "–" for cell in cells):
            label = contender.proxy + (f", {contender.threads}" if contender.threads else "")
            rows.append([label, *cells])
    return table(title, rows, ["", *(column[0] for column in columns)]) if rows else ""


def tables(results, contenders):
    """All measurements: medians, with the least and the greatest in parentheses."""
    text = []
    for upstream in dict.fromkeys(c.upstream for c in contenders):
        some = [c for c in contenders if c.upstream == upstream]
        kind = "plain upstream" if upstream == "plain" else "TLS upstream"
        for sessions in (1, 8):
            ending = f"{sessions} session{'s' if sessions > 1 else ''}"
            text.append(_section(
                f"Throughput, {kind}, {ending}", results, some, THROUGHPUT, f"-{sessions}"))
        text.append(_section(f"Round trip of 64 bytes, {kind}", results, some, ROUND_TRIPS))
        text.append(_section(f"Memory per idle session, {kind}", results, some, MEMORY))
    return "\n".join(part for part in text if part)


def targets(verdicts):
    words = {True: "met", False: "NOT MET", None: "not measured"}
    rows = []
    for verdict in verdicts:
        bound = ("≥ " if verdict.at_least else "≤ ") + f"{verdict.limit:g}"
        digits = 0 if verdict.limit >= 1000 else 2
        rows.append([verdict.what, cell(verdict.spread, digits), bound, words[verdict.met]])
    return table("Targets", rows, ["", "measured", "target", ""])


def failures(results):
    lines = [f"  {load}, {name}: {reason}" for load, name, reason in results.failures()]
    return "Failed measurements\n" + "\n".join(lines) + "\n" if lines else ""


def write_json(path, results, verdicts, facts):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    document = {
        **facts, "measurements": results.as_json(),
        "targets": [
            {"what": v.what, "measured": v.spread, "limit": v.limit,
             "bound": "at least" if v.at_least else "at most", "met": v.met} for v in verdicts]}
    with open(path, "w") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
