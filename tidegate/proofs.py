"""Proofs of who asks: signed for one update of one workflow, and good for a few minutes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Self

from tidegate.errors import Refused
from tidegate.signing import Keyring

HEADER: Final = "tidegate-proof"
"""The header of an update that carries its proof."""
OPERATOR: Final = "operator"
"""Who an update without a proof is by, whatever name it gives."""
GOOD_FOR_S: Final = 300.0
_KIND: Final = "update"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a proof is good for: this update, named and numbered, by this person in this role."""

    workflow: str
    update: str
    update_id: str
    by: str
    """Empty where the loops and workflows ask one another."""
    role: str

    @classmethod
    def of(cls, workflow: str, update: str, update_id: str, args: Sequence[object]) -> Self:
        """Return what an update with these arguments asks; its message says who, in which role."""
        message = args[0] if args else None
        by, role = (str(getattr(message, name, "")) for name in ("by", "role"))
        return cls(workflow, update, update_id, by, role)


def prove(keys: Keyring, asked: Asked, now: float) -> str:
    """Return the proof of who asks, good from `now` on (seconds since the epoch)."""
    return keys.sign(_KIND, {**asdict(asked), "iat": int(now)})


def find_flaw(keys: Keyring | None, token: str, asked: Asked, now: float) -> str | None:
    """Say why a proof is not to be believed for what is asked; None where it is."""
    if keys is None:
        return "there are no keys here to check it with"
    try:
        claims = keys.verify(_KIND, token)
    except Refused as refusal:
        return str(refusal)
    proven = {name: claims.get(name) for name in Asked.__slots__}
    for name, value in asdict(asked).items():
        if proven[name] != value:
            return f'it was signed for the {name} "{proven[name]}"'
    issued_at = claims.get("iat")
    # Either way: a clock that is far ahead would make proofs that are good for ever.
    if not isinstance(issued_at, int) or not abs(now - issued_at) <= GOOD_FOR_S:
        return f"it was signed more than {GOOD_FOR_S:g} s ago, or by a clock that is as far off"
    return None
