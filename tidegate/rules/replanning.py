"""Changing a plan while it runs: what is past stays as it was."""

from collections.abc import Collection, Iterator
from typing import Final

from tidegate.plans import RolloutSpec, StageSpec

_NONE: Final = "none"


def find_rewritten(before: RolloutSpec, after: RolloutSpec, opened: Collection[str]) -> str | None:
    """Say what of the past a new plan would rewrite; None where it changes the future alone.

    Stages that have `opened` stay as they are and where they are, ahead of all others.
    """
    if after.feature != before.feature:
        return (
            f'feature: got "{after.feature}", expected "{before.feature}". '
            "Give a rollout of another feature a name of its own."
        )
    past = [stage for stage in before.stages if stage.name in opened]
    for i, stage in enumerate(past):
        now = after.stages[i] if i < len(after.stages) else None
        if now is None or now.name != stage.name:
            got = _NONE if now is None else f'"{now.name}"'
            return (
                f'stages[{i}]: got {got}, expected "{stage.name}", which has opened. '
                "Leave stages that have opened where they are."
            )
        changed = [*_changes(stage, now)]
        if changed:
            return (
                f'stages[{i}]: "{stage.name}" has opened, and stays as it is: '
                f"{'; '.join(changed)}. Abort the rollout, or add a stage behind it."
            )
    return None


def tell_changes(before: RolloutSpec, after: RolloutSpec) -> Iterator[str]:
    """Tell what a new plan changes, a line each, as a diff does; stages are known by name."""
    yield from (f"~ {line}" for line in _changes(before, after))
    was = {stage.name: stage for stage in before.stages}
    becomes = {stage.name: stage for stage in after.stages}
    yield from (f"- stage {name}" for name in was if name not in becomes)
    for name, stage in becomes.items():
        if name not in was:
            yield f"+ stage {name}: {_written(_fields(stage))}"
        else:
            yield from (f"~ stage {name}: {line}" for line in _changes(was[name], stage))
    stay = [name for name in was if name in becomes]
    if stay != [name for name in becomes if name in was]:
        yield f"~ order of stages: {', '.join(becomes)}"


def _changes(before: RolloutSpec | StageSpec, after: RolloutSpec | StageSpec) -> Iterator[str]:
    fields, others = _fields(before), _fields(after)
    for name in sorted({*fields, *others}):
        was, becomes = fields.get(name, _NONE), others.get(name, _NONE)
        if was != becomes:
            yield f"{name}: {was} to {becomes}"


def _written(fields: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def _fields(spec: RolloutSpec | StageSpec) -> dict[str, object]:
    """Return what is written of a plan or a stage, as it is written in a manifest."""
    written = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {name: value for name, value in written.items() if name not in {"stages", "name"}}
