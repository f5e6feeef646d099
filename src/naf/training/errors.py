"""What stops a training run."""


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says what to do."""


class Interrupted(Exception):  # noqa: N818 (no error)
    """A run that was stopped by Ctrl-C or SIGTERM; the message says from where it goes on."""
