from __future__ import annotations

import json
import math

import pytest

from lensmount_client import InvalidInput
from lensmount_client._api import tokens


def test_a_token_is_asked_for_once_because_a_lost_answer_is_a_lost_secret() -> None:
    call = tokens.create("reader1", ["predict"], "lab", 60.0, {"queued_jobs": 2, "queue_share": None})

    assert call.content is not None
    assert json.loads(call.content) == {
        **{"name": "reader1", "scopes": ["predict"], "tenant": "lab", "lifetime_s": 60.0, "quotas": {"queued_jobs": 2}}
    }
    assert not call.retried
    assert not tokens.rotate("reader1", None).retried


@pytest.mark.parametrize("quotas", [{"queued_jobs": math.nan}, {"queued_jobs": object()}])
def test_what_is_not_json_is_refused_before_anything_is_sent(quotas: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        tokens.create("reader1", ["predict"], None, None, quotas)


def test_a_name_is_checked_before_it_becomes_a_path() -> None:
    for call in (tokens.revoke, tokens.rotate):
        with pytest.raises(InvalidInput, match="token name"):
            call("../adapters", None)
