"""What a person did wrong in a config, as opposed to a bug."""


class ConfigError(ValueError):
    """A setting that cannot be; the message names it."""
