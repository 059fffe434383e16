"""What can stop a training run, each with a message that says what to do."""


class TrainingError(RuntimeError):
    """A run cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be written, or cannot be used."""


class PushError(TrainingError):
    """The trained model is saved, but could not be pushed to the Hub."""
