"""The preprocessing of an imported adapter: the backbone's own, with the fields that the user gives."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.inputs.rules import InputRule
from lensmount_adapters.strict import parse_json

MAX_TEXT = 4096
_RULE: TypeAdapter[InputRule] = TypeAdapter(InputRule)


def rule_of(text: str, backbone: Backbone) -> InputRule:
    """The rule that a JSON object like '{"resize": "squash"}' describes; fields that it lacks are the backbone's.

    Raises AdapterInvalid (`preprocessing_mismatch`) with the first wrong field.
    """
    try:
        given = parse_json(text[: MAX_TEXT + 1])
        if not isinstance(given, dict) or len(text) > MAX_TEXT:
            raise ValueError(f"expected one object of at most {MAX_TEXT} characters")
        return _RULE.validate_python({**backbone.preprocessing.model_dump(mode="json"), **given})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:120]
        raise _wrong(f"{where}: {first['msg']}", backbone) from error
    except (ValueError, RecursionError) as error:
        raise _wrong(f"found no strict JSON ({str(error)[:120]})", backbone) from error


def _wrong(what: str, backbone: Backbone) -> AdapterInvalid:
    fields = ", ".join(backbone.preprocessing.model_dump())
    return AdapterInvalid(
        f"preprocessing: {what}, expected an object with some of {fields}. "
        'Fix: give it like {"resize": "squash", "mean": [0.5, 0.5, 0.5]}, or leave it out',
        code="preprocessing_mismatch",
    )
