"""The samples of a run, and what is made of them."""

from statistics import median


class Results:
    """Samples by (load, contender's name), one a repetition; a failed one holds its reason."""

    def __init__(self):
        self.samples = {}

    def add(self, load, contender, sample):
        self.samples.setdefault((load, contender.name), []).append(sample)

    def add_failure(self, load, contender, reason):
        self.add(load, contender, {"failure": reason})

    def series(self, load, name, field):
        """A field's value in each repetition; None where that one failed."""
        return [sample.get(field) for sample in self.samples.get((load, name), [])]

    def spread(self, load, name, field):
        """(median, least, greatest), or None without a good sample."""
        return spread_of(self.series(load, name, field))

    def ratio(self, load, name, other_load, other_name, field):
        """The spread of one measurement's values over another's, paired by repetition."""
        pairs = zip(
            self.series(load, name, field), self.series(other_load, other_name, field))
        return spread_of([a / b for a, b in pairs if a is not None and b])

    def failures(self):
        for (load, name), samples in self.samples.items():
            for sample in samples:
                if "failure" in sample:
                    yield load, name, sample["failure"]

    def as_json(self):
        return [
            {"load": load, "contender": name, "samples": samples}
            for (load, name), samples in self.samples.items()]


def spread_of(values):
    good = [value for value in values if value is not None]
    return (median(good), min(good), max(good)) if good else None
