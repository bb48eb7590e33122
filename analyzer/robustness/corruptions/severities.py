"""Severities: 1 (mild) to 5 (strong), and what each of them means for one corruption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from analyzer.errors import ConfigError

Setting = TypeVar("Setting")

SEVERITIES = (1, 2, 3, 4, 5)
"""As in ImageNet-C (Hendrycks & Dietterich, 2019)."""


@dataclass(frozen=True)
class Levels(Generic[Setting]):
    """The settings of one corruption at its five severities.

    Attributes:
        settings: One per severity, mild to strong.
        unit: What the settings are measured in.
    """

    settings: tuple[Setting, Setting, Setting, Setting, Setting]
    unit: str

    def at(self, severity: int) -> Setting:
        """The setting of a severity.

        Args:
            severity: 1 to 5.

        Raises:
            ConfigError: If it is none of these; 0 would be the clean data, which are no corruption.
        """
        if isinstance(severity, bool) or severity not in SEVERITIES:
            raise ConfigError(
                f"severity={severity!r}: expected a whole number from 1 (mild) to 5 (strong). "
                "For the clean data, take them as they are."
            )
        return self.settings[int(severity) - 1]
