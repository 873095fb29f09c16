"""Whether a GPU can be counted on, by what it told of itself."""

from typing import Final

import msgspec

from tidegate.readings import GpuReading, NodeReading, SickGpu

_XIDS_OF_PROGRAMS: Final = frozenset({13, 31, 43, 45, 68, 109})
"""What a program did wrong, or had done to it; the card goes on with the next one."""


def sickness(gpu: GpuReading) -> str | None:
    """Say what is wrong with a GPU, in the words that an operator reads; None where nothing is.

    A figure that is absent says nothing of its health.
    """
    if gpu.fault is not None:
        return f"NVML answers {gpu.fault}"
    grave = [xid for xid in gpu.xids or () if xid not in _XIDS_OF_PROGRAMS]
    if grave:
        return f"Xid {', '.join(map(str, grave))}"
    if gpu.ecc_errors:
        return f"{gpu.ecc_errors} ECC errors were not corrected"
    if gpu.has_row_remap_failed:
        return "a bad row of its memory could not be remapped"
    return None


def with_health(node: NodeReading) -> NodeReading:
    """Return a reading that says who is sick and who is well, by its cards where it has them.

    A card that is well as far as it answers, and has calls that hang, says neither.
    """
    if node.gpus is None:
        return node
    found = [(gpu, sickness(gpu)) for gpu in node.gpus]
    sick = (SickGpu(index=gpu.index, uuid=gpu.uuid, reason=why) for gpu, why in found if why)
    well = (gpu.index for gpu, why in found if why is None and not gpu.hung)
    return msgspec.structs.replace(node, sick_gpus=tuple(sick), well_gpus=tuple(well))
