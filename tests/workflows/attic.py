"""A preview of a story's feature, and what people do about it."""

from dataclasses import dataclass
from pathlib import Path

from tests.embedded.until import until
from tests.workflows.story import Stage, Story
from tidegate.catalogue import FeatureSpec
from tidegate.edges.preview_keys import PreviewKeys
from tidegate.messages.catalogue import Declaration
from tidegate.messages.common import Act
from tidegate.messages.preview import InviteOrder, PreviewOrder, PreviewState
from tidegate.plans import PreviewSpec
from tidegate.quantities import parse_duration


@dataclass
class Attic:
    """A preview of the story's feature, and what people do about it."""

    story: Story

    @property
    def name(self) -> str:
        return f"attic-{self.story.number}"

    @property
    def plan(self) -> str:
        return f"preview/{self.name}"

    @property
    def keys(self) -> PreviewKeys:
        return PreviewKeys(self.story.world.previews)

    @property
    def key_file(self) -> Path:
        return self.story.world.previews / f"{self.name}.preview-key"

    async def opens(self, *, lasts: str = "30d", becomes: bool = True) -> None:
        """Declare the feature and the preview, and start it."""
        story = self.story
        spec = PreviewSpec(feature=story.feature, owner="ada", lasts=parse_duration(lasts))
        features = {story.feature: FeatureSpec(pool=story.pool, surfaces=("attic",))}
        declared = Declaration(by="ada", features=features, previews={self.name: spec})
        await story.plane.declare(declared)
        rollout = story.order(self.name, [Stage("pro", bake="1d")]) if becomes else None
        order = PreviewOrder(name=self.name, spec=spec, rollout=rollout)
        assert await story.plane.start_plan(order, "a story")
        await until(self.key_file.exists)

    async def invites(self, *users: str) -> None:
        sealed = tuple(self.keys.seal(self.name, user) for user in users)
        await self.steer("invite", InviteOrder(by="ada", sealed=sealed))

    async def steer(self, verb: str, order: Act) -> None:
        await self.story.plane.steer(self.plan, verb, order)

    async def state(self) -> PreviewState:
        order = await self.story.plane.plan(self.plan, PreviewOrder)
        assert order is not None
        return order.state

    async def is_known(self) -> tuple[bool, bool]:
        """Say whether the catalogue knows the preview, and its feature."""
        catalogue = await self.story.plane.catalogue()
        assert catalogue is not None
        declared = catalogue.declared
        return self.name in declared.previews, self.story.feature in declared.features

    def types(self) -> list[str]:
        return [e.type for e in self.story.world.recorded if e.subject == self.plan]
