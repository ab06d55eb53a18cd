"""What can go wrong before anything is on a device."""


class DeployError(Exception):
    """A command of `python -m deploy` cannot go on; the text names the thing and what to do."""

    def __init__(self, text: str, code: int = 1) -> None:
        """Make it.

        Args:
            text: for the person at the keyboard.
            code: 1 it ran and failed, 2 wrong use.
        """
        super().__init__(text)
        self.code = code
