"""What Sallyport's relay is to reach, and whether it does."""

from dataclasses import dataclass

from .field import UPSTREAMS

IDLE_KIB = {"plain": 16, "tls": 48}


@dataclass
class Verdict:
    what: str
    spread: tuple  # (median, least, greatest), or None: not measured
    limit: float
    at_least: bool = False  # the limit is a floor

    @property
    def met(self):
        if self.spread is None:
            return None
        return self.spread[0] >= self.limit if self.at_least else self.spread[0] <= self.limit


def verdicts(results, held_sessions):
    """All targets, for each kind of upstream and number of loops."""
    found = []

    def add(what, limit, measured, at_least=False):
        """`measured` gives the spread for an upstream and a number of loops."""
        for upstream in UPSTREAMS:
            for loops in (1, 2):
                words = f"{what}, {upstream}, {loops} loop{'s' if loops > 1 else ''}"
                bound = limit[upstream] if isinstance(limit, dict) else limit
                found.append(Verdict(words, measured(upstream, loops), bound, at_least))

    def over_haproxy(load, field):
        return lambda upstream, loops: results.ratio(
            load, f"sallyport-{loops}-{upstream}", load, f"haproxy-{loops}-{upstream}", field)

    def over_alone(load):
        def measured(upstream, loops):
            name = f"sallyport-{loops}-{upstream}"
            return results.ratio(load, name, "quiet-alone", name, "p99")
        return measured

    for sessions in (1, 8):
        ending = f"{sessions} session{'s' if sessions > 1 else ''}"
        down, up = f"down-{sessions}", f"up-{sessions}"
        add(f"down MiB/s over HAProxy's, {ending}", 1, over_haproxy(down, "rate"), at_least=True)
        add(f"down CPU/GiB over HAProxy's, {ending}", 1, over_haproxy(down, "cpu"))
        add(f"up CPU/GiB over HAProxy's, {ending}", 1.2, over_haproxy(up, "cpu"))
    add("round trip p50 over HAProxy's", 1.2, over_haproxy("echo", "p50"))
    add("quiet p99 beside 8 busy over alone", 2, over_alone("quiet-beside-8"))
    add("quiet p99 beside 8 flat out over alone", 2, over_alone("quiet-flat-out"))
    add("KiB per idle session", IDLE_KIB, lambda upstream, loops: results.spread(
        "idle", f"sallyport-{loops}-{upstream}", "memory"))
    for upstream in UPSTREAMS:
        found.append(Verdict(
            f"idle sessions held, {upstream}, 2 loops",
            results.spread("held", f"sallyport-2-{upstream}", "alive"), held_sessions, True))
    return found
