"""`tidegate use`: who uses a model, by tier, as the gateways counted it."""

from datetime import UTC, datetime, timedelta

from tidegate.edges.redis import Redis
from tidegate.edges.redis_use import UseLog
from tidegate.errors import PlanError
from tidegate.mistakes import nearest
from tidegate.readings import Absent
from tidegate.settings import Settings


async def tell_use(settings: Settings, model: str, days: int) -> list[str]:
    """Return the use of a model as a table; raises PlanError for one that nobody published."""
    today = datetime.now(UTC).date()
    async with Redis(settings.redis) as redis:
        intent = (await redis.snapshot()).intent
        if intent is not None and model not in intent.models:
            near = nearest(model, intent.models)
            hint = f'Did you mean "{near}"?' if near else "Write one of them."
            known = ", ".join(sorted(intent.models)) or "none, as none is published"
            text = f'model: got "{model}", expected one of {known}. {hint}'
            raise PlanError(text, code="use-name")
        use = await UseLog(redis).use_of(model, days, today)
    since = today - timedelta(days=days - 1)
    if isinstance(use, Absent):
        return [f"{model}: unknown from {since} to {today} (UTC), because {use.reason}"]
    if not use:
        return [f"{model}: nobody used it from {since} to {today} (UTC)"]
    lines = [
        f"{model} from {since} to {today} (UTC); users are estimates, standard error 0.81 %",
        f"{'tier':<16} {'requests':>12} {'users':>10}",
    ]
    for tier, of in use.items():
        lines.append(f"{tier:<16} {of.requests:>12} {of.distinct_users:>10}")
    return lines
