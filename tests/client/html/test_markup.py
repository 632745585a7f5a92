"""Markup of notebooks: escaped, and seen on light and dark pages."""

from __future__ import annotations

from lensmount_client._html.markup import BAR, bar, table, text


def test_bars_are_as_wide_as_their_shares_and_say_them() -> None:
    assert "width:25.0%" in bar(0.25, "a")
    assert "width:100.0%" in bar(1.5, "a")
    assert 'aria-label="&lt;b&gt; 25.0%"' in bar(0.25, "<b>")
    assert text("a<b>\"'&") == "a&lt;b&gt;&quot;&#x27;&amp;"
    assert table(("<i>", "n"), [(text("<u>"), "3")], right=(1,)).count("&lt;") == 2


def test_a_bar_is_seen_on_light_and_on_dark_pages() -> None:
    def luminance(red: int, green: int, blue: int) -> float:
        parts = [part / 255 for part in (red, green, blue)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ours = luminance(*bytes.fromhex(BAR[1:]))
    for page in ((255, 255, 255), (17, 17, 17)):
        there = luminance(*page)
        assert (max(ours, there) + 0.05) / (min(ours, there) + 0.05) >= 3  # WCAG 2.2, 1.4.11
