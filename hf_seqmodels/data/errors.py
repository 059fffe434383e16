"""What goes wrong with a corpus."""


class CorpusError(ValueError):
    """A corpus that cannot be read, or has nothing in it; the message names the file and, where known, the line."""
