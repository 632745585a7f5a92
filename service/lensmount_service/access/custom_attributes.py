"""The custom attributes of an invocation, as in `adapter=malaria,token=...`: what SageMaker passes on to a container.

SageMaker does not pass on the header Authorization, so the caller's token may be one of the attributes.
"""

from __future__ import annotations

from starlette.datastructures import Headers

HEADER = "X-Amzn-SageMaker-Custom-Attributes"
PATH = "/invocations"


def attributes_of(headers: Headers) -> list[tuple[str, str]]:
    """The names and values, in order."""
    texts = ",".join(headers.getlist(HEADER)).split(",")
    return [(name.strip(), value.strip()) for name, _, value in (text.partition("=") for text in texts)]


def with_token(path: str, headers: Headers) -> Headers:
    """The headers that tell who calls: of an invocation without Authorization, with the token among its attributes."""
    if path != PATH or "authorization" in headers:
        return headers
    tokens = {value for name, value in attributes_of(headers) if name == "token"}
    return Headers({**headers, "authorization": f"Bearer {tokens.pop()}"}) if len(tokens) == 1 else headers
