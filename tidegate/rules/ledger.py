"""One ledger of GPUs: who holds them, who waits for them, and what each pool may book."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Self, assert_never

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator


class ClaimKind(StrEnum):
    """Why GPUs are spoken for, or about to be there."""

    IN_USE = "in-use"
    RESERVED = "reserved"
    LENT = "lent"
    ARRIVING = "arriving"
    SICK = "sick"


class ClaimState(StrEnum):
    """How far a claim has come."""

    WAITING = "waiting"
    GRANTED = "granted"
    SPENT = "spent"
    """A stage's reservation once the stage is exposed: its users are there now."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Claim(_Value):
    """One line of the ledger; `gpus` is what it takes, or brings where it is ARRIVING."""

    id: str
    kind: ClaimKind
    gpus: int = Field(ge=0)
    pool: str | None = None
    """The pool that holds it; for LENT, the pool that borrows."""
    lender: str | None = None
    """For LENT, the pool that does without."""
    state: ClaimState = ClaimState.GRANTED
    made_at: AwareDatetime
    lead_p50_s: float = 0.0
    lead_p90_s: float = 0.0
    """From granted until replicas serve."""
    expected_at: AwareDatetime | None = None
    expected_by: AwareDatetime | None = None
    """For ARRIVING: as likely as not by the one, nine times in ten by the other."""

    @model_validator(mode="after")
    def _says_whose_or_when(self) -> Self:
        match self.kind:
            case ClaimKind.IN_USE | ClaimKind.RESERVED | ClaimKind.LENT:
                # Without a pool nobody would hold them, and they could be granted again.
                if self.pool is None:
                    raise ValueError(f'claim "{self.id}": got no pool, expected one. Name it.')
                if (self.kind is ClaimKind.LENT) != (self.lender is not None):
                    raise ValueError(
                        f'claim "{self.id}": got the lender {self.lender}, expected one where GPUs '
                        "are lent, and else none. Name who does without."
                    )
            case ClaimKind.ARRIVING:
                if self.expected_at is None or self.expected_by is None:
                    message = f'claim "{self.id}": got no dates, expected both. Give them.'
                    raise ValueError(message)
            case ClaimKind.SICK:
                pass
            case never:
                assert_never(never)
        return self


class Ledger(_Value):
    """The GPUs of one type. `installed` is None until somebody has counted them."""

    installed: int | None = None
    claims: Mapping[str, Claim] = Field(default_factory=dict)
    ready: Mapping[str, int] = Field(default_factory=dict)
    """GPUs under ready replicas, by pool, as last observed."""

    def of(self, kind: ClaimKind) -> tuple[Claim, ...]:
        """Return the claims of one kind, in the order they were made."""
        return tuple(claim for claim in self.claims.values() if claim.kind is kind)

    def put(self, *claims: Claim) -> "Ledger":
        """Return the ledger with these claims added or replaced."""
        return self.model_copy(update={"claims": {**self.claims, **{c.id: c for c in claims}}})

    def drop(self, claim_ids: Iterable[str]) -> "Ledger":
        """Return the ledger without these claims; dropping one that is gone changes nothing."""
        gone = set(claim_ids)
        kept = {claim_id: c for claim_id, c in self.claims.items() if claim_id not in gone}
        return self.model_copy(update={"claims": kept})


def usable_gpus(ledger: Ledger) -> int | None:
    """GPUs that can serve: installed, less the sick ones; None where nobody has counted."""
    if ledger.installed is None:
        return None
    return max(0, ledger.installed - sum(claim.gpus for claim in ledger.of(ClaimKind.SICK)))


def measured_gpus(ledger: Ledger, pool: str) -> int | None:
    """GPUs that a pool's users need by measured demand; None where nobody has measured it."""
    measured = [c.gpus for c in ledger.of(ClaimKind.IN_USE) if c.pool == pool]
    return sum(measured) if measured else None


def in_use_gpus(ledger: Ledger, pool: str) -> int:
    """GPUs that the users inside a pool need: by measured demand, or as reserved for them."""
    return max(measured_gpus(ledger, pool) or 0, _reserved(ledger, pool, ClaimState.SPENT))


def granted_gpus(ledger: Ledger, pool: str) -> int:
    """GPUs set aside for a pool's stages that have not opened yet."""
    return _reserved(ledger, pool, ClaimState.GRANTED)


def borrowed_gpus(ledger: Ledger, pool: str) -> int:
    """GPUs that a pool has from others for a while."""
    return sum(c.gpus for c in ledger.of(ClaimKind.LENT) if c.pool == pool)


def held_gpus(ledger: Ledger, pool: str) -> int:
    """All that a pool holds: in use and set aside, less what it lent, and what it borrowed."""
    return floor_gpus(ledger, pool) + borrowed_gpus(ledger, pool)


def unclaimed_gpus(ledger: Ledger) -> int:
    """GPUs that nobody holds; never below 0, and 0 where nobody has counted them."""
    usable = usable_gpus(ledger)
    if usable is None:
        return 0
    return max(0, usable - sum(held_gpus(ledger, pool) for pool in pools(ledger)))


def pools(ledger: Ledger) -> tuple[str, ...]:
    """Name every pool that the ledger knows of."""
    named = {p for c in ledger.claims.values() for p in (c.pool, c.lender) if p is not None}
    return tuple(sorted(named | set(ledger.ready)))


def settle(ledger: Ledger) -> Ledger:
    """Grant waiting reservations, first come first served, as far as unclaimed GPUs reach.

    The first that does not fit stops the queue, so that a large claim is not starved by small
    ones behind it. Nothing is granted where nobody has counted the GPUs.
    """
    if usable_gpus(ledger) is None:
        return ledger
    for claim in waiting(ledger):
        if claim.gpus > unclaimed_gpus(ledger):
            break
        ledger = ledger.put(claim.model_copy(update={"state": ClaimState.GRANTED}))
    return ledger


def waiting(ledger: Ledger) -> tuple[Claim, ...]:
    """Return the reservations that wait, in the order they were made."""
    queue = (c for c in ledger.of(ClaimKind.RESERVED) if c.state is ClaimState.WAITING)
    return tuple(sorted(queue, key=lambda claim: (claim.made_at, claim.id)))


def is_backed(ledger: Ledger, claim: Claim) -> bool:
    """Say whether ready replicas cover a granted reservation on top of those inside.

    True when the pool's ready GPUs are at least what its users need plus every reservation
    granted to it up to and including this one.
    """
    is_granted = claim.kind is ClaimKind.RESERVED and claim.state is ClaimState.GRANTED
    if not is_granted or claim.pool is None:
        return False
    before = sum(
        c.gpus
        for c in ledger.of(ClaimKind.RESERVED)
        if c.pool == claim.pool
        and c.state is ClaimState.GRANTED
        and (c.made_at, c.id) <= (claim.made_at, claim.id)
    )
    return ledger.ready.get(claim.pool, 0) >= in_use_gpus(ledger, claim.pool) + before


def floor_gpus(ledger: Ledger, pool: str) -> int:
    """GPUs to keep ready for a pool: what its users need, and what its stages were granted.

    As many as `is_backed` asks for: were it less, a stage would wait for ever beside users who
    need more than was reserved for them. Where the pool has lent some, it does without these.
    """
    lent = sum(c.gpus for c in ledger.of(ClaimKind.LENT) if c.lender == pool)
    return max(0, in_use_gpus(ledger, pool) + granted_gpus(ledger, pool) - lent)


def lendable_gpus(ledger: Ledger, pool: str, keep: int) -> int:
    """GPUs that a pool can lend and still keep so many; none where nobody has counted."""
    if usable_gpus(ledger) is None:
        return 0
    return max(0, floor_gpus(ledger, pool) - keep)


def ceiling_gpus(ledger: Ledger, pool: str) -> int | None:
    """GPUs that a pool may book: the usable ones that no other pool holds; None if unknown."""
    usable = usable_gpus(ledger)
    if usable is None:
        return None
    others = sum(held_gpus(ledger, other) for other in pools(ledger) if other != pool)
    return max(0, usable - others)


def _reserved(ledger: Ledger, pool: str, state: ClaimState) -> int:
    return sum(c.gpus for c in ledger.of(ClaimKind.RESERVED) if c.pool == pool and c.state is state)
