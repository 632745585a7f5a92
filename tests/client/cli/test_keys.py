from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def sent(server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str | None]:
    """The header with the signature of each request. The working folder is empty."""
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    monkeypatch.chdir(tmp_path)
    seen: list[str | None] = []
    answer = server.answer

    def noted(method: str, target: str, body: bytes, headers: Any) -> Any:
        seen.append(headers.get("Lensmount-Signature"))
        return answer(method, target, body, headers)

    monkeypatch.setattr(server, "answer", noted)
    return seen


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (path := tmp_path / "pets.safetensors").write_bytes(b"an adapter")
    return path


def test_a_key_is_made_shown_and_used(lensmount: Any, sent: list[str | None], file: Path) -> None:
    code, line, told = lensmount("keys", "create", "Lab A", "--out", "reader1.key")
    assert (code, line[:8]) == (0, "ed25519 ")
    assert line.endswith(" Lab A\n")
    assert "reader1.key is the private key" in told
    assert lensmount("keys", "show", "reader1.key", "--name", "Lab A") == (0, line, "")

    assert lensmount("adapters", "push", str(file), "--key", "reader1.key")[0] == 0
    signed = lensmount("adapters", "sign", str(file), "--key", "reader1.key")[1].strip()
    assert Path("pets.safetensors.sig").read_text() == f"{signed}\n"
    assert lensmount("adapters", "push", str(file))[0] == 0  # which finds pets.safetensors.sig

    assert sent == [signed, signed]
    assert signed.startswith("keyid=")


def test_a_file_without_a_signature_is_sent_without_one(lensmount: Any, sent: list[str | None], file: Path) -> None:
    assert lensmount("adapters", "push", str(file))[0] == 0
    assert sent == [None]


def test_a_key_that_is_there_is_not_replaced(lensmount: Any, sent: list[str | None]) -> None:
    assert lensmount("keys", "create", "reader1")[0] == 0
    code, out, err = lensmount("keys", "create", "reader1")
    assert (code, out) == (1, "")
    assert "no key was written. Fix: choose another --out" in err
    assert lensmount("adapters", "push", "pets.safetensors", "--key", "none.key")[0] == 2
