"""The conformance suite: what every store does, as tests. A store's own tests subclass it.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def open(self, tmp_path):
            return lambda *, clock=None: MyStore(tmp_path / "store", clock=clock or utc_now)

`open` returns a function that opens the same store at every call within a test. A store that
cannot be opened again with what was written says why in `forgets`, one that threads may not share
says so in `is_one_threads`, and those tests are skipped.
"""

from holdfast.testing.conformance.base import Opener
from holdfast.testing.conformance.batches import Batches, Checkpoints, Checks
from holdfast.testing.conformance.commits import Commits, Purges, Tokens
from holdfast.testing.conformance.keys import Keys, StoreKeys
from holdfast.testing.conformance.lifecycle import Lifecycles, Threads
from holdfast.testing.conformance.reads import Finds, Histories, Loads, Logs
from holdfast.testing.conformance.services import (
    Conflicts,
    Lives,
    ServiceBatches,
    ServicePurges,
    Times,
)
from holdfast.testing.conformance.transactions import Transactions
from holdfast.testing.conformance.values import Values

__all__ = ["Opener", "StoreConformance"]


class StoreConformance(
    Commits,
    Tokens,
    StoreKeys,
    Purges,
    Batches,
    Checks,
    Checkpoints,
    Transactions,
    Loads,
    Histories,
    Finds,
    Logs,
    Lives,
    Conflicts,
    Keys,
    ServiceBatches,
    Times,
    ServicePurges,
    Values,
    Lifecycles,
    Threads,
):
    """Holds a store to the text of `holdfast.stores.contract` and to what services promise."""
