"""Where a provider on the network is: the proxy, and never one for this machine itself."""

import pytest

from antiphon.providers.endpoints import proxy_for


def test_a_proxy_is_used_for_others_and_never_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inner.example")
    proxies = {
        url: proxy_for(url)
        for url in (
            "https://outer.example/v1",
            "https://inner.example/v1",
            "http://localhost:1/v1",
            "http://[::1]:1/v1",
        )
    }
    assert list(proxies.values()) == ["http://proxy:3128", None, None, None]
