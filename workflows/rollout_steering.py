"""What people and the budget may say to a rollout, beside what steers every plan."""

from contextlib import suppress

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.budget import ClaimStatus
    from tidegate.messages.common import Act
    from tidegate.messages.feature import FeatureAct, HoldOrder
    from tidegate.messages.rollout import (
        Approval,
        ChangeOrder,
        RolloutOrder,
        RolloutPhase,
        RolloutState,
        StageProgress,
    )
    from tidegate.plans import StageSpec
    from tidegate.rules.replanning import tell_changes
    from tidegate.rules.verdict import Verdict
    from workflows.acts import act
    from workflows.refusal import refuse
    from workflows.rollout_events import RolloutEvents
    from workflows.rollout_view import show_rollout
    from workflows.steered import Leaves, Steered


class Skipped(Leaves):
    """A person passed over the stage."""


class Replanned(Leaves):
    """The plan was changed."""


class SteeredRollout(Steered):
    """The part of a rollout that listens, and what it remembers and shows."""

    order: RolloutOrder
    state: RolloutState
    events: RolloutEvents

    def leaves(self) -> Leaves | None:
        """Say what ends what it does now: an abort, before a change of plan, before a skip."""
        if (aborted := super().leaves()) is not None:
            return aborted
        if self.state.change is not None:
            return Replanned()
        progress = self.progress(self.stage)
        is_skipped = progress.skip is not None and progress.skipped_at is None
        return Skipped() if is_skipped else None

    def watch_from_now(self, progress: StageProgress) -> None:
        """Have what a stage has reached bake from now on."""
        progress.watched_since = workflow.now()
        progress.looks, progress.answers, progress.seen = {}, {}, {}
        progress.shift_when_watched = self.state.shift_at(workflow.now())

    async def ask_feature(self, asked: FeatureAct) -> dict[str, float]:
        """Have the feature do something; raises ActivityError where it refuses."""
        wanted = asked.expose or asked.note or asked.hold or asked.release
        summary = (
            "" if wanted is None else getattr(wanted, "reason", "") or "note what it waits for"
        )
        return dict(await act("ask_feature", asked, summary=summary) or {})

    def claim_id(self, stage: str) -> str:
        """Name a stage's claim: the same for every run of one rollout, and for no other."""
        run = workflow.info().first_execution_run_id[:8]
        revision = self.progress_of(stage).revision
        plan = f"{run}.{revision}" if revision else run
        return f"{self.subject}/{plan}/{stage}"

    def progress(self, stage: StageSpec) -> StageProgress:
        """Return what is remembered of a stage."""
        return self.progress_of(stage.name)

    def progress_of(self, stage: str) -> StageProgress:
        """Return what is remembered of a stage, by its name."""
        begun = StageProgress(revision=self.state.revision)
        return self.state.progress.setdefault(stage, begun)

    @property
    def stage(self) -> StageSpec:
        """The stage that the rollout has come to."""
        return next(s for s in self.order.spec.stages if s.name == self.state.stage)

    @property
    def feature(self) -> str:
        """The feature that is rolled out."""
        return self.order.spec.feature

    def describe(self) -> None:
        """Show in the Temporal UI where the rollout stands and who can act."""
        show_rollout(self.outbox.visible, self.order, self.state)

    async def place_hold(self, order: HoldOrder) -> None:
        """Have the feature say why nobody else gets in."""
        with suppress(ActivityError):
            await self.ask_feature(FeatureAct(feature=self.feature, hold=order))

    async def lift_hold(self, order: HoldOrder) -> None:
        """Let the feature grow again, unless somebody else holds it too."""
        with suppress(ActivityError):
            await self.ask_feature(FeatureAct(feature=self.feature, release=order))

    # What they may say.

    @property
    def is_over(self) -> bool:
        """Whether the rollout has ended."""
        return self.state.phase is not RolloutPhase.RUNNING

    @workflow.update
    def approve(self, approval: Approval) -> None:
        """Approve a stage in the name of the role that must."""
        stage = next(s for s in self.order.spec.stages if s.name == approval.stage)
        self.progress(stage).approved_by = approval.by
        self.events.approved(stage, approval)
        self.describe()

    @approve.validator
    def _may_approve(self, approval: Approval) -> None:
        self._refuse_when_over("approve")
        known = {stage.name: stage for stage in self.order.spec.stages}
        stage = known.get(approval.stage)
        if stage is None:
            message = f'{self.subject}: no stage "{approval.stage}". It has {", ".join(known)}.'
            raise refuse(message)
        if stage.approval is None:
            raise refuse(f'stage "{stage.name}": it needs no approval.')
        if stage.approval != approval.role:
            message = f'stage "{stage.name}": {stage.approval} approves it, not {approval.role}.'
            raise refuse(message)
        progress = self.state.progress.get(stage.name)
        if progress is not None and progress.approved_by is not None:
            raise refuse(f'stage "{stage.name}": {progress.approved_by} did already.')

    @workflow.update
    def promote(self, order: Act) -> None:
        """Take an inconclusive check as passed, on a person's word."""
        self.progress(self.stage).verdict = Verdict.PASS
        self.events.told_by("stage.promoted", self.stage, order)

    @promote.validator
    def _may_promote(self, order: Act) -> None:  # noqa: ARG002 - as the update
        self._refuse_unless_a_person_decides("promote")

    @workflow.update
    def retry(self, order: Act) -> None:
        """Watch what the stage has reached anew, for as long again."""
        progress = self.progress(self.stage)
        progress.verdict = None
        self.watch_from_now(progress)
        self.events.told_by("stage.retried", self.stage, order)

    @retry.validator
    def _may_retry(self, order: Act) -> None:  # noqa: ARG002 - as the update
        self._refuse_unless_a_person_decides("retry")

    def _refuse_unless_a_person_decides(self, verb: str) -> None:
        progress = self.state.progress.get(self.state.stage)
        waits = progress is not None and progress.verdict is Verdict.INCONCLUSIVE
        if self.is_over or self.leaves() is not None or not waits:
            raise refuse(f"{self.subject}: no check waits for a person, so nothing to {verb}.")

    @workflow.update
    def skip(self, order: Act) -> None:
        """Pass over the stage that the rollout has come to: shut it stays shut, open it stays."""
        self.progress(self.stage).skip = order

    @skip.validator
    def _may_skip(self, order: Act) -> None:
        self._refuse_when_over("skip")
        progress = self.state.progress.get(self.state.stage)
        if progress is not None and progress.skip is not None:
            message = f'stage "{self.state.stage}": {progress.skip.by} skips it already.'
            raise refuse(message)
        if not order.reason:
            raise refuse('skip: "reason" is missing. Say why, for those who read it later.')

    @workflow.update
    def change(self, order: ChangeOrder) -> None:
        """Go on by another plan, which leaves what has opened as it was."""
        before = self.state.change or self.order.spec
        self.state.change = order.spec
        for line in tell_changes(before, order.spec):
            self.events.changed(order, line)

    @change.validator
    def _may_change(self, order: ChangeOrder) -> None:
        self._refuse_when_over("change")
        conflict = self.order.conflict_with(order.spec)
        if conflict is not None:
            raise refuse(conflict)

    @workflow.signal
    def claim_changed(self, status: ClaimStatus) -> None:
        """Hear from the budget how the open claim stands."""
        progress = self.state.progress.get(self.state.stage)
        is_open = progress is not None and progress.exposed_at is not None
        if status.claim_id == self.claim_id(self.state.stage) and not is_open:
            self.state.claim = status

    @workflow.query
    def current(self) -> RolloutOrder:
        """Return the plan, and in its state where the rollout stands."""
        return self.order
