"""The exceptions of arm_sr.

    ArmSRError
    +-- UsageError      a wrong option or argument; the command exits with status 2
    |   +-- BudgetError     a budget that cannot be read or is not positive
    |   +-- ModelError      an unknown model, branch or scale
    +-- ImageError      a picture that cannot be read or written; the command exits with status 1
    +-- ArtefactError   a card, table, recipe, plan or weights file that is damaged or does not belong
    +-- BackendError    an engine that is not installed or failed

The message of each is one sentence that names the file or option, says what is wrong and what to do.
"""


class ArmSRError(Exception):
    """Base of every error that arm_sr raises on purpose."""


class UsageError(ArmSRError, ValueError):
    """A wrong option or argument."""


class BudgetError(UsageError):
    """A budget that cannot be read or is not positive."""


class ModelError(UsageError):
    """An unknown model, branch or scale."""


class ImageError(ArmSRError, OSError):
    """A picture that cannot be read or written."""


class ArtefactError(ArmSRError):
    """A card, table, recipe, plan or weights file that is damaged or does not belong."""


class BackendError(ArmSRError):
    """An engine that is not installed or failed."""
