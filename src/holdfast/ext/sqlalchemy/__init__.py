"""Flows and services in the transactions of SQLAlchemy's sessions, and states in its queries."""

from holdfast.ext.sqlalchemy.engines import nest_savepoints
from holdfast.ext.sqlalchemy.joining import flow_of, joined
from holdfast.ext.sqlalchemy.models import Stateful
from holdfast.ext.sqlalchemy.recent import MostRecentTransition

__all__ = ["MostRecentTransition", "Stateful", "flow_of", "joined", "nest_savepoints"]
