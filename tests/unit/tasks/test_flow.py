"""What every run of a flow requires."""

import pytest

from tasks.flow import MissingParameterError, require_parameters


def test_a_field_that_an_event_lacks_is_named() -> None:
    require_parameters("rollback", {"source": "shop", "reason": "clicks fell", "to": None})
    with pytest.raises(MissingParameterError, match=r'source and reason empty: .* such as {"source": "…", "reason"'):
        require_parameters("rollback", {"source": "", "reason": "", "to": None})
