"""The exceptions of Nightshift.

NightshiftError
├── UserError           the user's mistake: message without traceback, exit code 2
│   ├── SettingsError   a recipe or `--set` value is wrong
│   ├── DataError       a file or a row of the user's is wrong
│   ├── ModelError      a model cannot be found or loaded
│   ├── StorageError    the store cannot be read or written
│   ├── FingerprintError  a run exists already with other settings
│   └── LeaseError      another driver owns the run
└── RunError            the run went wrong: exit code 1
    ├── LeaseLost       another driver took the run over while this one was working
    ├── NothingLearned  a student has nothing to say that a next round could be planned from
    ├── TooManyFailures items or replicas fail faster than is worth a night
    └── BooksError      the counts of a finished run do not add up
"""


class NightshiftError(Exception):
    """Root of every error raised on purpose."""

    exit_code = 1


class UserError(NightshiftError):
    """A mistake the user can mend; shown without a traceback."""

    exit_code = 2


class SettingsError(UserError):
    """A recipe key or value, or a `--set`, is wrong."""


class DataError(UserError):
    """A file or a row of the user's data is wrong."""


class ModelError(UserError):
    """A model cannot be found or loaded."""


class StorageError(UserError):
    """A place in the store cannot be read or written."""


class FingerprintError(UserError):
    """A run folder holds rows made with other settings."""


class LeaseError(UserError):
    """Another living driver owns the run folder."""


class RunError(NightshiftError):
    """A run went wrong for a reason that is not in its recipe."""


class LeaseLost(RunError):
    """Another driver took the run over."""


class NothingLearned(RunError):
    """Nothing can be learned of the rows so far: a run in rounds ends with what it has."""


class TooManyFailures(RunError):
    """Too many items or replicas failed; the run was stopped rather than burn the night."""


class BooksError(RunError):
    """The counts of a finished run do not add up."""
