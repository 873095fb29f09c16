"""Signing what is asked of workflows: each update carries a proof of who asks, in a header."""

import time
import uuid
from collections.abc import Mapping
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Interceptor,
    OutboundInterceptor,
    StartWorkflowUpdateInput,
    StartWorkflowUpdateWithStartInput,
    WorkflowUpdateHandle,
)

from tidegate.proofs import HEADER, Asked, prove
from tidegate.signing import Keyring


class Proving(Interceptor):
    """Signs every update of a client with these keys."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 - Temporal's own
        """Stand before what sends."""
        return _Proving(next, self._keys)


class _Proving(OutboundInterceptor):
    def __init__(self, following: OutboundInterceptor, keys: Keyring) -> None:
        super().__init__(following)
        self._keys = keys

    async def start_workflow_update(
        self,
        input: StartWorkflowUpdateInput,  # noqa: A002 - Temporal's own
    ) -> WorkflowUpdateHandle[Any]:
        # Of this update alone, so that who reads it in a history cannot use it again.
        input.update_id = input.update_id or uuid.uuid4().hex
        asked = Asked.of(input.id, input.update, input.update_id, input.args)
        input.headers = self._proven(input.headers, asked)
        return await super().start_workflow_update(input)

    async def start_update_with_start_workflow(
        self,
        input: StartWorkflowUpdateWithStartInput,  # noqa: A002 - Temporal's own
    ) -> WorkflowUpdateHandle[Any]:
        update = input.update_workflow_input
        update.update_id = update.update_id or uuid.uuid4().hex
        started = input.start_workflow_input.id
        asked = Asked.of(started, update.update, update.update_id, update.args)
        update.headers = self._proven(update.headers, asked)
        return await super().start_update_with_start_workflow(input)

    def _proven(self, headers: Mapping[str, Payload], asked: Asked) -> Mapping[str, Payload]:
        token = prove(self._keys, asked, time.time())
        return {**headers, HEADER: Payload(data=token.encode())}
