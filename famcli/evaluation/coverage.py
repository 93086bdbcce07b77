"""Images of a split that cannot be scored: an error, or a result that says how many are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from famcli_models.errors import DataError

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Coverage:
    """What to do with them.

    Attributes:
        allow_missing: Leave them out.
        say: Told that they were.
    """

    allow_missing: bool
    say: Callable[[str], None]

    def check(self, names: Sequence[str], total: int, what: str) -> None:
        """Refuse images that are missing, or say that they are left out.

        Args:
            names: Of the images.
            total: Images of the split.
            what: What is wrong with them, after "3 of 5 images".

        Raises:
            DataError: Some are missing and may not be, or none is left.
        """
        if names and not self.allow_missing:
            shown = ", ".join(f"'{name}'" for name in names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
            msg = (
                f"{len(names):,} of {total:,} images {what}: {shown}; --allow-missing scores the others and marks the "
                "result as partial"
            )
            raise DataError(msg)
        self.note(names, total, what)

    def note(self, names: Sequence[str], total: int, what: str) -> None:
        """Say that images were left out.

        Raises:
            DataError: None is left.
        """
        if len(names) == total:
            msg = f"all {total:,} images {what}, so there is nothing to score"
            raise DataError(msg)
        if names:
            self.say(f"partial: {len(names):,} of {total:,} images {what} and were left out")
