"""The page of a review: each doubtful image with its thumbnail, its label, and the label that is likelier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.report.pictures import picture

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Review of {{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
ul.images { display: flex; flex-wrap: wrap; gap: 1rem; list-style: none; padding: 0 }
ul.images li { width: 9rem; overflow-wrap: anywhere; font-size: 13px }
img { max-width: 128px; display: block }
.flagged { font-weight: bold }
</style></head><body>
<h1>Review of {{ title }}</h1>
<p>{{ review.images }} images, {{ review.checked }} with a label that can be checked.
{% if review.accuracy is not none %}A head on the frozen features gets {{ "%.1f"|format(100 * review.accuracy) }} % of
them right, as a mean over the classes.{% endif %}</p>
<ul>{% for note in review.notes %}<li>{{ note }}</li>{% endfor %}</ul>
{% macro image(path) %}{% set shown = picture(path) %}
{% if shown %}<img src="{{ shown }}" alt="">{% endif %}{{ path }}{% endmacro %}
{% if review.labels %}<h2>Labels: {{ review.flagged }} likely wrong</h2><ul class="images">
{% for item in review.labels %}<li{% if item.flagged %} class="flagged"{% endif %}>{{ image(item.path) }}<br>
{{ item.label }} ({{ "%.2f"|format(item.quality) }}), likelier {{ item.suggested }}</li>{% endfor %}</ul>{% endif %}
{% if review.outliers %}<h2>Outliers: {{ review.outlier_count }}</h2><ul class="images">
{% for item in review.outliers %}<li>{{ image(item.path) }}<br>{{ item.label }}</li>{% endfor %}</ul>{% endif %}
{% if review.look_alikes %}<h2>Pairs that show the same: {{ review.look_alike_count }}</h2>
{% for item in review.look_alikes %}<ul class="images">{% for path in item.paths %}
<li>{{ image(path) }}<br>{{ item.labels[loop.index0] }}{% if item.parts[loop.index0] %}, {{ item.parts[loop.index0] }}
{% endif %}</li>{% endfor %}</ul>{% endfor %}{% endif %}
</body></html>
"""


def write_review_page(path: Path, title: str, review: Mapping[str, Any], read: Callable[[str], bytes]) -> None:
    """Write the page of a review (`Review.to_json`). `read` gives the bytes of an image. One that cannot be read is
    listed without it.

    Raises OSError.
    """
    import jinja2

    template = jinja2.Environment(autoescape=True).from_string(_PAGE)
    page = template.render(title=title, review=review, picture=partial(picture, read))
    write_atomic(path, page.encode("utf-8", "backslashreplace"))
