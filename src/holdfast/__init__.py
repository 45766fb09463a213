"""Durable, typed state machines: what the library offers, and nothing else."""

from holdfast.errors import (
    BatchError,
    CheckpointConflictError,
    CircuitOpenError,
    CommandRejectedError,
    DecodeError,
    DefinitionError,
    GuardFailedError,
    HandlerCancelledError,
    HoldfastError,
    InvalidTransitionError,
    KeyReusedError,
    NotFoundError,
    OutcomeUnknownError,
    QueryError,
    RejectedError,
    RetriesExhaustedError,
    StoreError,
    TransactionClosedError,
    ValidationError,
    VersionConflictError,
)
from holdfast.machine.definition import Machine
from holdfast.machine.model import Command, Meta, State, field
from holdfast.machine.transaction import begin
from holdfast.record import Change, Context, Page, Record, Request, Transition
from holdfast.service.async_service import AsyncService
from holdfast.service.async_transaction import AsyncTransaction
from holdfast.service.flow import Flow
from holdfast.service.retry import CircuitBreaker, Conflict, Retry
from holdfast.service.service import Service
from holdfast.service.transact import transact
from holdfast.service.transaction import Transaction
from holdfast.stores import open_store
from holdfast.stores.contract import Checkpoint

__all__ = [
    "AsyncService",
    "AsyncTransaction",
    "BatchError",
    "Change",
    "Checkpoint",
    "CheckpointConflictError",
    "CircuitBreaker",
    "CircuitOpenError",
    "Command",
    "CommandRejectedError",
    "Conflict",
    "Context",
    "DecodeError",
    "DefinitionError",
    "Flow",
    "GuardFailedError",
    "HandlerCancelledError",
    "HoldfastError",
    "InvalidTransitionError",
    "KeyReusedError",
    "Machine",
    "Meta",
    "NotFoundError",
    "OutcomeUnknownError",
    "Page",
    "QueryError",
    "Record",
    "RejectedError",
    "Request",
    "RetriesExhaustedError",
    "Retry",
    "Service",
    "State",
    "StoreError",
    "Transaction",
    "TransactionClosedError",
    "Transition",
    "ValidationError",
    "VersionConflictError",
    "begin",
    "field",
    "open_store",
    "transact",
]
