"""A budget: the ledger of one GPU type, and what is asked of it."""

from collections.abc import Mapping

from pydantic import AwareDatetime, Field

from tidegate.catalogue import BudgetSpec
from tidegate.messages.common import Message, OutboxState, State
from tidegate.messages.supply import Expected
from tidegate.rules.ledger import ClaimState, Ledger
from tidegate.snapshot import DateRange


def budget_id(gpu_type: str) -> str:
    """Return the workflow id of a budget."""
    return f"budget/{gpu_type}"


class Reservation(Message):
    """Ask for GPUs; the owner is signalled whenever the status changes."""

    claim_id: str
    owner: str
    """The workflow id to signal."""
    pool: str
    gpus: int = Field(ge=1)
    lead_p50_s: float
    lead_p90_s: float
    priority: int = 0
    """A higher one is served before a lower one."""
    lasts_s: float | None = None
    """How long it stays granted without being spent; None for as long as it takes."""


class Loan(Message):
    """GPUs of one pool that another is to have for a while."""

    loan_id: str
    """Its claim's id, by which it is given back."""
    gpu_type: str
    lender: str
    borrower: str
    keep: int = 0
    """GPUs that the lender does not lend."""
    until: AwareDatetime | None = None
    """When it goes back by itself, should nobody give it back; None for never."""


class GiveBackOrder(Message):
    """A pool gives up all that its stages had reserved."""

    order_id: str
    pool: str


class ClaimStatus(Message):
    """Where a reservation stands."""

    claim_id: str
    state: ClaimState
    backed: bool
    gpus: int
    installed_gpus: int | None
    unclaimed_gpus: int
    in_use_gpus: int
    """What the users inside the pool need now."""
    ready_gpus: int
    forecast: DateRange | None
    """When it should be backed; None where that is unknown."""


class Observation(Message):
    """What the capacity controller saw, coalesced; absent pools keep what was seen before."""

    installed_gpus: int
    sick_gpus: int = 0
    ready_gpus: Mapping[str, int]
    needed_gpus: Mapping[str, int]
    """By measured demand, the refused included."""


class BudgetState(State):
    """All that a budget remembers."""

    gpu_type: str
    spec: BudgetSpec = Field(default_factory=BudgetSpec)
    expected: dict[str, Expected] = Field(default_factory=dict)
    """What is on its way, by the name of its supply."""
    come: dict[str, int] = Field(default_factory=dict)
    """GPUs that came for each of them, as its owner was told."""
    ledger: Ledger = Field(default_factory=Ledger)
    given_back: dict[str, int] = Field(default_factory=dict)
    """GPUs that pools gave up, by the id of the order."""
    owners: dict[str, str] = Field(default_factory=dict)
    """Workflow to signal, by claim id."""
    expired: dict[str, ClaimStatus] = Field(default_factory=dict)
    """Claims whose time was up, until their owners have heard."""
    arrived_gpus: int = 0
    """GPUs that came since the first count, less those that went; taken off the arrivals."""
    outbox: OutboxState = Field(default_factory=OutboxState)
