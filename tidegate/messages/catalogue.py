"""The catalogue: tiers, models, pools and budgets, and the names of features and rollouts."""

from collections.abc import Mapping

from pydantic import Field

from tidegate.catalogue import BudgetSpec, FeatureSpec, ModelSpec, PoolSpec, TierSpec
from tidegate.manifests import Manifests
from tidegate.messages.budget import budget_id
from tidegate.messages.common import Message, OutboxState, State
from tidegate.messages.feature import feature_id
from tidegate.messages.model import model_id
from tidegate.plans import CodeRedSpec, PreviewSpec, RolloutSpec, SupplySpec
from tidegate.retiring import RetirementSpec

CATALOGUE_ID = "catalogue"


class CatalogueState(State):
    """Everything that was declared, in its latest form."""

    version: int = 0
    declared: Manifests = Field(default_factory=Manifests)
    holds: list[str] = Field(default_factory=list)
    """Workflow ids of the holds and code reds that stand: what is declared may come under them."""
    outbox: OutboxState = Field(default_factory=OutboxState)

    def workflow_ids(self) -> list[str]:
        """Name the workflows of all that is declared, this one first."""
        declared = self.declared
        ids = [CATALOGUE_ID, *map(feature_id, declared.features), *map(model_id, declared.models)]
        ids += [*map(budget_id, declared.budgets), *self.holds]
        ids += [f"{kind}/{name}" for kind, name in self.declared.plans()]
        return list(dict.fromkeys(ids))


class HoldNote(Message):
    """That a hold or a code red stands, or stands no more."""

    hold_id: str
    stands: bool


class Declaration(Message):
    """What `apply` declares; the specs are checked before they are sent."""

    by: str
    tiers: Mapping[str, TierSpec] = Field(default_factory=dict)
    models: Mapping[str, ModelSpec] = Field(default_factory=dict)
    budgets: Mapping[str, BudgetSpec] = Field(default_factory=dict)
    pools: Mapping[str, PoolSpec] = Field(default_factory=dict)
    features: Mapping[str, FeatureSpec] = Field(default_factory=dict)
    supplies: Mapping[str, SupplySpec] = Field(default_factory=dict)
    rollouts: Mapping[str, RolloutSpec] = Field(default_factory=dict)
    code_reds: Mapping[str, CodeRedSpec] = Field(default_factory=dict)
    retirements: Mapping[str, RetirementSpec] = Field(default_factory=dict)
    previews: Mapping[str, PreviewSpec] = Field(default_factory=dict)
