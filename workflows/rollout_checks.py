"""Watching a stage: looks at its checks while it bakes, and the words of people."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.rollout import Answer, Measurement, StageProgress
    from tidegate.messages.steered import Waits
    from tidegate.plans import StageSpec
    from tidegate.rules.verdict import Look, Verdict, judge
    from workflows.acts import act
    from workflows.refusal import refuse
    from workflows.rollout_steering import SteeredRollout
    from workflows.steered import Aborted


class WatchedRollout(SteeredRollout):
    """The part of a rollout that holds what it has opened against its checks."""

    async def watch(self, stage: StageSpec) -> None:
        """Bake what the stage has reached until its checks pass, or a person says so."""
        progress = self.progress(stage)
        while (verdict := await self.bake(stage)) is not Verdict.PASS:
            if verdict is Verdict.FAIL:
                self.fail(stage)
            await self.until_a_person_decides(stage)
        progress.verdict = Verdict.PASS
        progress.watched_since = None
        progress.steps += 1

    async def bake(self, stage: StageSpec) -> Verdict:
        """Look at the checks at even distances, the last time at the end of the bake.

        A check that fails for good ends it at once.
        """
        progress = self.progress(stage)
        if progress.verdict is not None:
            return progress.verdict  # by the run before this one, or a person's word
        whole = stage.bake_of(progress.steps)
        since = (progress.watched_since or workflow.now()) - progress.shift_when_watched
        looks = stage.looks if stage.measured else 1
        for number in range(progress.looked + 1, looks + 1):
            due_at = since + whole * (number / looks)
            await self.until_instant(
                due_at, Waits.BAKE, or_when=lambda: self.judged(stage) is Verdict.FAIL
            )
            if self.judged(stage) is not Verdict.FAIL:
                await self.look(stage)
            if self.judged(stage) is Verdict.FAIL:
                return Verdict.FAIL
        if self.judged(stage) is Verdict.PASS:
            await self.until(lambda: True, Waits.BAKE)  # an abort may have come meanwhile
        return self.judged(stage)

    async def look(self, stage: StageSpec) -> None:
        """Look at each check once, and tell of those that say something else than before."""
        if not stage.measured:
            return
        progress = self.progress(stage)
        measurement = Measurement(
            pool=self.order.pool,
            tiers=stage.tiers,
            checks=stage.measured,
            limit_s=self.order.reading_limit_s,
        )
        found = await act("measure", measurement, summary=f"check {stage.name}")
        for check in stage.measured:
            said = found[check.name]
            look = Look(Verdict(said["verdict"]), said["reason"])
            before = progress.looks.get(check.name, [])
            progress.looks[check.name] = [*before, look.verdict]
            progress.seen[check.name] = look.reason
            if before[-1:] != [look.verdict]:
                self.events.looked(stage, check, look)
        self.describe()

    def judged(self, stage: StageSpec) -> Verdict:
        """Say what the checks say by now."""
        progress = self.progress(stage)
        return judge(stage.checks, progress.looks, progress.answers)

    async def until_a_person_decides(self, stage: StageSpec) -> None:
        """Wait for `promote`, `retry`, `skip`, `abort` or an answer after an inconclusive check."""
        progress = self.progress(stage)
        if progress.verdict is None:
            progress.verdict = Verdict.INCONCLUSIVE
            self.events.tell("stage.inconclusive", stage, reason=self.why(stage, progress))
        await self.until(lambda: progress.verdict is not Verdict.INCONCLUSIVE, Waits.PERSON)

    def fail(self, stage: StageSpec) -> None:
        """Leave the story: a check failed."""
        progress = self.progress(stage)
        progress.verdict = Verdict.FAIL
        self.events.tell("stage.failed", stage, reason=self.why(stage, progress))
        raise Aborted

    def why(self, stage: StageSpec, progress: StageProgress) -> str:
        """Say which checks do not pass, and what they saw."""
        reasons = []
        for check in stage.checks:
            if check.dry_run or judge([check], progress.looks, progress.answers) is Verdict.PASS:
                continue
            if check.answer is None:
                seen = progress.seen.get(check.name, "nothing was seen yet")
            elif check.name in progress.answers:
                seen = f"{check.answer} said that it fails"
            else:
                seen = f"{check.answer} has not answered"
            reasons.append(f"{check.name}: {seen}")
        return "; ".join(reasons)

    @workflow.update
    def answer(self, answer: Answer) -> None:
        """Take a person's word on what the stage has reached."""
        stage = self.stage
        progress = self.progress(stage)
        progress.answers[answer.check] = answer.passes
        self.events.answered(stage, answer)
        verdict = self.judged(stage)
        if progress.verdict is Verdict.INCONCLUSIVE and verdict is not Verdict.INCONCLUSIVE:
            progress.verdict = verdict
        self.describe()

    @answer.validator
    def _may_answer(self, answer: Answer) -> None:
        self._refuse_when_over("answer")
        progress = self.state.progress.get(answer.stage)
        if answer.stage != self.state.stage or progress is None or progress.watched_since is None:
            raise refuse(
                f'stage "{answer.stage}": it does not bake, so there is nothing to answer.'
            )
        roles = {check.name: check.answer for check in self.stage.checks if check.answer}
        role = roles.get(answer.check)
        if role is None:
            message = (
                f'stage "{answer.stage}": no check "{answer.check}" asks a person. '
                f"Those that do: {', '.join(roles) or 'none'}."
            )
            raise refuse(message)
        if role != answer.role:
            raise refuse(f'check "{answer.check}": {role} answers it, not {answer.role}.')
        if answer.check in progress.answers:
            raise refuse(f'check "{answer.check}": it is answered already.')
