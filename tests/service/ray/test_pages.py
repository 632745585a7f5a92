"""lensmount_service.ray.pages: the metrics of all replicas as one page, read again by Prometheus's own parser."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from lensmount_service.ray.messages import Head
from lensmount_service.ray.pages import joined, merged


def registry(number: float) -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("requests", "How many, by adapter.", ["adapter"], registry=made).labels("a{b},c").inc(number)
    Counter("restarts", "Without labels.", registry=made).inc(number)
    Histogram("seconds", "How long.", buckets=(1.0, 2.0), registry=made).observe(number)
    return made


def test_every_sample_is_there_once_for_each_replica_with_its_value() -> None:
    pages = {name: generate_latest(registry(number)).decode() for name, number in (("r1", 1.0), ("r2", 5.0))}
    families = list(text_string_to_metric_families(joined(pages)))
    assert len({family.name for family in families}) == len(families)
    samples = {
        (sample.name, sample.labels["replica"], sample.labels.get("adapter"), sample.labels.get("le")): sample.value
        for family in families
        for sample in family.samples
    }
    assert samples["requests_total", "r1", "a{b},c", None] == 1.0
    assert samples["requests_total", "r2", "a{b},c", None] == 5.0
    assert samples["restarts_total", "r2", None, None] == 5.0
    assert samples["seconds_bucket", "r1", None, "1.0"] == 1.0
    assert samples["seconds_bucket", "r2", None, "2.0"] == 0.0


def test_a_page_of_openmetrics_ends_once() -> None:
    page = joined({name: generate_openmetrics(registry(1.0)).decode() for name in ("r1", "r2")})
    assert page.count("# EOF") == 1
    assert {family.name for family in read_openmetrics(page)} == {"requests", "restarts", "seconds"}


def test_the_response_has_the_length_of_the_joined_page_and_the_old_page_if_no_replica_answers() -> None:
    head = Head(200, [(b"content-type", b"text/plain"), (b"content-length", b"3")], b"x 1", False, "r1")
    both = merged(head, {"r1": b"x 1\n", "r2": b"x 2\n"})
    assert dict(both.headers) == {b"content-type": b"text/plain", b"content-length": str(len(both.body)).encode()}
    assert both.body == b'x{replica="r1"} 1\nx{replica="r2"} 2\n'
    assert merged(head, {}).body == b"x 1"
