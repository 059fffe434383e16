"""What goes wrong with an analysis."""


class NotInModelError(ValueError):
    """The model has no such part (no position table, no decoder, …); the message names the field or class."""
