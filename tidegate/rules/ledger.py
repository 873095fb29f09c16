"""One ledger of GPUs: who holds them, who waits for them, and what each pool may book."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
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
    EXPIRED = "expired"
    """Told to its owner, never held: it was granted, and not spent in time."""


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
    priority: int = 0
    """A higher one is served before a lower one, and takes what is granted and not yet spent."""
    lasts_s: float | None = None
    """For RESERVED: how long it may stay granted and unspent; None for as long as it takes."""
    expires_at: AwareDatetime | None = None
    """When it goes by itself; None while it waits, once it is spent, and where nothing says so."""
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


@dataclass(slots=True)
class Standing:
    """What one pool has in the ledger, in GPUs."""

    measured: int | None = None
    """What its users need by measured demand; None where nobody has measured it."""
    spent: int = 0
    granted: int = 0
    lent: int = 0
    borrowed: int = 0
    priority: int = 0
    """The highest of what it was granted and has spent."""

    @property
    def in_use(self) -> int:
        """What its users need, by measured demand or as reserved for them."""
        return max(self.measured or 0, self.spent)

    @property
    def floor(self) -> int:
        """What to keep ready: in use and set aside, less what it lent."""
        return max(0, self.in_use + self.granted - self.lent)

    @property
    def held(self) -> int:
        """All that nobody else may have."""
        return self.floor + self.borrowed


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a pool is to keep ready, and what it may book: None where nobody has counted."""

    floor_gpus: int
    ceiling_gpus: int | None


@dataclass(frozen=True, slots=True)
class Balance:
    """Where every installed GPU is; `over_claimed` is what is held and is not there.

    sick + in_use + reserved + lent + unclaimed - over_claimed = installed
    """

    installed: int
    sick: int
    in_use: int
    reserved: int
    lent: int
    unclaimed: int
    over_claimed: int


def standings(ledger: Ledger) -> dict[str, Standing]:
    """Return how each pool stands that the ledger knows of, in one pass over the claims."""
    found = {pool: Standing() for pool in sorted(ledger.ready)}
    for claim in ledger.claims.values():
        if claim.pool is not None:
            _add(found.setdefault(claim.pool, Standing()), claim)
        if claim.lender is not None:
            found.setdefault(claim.lender, Standing()).lent += claim.gpus
    return found


def _add(pool: Standing, claim: Claim) -> None:
    match claim.kind, claim.state:
        case ClaimKind.IN_USE, _:
            pool.measured = (pool.measured or 0) + claim.gpus
        case ClaimKind.LENT, _:
            pool.borrowed += claim.gpus
        case ClaimKind.RESERVED, ClaimState.SPENT:
            pool.spent += claim.gpus
            pool.priority = max(pool.priority, claim.priority)
        case ClaimKind.RESERVED, ClaimState.GRANTED:
            pool.granted += claim.gpus
            pool.priority = max(pool.priority, claim.priority)
        case _:
            pass


def usable_gpus(ledger: Ledger) -> int | None:
    """GPUs that can serve: installed, less the sick ones; None where nobody has counted."""
    if ledger.installed is None:
        return None
    return max(0, ledger.installed - sum(claim.gpus for claim in ledger.of(ClaimKind.SICK)))


def measured_gpus(ledger: Ledger, pool: str) -> int | None:
    """GPUs that a pool's users need by measured demand; None where nobody has measured it."""
    return _standing(ledger, pool).measured


def in_use_gpus(ledger: Ledger, pool: str) -> int:
    """GPUs that the users inside a pool need: by measured demand, or as reserved for them."""
    return _standing(ledger, pool).in_use


def granted_gpus(ledger: Ledger, pool: str) -> int:
    """GPUs set aside for a pool's stages that have not opened yet."""
    return _standing(ledger, pool).granted


def borrowed_gpus(ledger: Ledger, pool: str) -> int:
    """GPUs that a pool has from others for a while."""
    return _standing(ledger, pool).borrowed


def floor_gpus(ledger: Ledger, pool: str) -> int:
    """GPUs to keep ready for a pool: what its users need, and what its stages were granted.

    As many as `is_backed` asks for: were it less, a stage would wait for ever beside users who
    need more than was reserved for them. Where the pool has lent some, it does without these.
    """
    return _standing(ledger, pool).floor


def held_gpus(ledger: Ledger, pool: str) -> int:
    """All that a pool holds: in use and set aside, less what it lent, and what it borrowed."""
    return _standing(ledger, pool).held


def held_in_all(ledger: Ledger) -> int:
    """GPUs that the pools hold together; more than are usable where the ledger is over-claimed."""
    return sum(pool.held for pool in standings(ledger).values())


def unclaimed_gpus(ledger: Ledger) -> int:
    """GPUs that nobody holds; never below 0, and 0 where nobody has counted them."""
    usable = usable_gpus(ledger)
    return 0 if usable is None else max(0, usable - held_in_all(ledger))


def balance(ledger: Ledger) -> Balance | None:
    """Say where every installed GPU is; None where nobody has counted them."""
    usable = usable_gpus(ledger)
    if ledger.installed is None or usable is None:
        return None
    each = standings(ledger).values()
    # A lender does without what it set aside before it does without what its users need.
    in_use = sum(min(pool.in_use, pool.floor) for pool in each)
    held = sum(pool.held for pool in each)
    return Balance(
        installed=ledger.installed,
        sick=ledger.installed - usable,
        in_use=in_use,
        reserved=sum(pool.floor for pool in each) - in_use,
        lent=sum(pool.borrowed for pool in each),
        unclaimed=max(0, usable - held),
        over_claimed=max(0, held - usable),
    )


def pools(ledger: Ledger) -> tuple[str, ...]:
    """Name every pool that the ledger knows of."""
    return tuple(sorted(standings(ledger)))


def waiting(ledger: Ledger) -> tuple[Claim, ...]:
    """Return the reservations that wait, in the order in which they are served."""
    queue = (c for c in ledger.of(ClaimKind.RESERVED) if c.state is ClaimState.WAITING)
    return tuple(sorted(queue, key=turn))


def turn(claim: Claim) -> tuple[int, datetime, str]:
    """Return what reservations are ordered by: a higher priority first, then who came first."""
    return (-claim.priority, claim.made_at, claim.id)


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
        if c.pool == claim.pool and c.state is ClaimState.GRANTED and turn(c) <= turn(claim)
    )
    return ledger.ready.get(claim.pool, 0) >= in_use_gpus(ledger, claim.pool) + before


def lendable_gpus(ledger: Ledger, pool: str, keep: int) -> int:
    """GPUs that a pool can lend and still keep so many; none where nobody has counted."""
    if usable_gpus(ledger) is None:
        return 0
    return max(0, floor_gpus(ledger, pool) - keep)


def ceiling_gpus(ledger: Ledger, pool: str) -> int | None:
    """GPUs that a pool may book: the usable ones that no other is entitled to; None if unknown."""
    return bounds(ledger, (pool,))[pool].ceiling_gpus


def bounds(ledger: Ledger, pools: Iterable[str]) -> dict[str, Bounds]:
    """Return what each of these pools is to keep ready and may book, in one pass for all."""
    usable, stand, entitled = usable_gpus(ledger), standings(ledger), entitlements(ledger)
    left = 0 if usable is None else usable - sum(entitled.values())
    return {
        pool: Bounds(
            floor_gpus=stand.get(pool, Standing()).floor,
            ceiling_gpus=None if usable is None else left + entitled.get(pool, 0),
        )
        for pool in pools
    }


def entitlements(ledger: Ledger) -> dict[str, int]:
    """Return the GPUs that each pool is entitled to: what it holds, as far as there are so many.

    Where the ledger is over-claimed, what is lent comes first, then the pools of the highest
    priority; pools of the same one get the same, up to what they hold. Together never more than
    are usable: no GPU is promised twice, and none stands idle while a pool lacks it.
    """
    left = usable_gpus(ledger) or 0
    pools = standings(ledger)
    entitled = _level({name: pool.borrowed for name, pool in pools.items()}, left)
    left -= sum(entitled.values())
    for priority in sorted({pool.priority for pool in pools.values()}, reverse=True):
        wanted = {n: pool.floor for n, pool in pools.items() if pool.priority == priority}
        for name, gpus in _level(wanted, left).items():
            entitled[name] += gpus
            left -= gpus
    return entitled


def _level(wanted: Mapping[str, int], gpus: int) -> dict[str, int]:
    """Share GPUs so that nobody has more than another who still lacks some, but for a rest of 1."""
    given: dict[str, int] = {}
    for place, (name, wants) in enumerate(sorted(wanted.items(), key=lambda w: (w[1], w[0]))):
        given[name] = min(wants, gpus // (len(wanted) - place))
        gpus -= given[name]
    return given


def _standing(ledger: Ledger, pool: str) -> Standing:
    return standings(ledger).get(pool, Standing())
