"""A number of seconds on a command line."""

import math

import click


class Seconds(click.FloatRange):
    """A range that `nan` is not in, though no comparison of click's keeps it out."""

    name = "seconds"

    def convert(
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number. Fails with a sentence if it is none, or out of range."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number of seconds: expected one such as 30.", param, ctx)
        return number
