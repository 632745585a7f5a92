from __future__ import annotations

from starlette.datastructures import Headers

from lensmount_service.access.custom_attributes import HEADER, attributes_of, with_token


def headers_of(*pairs: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.lower().encode(), value.encode()) for name, value in pairs])


def test_attributes_are_pairs_whatever_else_a_client_writes_there() -> None:
    headers = headers_of((HEADER, "adapter = malaria@3 ,trace"), (HEADER, "token=a=b,,=x"))
    assert attributes_of(headers) == [("adapter", "malaria@3"), ("trace", ""), ("token", "a=b"), ("", ""), ("", "x")]
    assert attributes_of(headers_of()) == [("", "")]


def test_a_token_among_the_attributes_counts_for_invocations_without_authorization_alone() -> None:
    attributes, host = (HEADER, "adapter=malaria,token=secret"), ("Host", "lab.example")
    told = with_token("/invocations", headers_of(attributes, host))
    assert (told["authorization"], told["host"]) == ("Bearer secret", "lab.example")
    for path, pairs in [
        ("/predict", [attributes, host]),
        ("/invocations/", [attributes]),
        ("/invocations", [attributes, ("Authorization", "Bearer other")]),
        ("/invocations", [(HEADER, "token=one,token=two")]),
        ("/invocations", [host]),
    ]:
        headers = headers_of(*pairs)
        assert with_token(path, headers) is headers
