"""What can go wrong on the workstation, beside the agent's own tree (agent/errors.py).

AgentError
├── DataError      the recordings cannot serve; the text says which and what to do (exit 2)
└── ExportError    the model was made and is not good enough to be shipped (exit 1)
"""

from agent.errors import AgentError


class DataError(AgentError):
    """The recordings on disk are missing, broken or too few."""


class ExportError(AgentError):
    """The exported model disagrees with the trained one, or is too large."""
