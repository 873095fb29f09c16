"""How readings are written and read: what every tick needs apart from what few ask for."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from tidegate.readings import DemandReading, GpuReading, NodeReading
from tidegate.rules.health import with_health

READINGS: Final = "tidegate:readings"
GPUS: Final = "tidegate:gpus"
"""What each card reads, by node: nine tenths of a reading, and few ticks look at it."""
CHANGED: Final = "tidegate:readings-changed"
"""Told the field of a reading that others should not wait a period for."""

# Two texts come out instead of two for each node: a client takes longer over many than over long.
READ: Final = """
local nodes, gateways, cards = {}, {}, {}
local found = redis.call('HGETALL', KEYS[1])
for i = 1, #found, 2 do
  local of = string.sub(found[i], 1, 5) == 'node/' and nodes or gateways
  of[#of + 1] = found[i + 1]
end
local answer = {table.concat(nodes, '\\n'), table.concat(gateways, '\\n')}
if ARGV[1] == 'gpus' then
  for _, each in ipairs(redis.call('HGETALL', KEYS[2])) do cards[#cards + 1] = each end
end
answer[3] = table.concat(cards, '\\n')
return answer
"""

R = TypeVar("R", NodeReading, DemandReading)

_NODES: Final = msgspec.json.Decoder(list[NodeReading])
_GATEWAYS: Final = msgspec.json.Decoder(list[DemandReading])
_CARDS: Final = msgspec.json.Decoder(tuple[GpuReading, ...])
_as_json: Final = msgspec.json.Encoder().encode


def field_of(reading: NodeReading | DemandReading) -> str:
    """Name the place of a reading: each replaces the one before."""
    match reading:
        case NodeReading():
            return f"node/{reading.node}"
        case DemandReading():
            return f"gateway/{reading.gateway}"


def split(reading: NodeReading | DemandReading) -> tuple[str, str | None]:
    """Return a reading as text without its cards, and the cards where there are any."""
    if isinstance(reading, DemandReading) or reading.gpus is None:
        return _as_json(reading).decode(), None
    whole = msgspec.structs.replace(with_health(reading), gpus=None)
    return _as_json(whole).decode(), _as_json(reading.gpus).decode()


def read_all(
    nodes: str, gateways: str, cards: str
) -> tuple[tuple[NodeReading, ...], tuple[DemandReading, ...]]:
    """Read what the script found, in the order of names; what cannot be read is left out."""
    whole = _read(_NODES, nodes)
    if cards:
        of_node = cards.split("\n")
        by_field = dict(zip(of_node[::2], of_node[1::2], strict=False))
        whole = [_with_cards(node, by_field.get(field_of(node))) for node in whole]
    heard = _read(_GATEWAYS, gateways)
    return (
        tuple(sorted(whole, key=lambda node: node.node)),
        tuple(sorted(heard, key=lambda gateway: gateway.gateway)),
    )


def _with_cards(node: NodeReading, cards: str | None) -> NodeReading:
    # An older agent writes them into its reading.
    if cards is None or node.gpus is not None:
        return node
    try:
        return msgspec.structs.replace(node, gpus=_CARDS.decode(cards))
    except msgspec.DecodeError:
        return node


def _read(kind: "msgspec.json.Decoder[list[R]]", texts: str) -> Sequence[R]:
    try:
        return kind.decode(f"[{texts.replace(chr(10), ',')}]")
    except msgspec.DecodeError:
        return list(_each(kind, texts.split("\n")))


def _each(kind: "msgspec.json.Decoder[list[R]]", texts: Sequence[str]) -> Iterator[R]:
    """Read them one by one: written by another release, a reading is seen as absent."""
    for text in texts:
        try:
            yield from kind.decode(f"[{text}]")
        except msgspec.DecodeError:
            continue
