"""Everything that can go wrong on the device, sorted by who acts on it.

AgentError
├── ConfigError        the operator can mend it; the agent does not start (exit 2)
├── AudioError         this file or stream is not sound that can be read
│   └── CaptureError   the microphone stopped; reopen it
├── ModelError         the model file, its manifest and this code disagree
│   └── ModelCondemnedError  it fails at work, and there is another to go on with
├── FieldError         a message or file has a field that is missing, wrong or too large
├── StorageError       the disk refused; go on from memory and say so
└── UplinkError        the base station did not take it; try later
    └── RefusedError   ...and signed that it never will; park it with the reason
"""


class AgentError(Exception):
    """Root of the tree; its text is one line that names the thing and what to do."""


class ConfigError(AgentError):
    """The configuration is wrong; the text names file, key, value and what was expected."""


class AudioError(AgentError):
    """A file or stream cannot be read as sound."""


class CaptureError(AudioError):
    """A live source stopped or could not be opened."""


class ModelError(AgentError):
    """The model cannot be used, or answers what it must not."""


class ModelCondemnedError(ModelError):
    """The model fails at work, and there is another one to go on with."""


class FieldError(AgentError):
    """One field of a JSON or YAML mapping is missing, unknown, of the wrong kind or out of bounds."""

    def __init__(self, key: str, problem: str) -> None:
        """Name the field by its dotted path, and say what is wrong with it."""
        super().__init__(f"{key}: {problem}")
        self.key = key
        self.problem = problem


class StorageError(AgentError):
    """The disk or the database on it refused a write or a read."""


class UplinkError(AgentError):
    """The station was not reached, or answered something that proves nothing."""


class RefusedError(UplinkError):
    """The station signed that it will never take this message."""
