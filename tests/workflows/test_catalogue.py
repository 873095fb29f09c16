"""The catalogue: what was declared, in its latest form; tiers never share a rank."""

import pytest

from tests.workflows.story import Story
from tidegate.catalogue import FeatureSpec, ModelSpec, TierSpec
from tidegate.errors import Refused
from tidegate.messages.catalogue import CatalogueState, Declaration

pytestmark = pytest.mark.asyncio(loop_scope="session")

# There is one catalogue for all tests, so each has tiers and ranks of its own.


def _named(story: Story, name: str) -> str:
    return f"{name}-{story.number}"


def _tier(story: Story, rank: int, *, gated: bool = True) -> TierSpec:
    return TierSpec(rank=story.number * 10 + rank, gated=gated)


async def _catalogue(story: Story) -> CatalogueState:
    state = await story.plane.catalogue()
    assert state is not None
    return state


async def _tiers(story: Story) -> dict[str, TierSpec]:
    declared = (await _catalogue(story)).declared.tiers
    return {name: tier for name, tier in declared.items() if name.endswith(f"-{story.number}")}


async def test_what_is_declared_adds_to_and_replaces_what_was(story: Story) -> None:
    pro, free = _named(story, "pro"), _named(story, "free")
    first, second, third = _tier(story, 0, gated=False), _tier(story, 1), _tier(story, 2)
    version = await story.plane.declare(Declaration(by="ann", tiers={pro: first}))
    assert await story.plane.declare(Declaration(by="ann", tiers={free: second})) == version + 1
    assert await story.plane.declare(Declaration(by="bob", tiers={free: third})) == version + 2
    assert await _tiers(story) == {pro: first, free: third}


async def test_declaring_the_same_again_is_no_new_version(story: Story) -> None:
    declaration = Declaration(by="ann", models={_named(story, "image"): ModelSpec()})
    version = await story.plane.declare(declaration)
    assert await story.plane.declare(declaration) == version
    feature = FeatureSpec(pool="image")
    more = Declaration(by="ann", features={_named(story, "draw"): feature})
    assert await story.plane.declare(more) == version + 1


async def test_two_tiers_never_share_a_rank(story: Story) -> None:
    pro, free, plus = (_named(story, name) for name in ("pro", "free", "plus"))
    tiers = {pro: _tier(story, 0), free: _tier(story, 1)}
    version = await story.plane.declare(Declaration(by="ann", tiers=tiers))
    with pytest.raises(Refused) as refusal:
        await story.plane.declare(Declaration(by="bob", tiers={plus: _tier(story, 1)}))
    rank = story.number * 10 + 1
    assert str(refusal.value) == (
        f'Tier "{plus}": spec.rank: got {rank}, which "{free}" has. '
        "Give each tier a rank of its own."
    )
    same = {_named(story, "a"): _tier(story, 7), _named(story, "b"): _tier(story, 7)}
    with pytest.raises(Refused, match="a rank of its own"):
        await story.plane.declare(Declaration(by="bob", tiers=same))
    assert (await _catalogue(story)).version == version
    assert await _tiers(story) == tiers


async def test_two_tiers_swap_their_ranks_in_one_declaration(story: Story) -> None:
    pro, plus = _named(story, "pro"), _named(story, "plus")
    first, second = _tier(story, 0), _tier(story, 1)
    version = await story.plane.declare(Declaration(by="ann", tiers={pro: first, plus: second}))
    swapped = {pro: second, plus: first}
    assert await story.plane.declare(Declaration(by="ann", tiers=swapped)) == version + 1
    assert await _tiers(story) == swapped
