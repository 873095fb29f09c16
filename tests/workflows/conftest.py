"""One test server for each file of stories; each test tells a story of its own on it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from tests.workflows.story import Given, Story, Then, When
from tests.workflows.world import World, make_worker, skipping_time


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world() -> World:
    return World()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def env(world: World) -> AsyncIterator[WorkflowEnvironment]:
    async with skipping_time() as env, make_worker(env.client, world):
        yield env


@pytest_asyncio.fixture(loop_scope="session")
async def story(env: WorkflowEnvironment, world: World) -> AsyncIterator[Story]:
    story = Story(env.client, world, env, await env.get_current_time())
    yield story
    await story.end()


@pytest.fixture
def given(story: Story) -> Given:
    return Given(story)


@pytest.fixture
def when(story: Story) -> When:
    return When(story)


@pytest.fixture
def then(story: Story) -> Then:
    return Then(story)
