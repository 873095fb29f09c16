"""The catalogue entity: what people declared, in its latest form."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.manifests import Manifests
    from tidegate.messages.catalogue import CatalogueState, Declaration, HoldNote
    from tidegate.messages.preview import ForgetNote
    from workflows.entity import live
    from workflows.outbox import Outbox
    from workflows.refusal import refuse


@workflow.defn(name="Catalogue")
class Catalogue:
    """Holds tiers, models, pools and budgets, and knows the features and rollouts by name."""

    @workflow.init
    def __init__(self, state: CatalogueState) -> None:
        self.state = state
        self.outbox = Outbox(state.outbox)

    @workflow.run
    async def run(self, _: CatalogueState) -> None:
        """Live for ever."""
        self.describe()
        await live(self.outbox)
        workflow.continue_as_new(self.state)

    @workflow.update
    def declare(self, declaration: Declaration) -> int:
        """Add or replace what is declared; returns the catalogue's version."""
        declared = Manifests.model_validate(declaration.model_dump(exclude={"by"}))
        merged = declared.over(self.state.declared)
        if merged != self.state.declared:
            self.state.declared = merged
            self.state.version += 1
            self.outbox.tell(
                "catalogue.declared",
                subject="catalogue",
                after=self.state.version,
                by=declaration.by,
                reason=f"declared by {declaration.by}",
            )
            self.describe()
        return self.state.version

    @declare.validator
    def _may_declare(self, declaration: Declaration) -> None:
        ranks: dict[int, str] = {}
        for name, tier in {**self.state.declared.tiers, **declaration.tiers}.items():
            if tier.rank in ranks:
                message = (
                    f'Tier "{name}": spec.rank: got {tier.rank}, which "{ranks[tier.rank]}" has. '
                    "Give each tier a rank of its own."
                )
                raise refuse(message)
            ranks[tier.rank] = name

    @workflow.update
    def note_hold(self, note: HoldNote) -> None:
        """Remember a hold while it stands."""
        others = [each for each in self.state.holds if each != note.hold_id]
        self.state.holds = [*others, note.hold_id] if note.stands else others

    @note_hold.validator
    def _may_note_hold(self, note: HoldNote) -> None:
        """Whoever signs for it may."""

    @workflow.update
    def forget(self, note: ForgetNote) -> None:
        """Know no more of previews, and of what they showed."""
        declared = self.state.declared
        previews = {n: spec for n, spec in declared.previews.items() if n not in note.previews}
        features = {n: spec for n, spec in declared.features.items() if n not in note.features}
        left = declared.model_copy(update={"previews": previews, "features": features})
        if left != declared:
            self.state.declared = left
            self.state.version += 1
            self.outbox.tell(
                "catalogue.declared",
                subject="catalogue",
                after=self.state.version,
                reason="a preview is over",
            )
            self.describe()

    @forget.validator
    def _may_forget(self, note: ForgetNote) -> None:
        """Whoever signs for it may."""

    @workflow.query
    def current(self) -> CatalogueState:
        """Return everything that is declared."""
        return self.state

    def describe(self) -> None:
        """Tell the Temporal UI what there is."""
        self.outbox.visible.show(kind="catalogue", state=f"version {self.state.version}")
        declared = self.state.declared
        workflow.set_current_details(
            "\n".join(
                f"- **{kind}**: {', '.join(getattr(declared, kind)) or 'none'}"
                for kind in Manifests.model_fields
            )
        )
