from __future__ import annotations

import ssl

import pytest

from lensmount_client import Client, InsecureTransport, InvalidSettings, Timeout
from lensmount_client._http.settings import Settings, is_loopback


def test_arguments_take_precedence_over_the_environment_and_that_over_the_default() -> None:
    environ = {"LENSMOUNT_URL": "http://127.0.0.1:1", "LENSMOUNT_TOKEN": "from-environment"}
    assert Settings.resolve(environ={}).base_url == "http://127.0.0.1:8000"
    assert Settings.resolve(environ=environ).base_url == "http://127.0.0.1:1"
    assert Settings.resolve(environ=environ).token == "from-environment"
    assert Settings.resolve("http://localhost:2", "mine", environ=environ) == Settings(
        "http://localhost:2", "mine", Timeout(), Settings.resolve(environ={}).max_response_bytes
    )


def test_an_empty_token_in_the_environment_counts_as_none() -> None:
    assert Settings.resolve(environ={"LENSMOUNT_TOKEN": ""}).token is None


def test_a_token_over_http_to_another_machine_is_refused() -> None:
    with pytest.raises(InsecureTransport, match=r"--insecure"):
        Client("http://gpu-box:8000", token="t")


@pytest.mark.parametrize("url", ["https://gpu-box", "http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost"])
def test_a_token_may_be_sent_encrypted_or_to_the_same_machine(url: str) -> None:
    assert Settings.resolve(url, "t", environ={}).token == "t"


def test_insecure_allows_a_token_over_http() -> None:
    assert Settings.resolve("http://gpu-box", "t", insecure=True, environ={}).token == "t"


@pytest.mark.parametrize("host", ["localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0", ""])
def test_names_that_only_look_local_are_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "url",
    [
        "gpu-box:port",
        "ftp://gpu-box",
        "http://",
        "http://u:p@gpu-box",
        "http://gpu-box?x=1",
        "http://[",
        "http://a b",
        "javascript:alert(1)",
        "user:password@gpu-box:8000",
        "://gpu-box",
        ":8000",
    ],
)
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match=r"base_url"):
        Settings.resolve(url, environ={})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("gpu-box:8000", "http://gpu-box:8000"),
        ("gpu-box", "http://gpu-box"),
        (" localhost:8000 ", "http://localhost:8000"),
        ("10.0.0.1:80", "http://10.0.0.1"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("::1", "http://[::1]"),
        ("gpu-box:8000/lensmount", "http://gpu-box:8000/lensmount"),
    ],
)
def test_http_is_assumed_if_no_scheme_is_given(text: str, url: str) -> None:
    assert Settings.resolve(text, environ={}).base_url == url
    assert Settings.resolve(environ={"LENSMOUNT_URL": text}).base_url == url


def test_a_token_is_not_sent_unencrypted_if_the_scheme_is_only_assumed() -> None:
    with pytest.raises(InsecureTransport, match="gpu-box"):
        Settings.resolve("gpu-box:8000", "t", environ={})
    assert Settings.resolve("localhost:8000", "t", environ={}).base_url == "http://localhost:8000"


@pytest.mark.parametrize("token", ["a b", "a\nb", "é", " x"])
def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(InvalidSettings, match=r"token") as caught:
        Settings.resolve(token=token, environ={})
    assert token not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), Timeout(read_s=0)])
def test_timeouts_are_above_zero(timeout: float | Timeout) -> None:
    with pytest.raises(InvalidSettings, match=r"timeout"):
        Settings.resolve(timeout=timeout, environ={})


def test_the_token_does_not_show_in_a_repr() -> None:
    assert "hunter2" not in repr(Settings.resolve(token="hunter2", environ={}))


@pytest.mark.parametrize("url", ["https://127.0.0.1:8000", "http://gpu-box:8000", "https://gpu-box:8000"])
def test_certificates_are_checked_wherever_tls_can_occur(url: str) -> None:
    assert Settings.resolve(url, environ={}).httpx_options()["verify"] is True


def test_without_tls_no_certificates_are_read_and_none_would_be_trusted() -> None:
    context = Settings.resolve("http://127.0.0.1:8000", environ={}).httpx_options()["verify"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.get_ca_certs() == []
