"""What a rollout tells: each stage's way, with the reason and the figures behind it."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.checks import CheckSpec
    from tidegate.messages.budget import ClaimStatus
    from tidegate.messages.common import Act
    from tidegate.messages.rollout import Answer, Approval, RolloutOrder
    from tidegate.messages.steered import AbortOrder, WayBack
    from tidegate.plans import StageSpec
    from tidegate.rules.verdict import Look
    from workflows.outbox import Outbox


class RolloutEvents:
    """The events of one rollout, by way of its outbox."""

    def __init__(self, outbox: Outbox, order: RolloutOrder) -> None:
        self._outbox = outbox
        self._order = order
        self._subject = f"rollout/{order.name}"

    def tell(self, event_type: str, stage: StageSpec, **data: str | float | bool | None) -> None:
        """Tell what became of a stage."""
        self._outbox.tell(
            event_type,
            subject=self._subject,
            feature=self._order.spec.feature,
            stage=stage.name,
            tier=",".join(stage.tiers),
            pool=self._order.pool,
            **data,
        )

    def approved(self, stage: StageSpec, approval: Approval) -> None:
        """Tell who approved a stage, in the name of which role."""
        self.tell(
            "stage.approved",
            stage,
            by=approval.by,
            role=approval.role,
            reason=approval.reason or f"approved by {approval.by}",
        )

    def awaited(self, stage: StageSpec, claim: ClaimStatus, lacks: str) -> None:
        """Tell what a stage lacks, and when that is expected."""
        forecast = claim.forecast
        self.tell("stage.waiting", stage, reason=lacks)
        self.tell(
            "stage.forecast",
            stage,
            reason=lacks,
            p50=forecast.p50.isoformat() if forecast else None,
            p90=forecast.p90.isoformat() if forecast else None,
        )

    def advanced(
        self, stage: StageSpec, share: float, claim: ClaimStatus | None, reason: str
    ) -> None:
        """Tell that a stage reached a share, with the GPUs that covered it at that instant."""
        self.tell(
            "stage.advanced",
            stage,
            reason=reason,
            after=share,
            reserve=stage.reserve,
            ready_gpus=claim.ready_gpus if claim else None,
            in_use_gpus=claim.in_use_gpus if claim else None,
        )

    def looked(self, stage: StageSpec, check: CheckSpec, look: Look) -> None:
        """Tell what a check says, where it said something else before."""
        self.tell(
            "stage.checked",
            stage,
            check=check.name,
            verdict=look.verdict,
            dry_run=check.dry_run,
            reason=look.reason,
        )

    def answered(self, stage: StageSpec, answer: Answer) -> None:
        """Tell what a person said of a stage."""
        said = "it passes" if answer.passes else "it fails"
        self.tell(
            "stage.answered",
            stage,
            check=answer.check,
            verdict="pass" if answer.passes else "fail",
            by=answer.by,
            role=answer.role,
            reason=answer.reason or said,
        )

    def told_by(self, event_type: str, stage: StageSpec, order: Act) -> None:
        """Tell what became of a stage on a person's word."""
        self.tell(event_type, stage, by=order.by, reason=order.reason)

    def changed(self, order: Act, line: str) -> None:
        """Tell of one change of the plan, as a line of its diff."""
        self._outbox.tell(
            "plan.changed",
            subject=self._subject,
            feature=self._order.spec.feature,
            by=order.by,
            change=line,
            reason=order.reason or f"{order.by} applied another plan",
        )

    def aborted(self, stage: StageSpec, order: AbortOrder | None, reason: str) -> None:
        """Tell who ended the rollout, where it was a person, and how far it went back."""
        by, back = (order.by, order.back) if order else (None, WayBack.STAGE)
        self.tell("rollout.aborted", stage, by=by, back=back, reason=reason)

    def finished(self) -> None:
        """Tell that every stage is open and baked."""
        self._outbox.tell(
            "rollout.finished",
            subject=self._subject,
            feature=self._order.spec.feature,
            reason="every stage is open and baked",
        )
