"""For users' tests and ours: what shows that a store or a machine keeps its promises."""

import pytest

# Before the import, so that a failed assertion of the suite tells what it compared.
pytest.register_assert_rewrite("holdfast.testing.conformance")

from holdfast.testing.clock import ManualClock  # noqa: E402 (see above)
from holdfast.testing.conformance import StoreConformance  # noqa: E402 (see above)

__all__ = ["ManualClock", "StoreConformance"]
