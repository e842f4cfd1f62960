"""What this room raises when its input is at fault."""


class DataError(ValueError):
    """A data file or data set cannot be used; the message names the file, the row and the field."""


class FormulaError(ValueError):
    """A chemical formula cannot be used; the message is one line that a person can act on."""
