"""The engine every contestant uses: continuous batching, as rates.

A decode iteration of `b` sequences takes DECODE_BASE_S + DECODE_EACH_S · b, and every sequence gets
one token of it. Prefill takes its part of the same card: with a share φ of the time spent on it,
a sequence gets (1 − φ) / (DECODE_BASE_S + DECODE_EACH_S · b) tokens a second. At the limit of
sequences, by Little's law, a replica serves

    λ = B / (output · (DECODE_BASE_S + DECODE_EACH_S · B) + B · input / PREFILL_TPS)

requests a second.
"""

from typing import Final

DECODE_BASE_S: Final = 0.025
"""Seconds that an iteration takes before any sequence is counted."""
DECODE_EACH_S: Final = 0.0003
"""Seconds more for each sequence in the batch."""
PREFILL_TPS: Final = 8000.0
"""Input tokens a second of a card that does nothing else."""
PREFILL_SHARE: Final = 0.8
"""At most this share of the time goes to prefill, as chunked prefill has it."""
MAX_SEQUENCES: Final = 256
KV_TOKENS: Final = 80_000
"""KV cache of a replica, in tokens."""
_UNUSED: Final = 1.2
"""Sequences' worth of cache that stays free because the next one in the queue does not fit."""
TPOT_LIMIT_S: Final = 0.15
"""Mean time per output token within which a request counts as attained: as fast as people read."""
PATIENCE_S: Final = 30.0
"""Who has waited so long gives up."""
DRAIN_S: Final = 60.0
"""From a removal until the last sequence of the replica is done."""


def slots(input_tokens: float, output_tokens: float) -> float:
    """Sequences that fit one replica, by the limit of sequences and by KV cache.

    A sequence holds its input, and on average half of what it will have put out.
    """
    return min(float(MAX_SEQUENCES), KV_TOKENS / (input_tokens + output_tokens / 2.0) - _UNUSED)


def capacity_rps(input_tokens: float, output_tokens: float) -> float:
    """Requests a second of a full replica, for requests of these means."""
    b = slots(input_tokens, output_tokens)
    decoding_s = output_tokens * (DECODE_BASE_S + DECODE_EACH_S * b)
    return b / (decoding_s + b * input_tokens / PREFILL_TPS)
