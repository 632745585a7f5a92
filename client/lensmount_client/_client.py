"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack, cast, overload

import httpx

from lensmount_client._api import audit as audit_calls
from lensmount_client._api import explain, labelling, masks, predict, server
from lensmount_client._api import tokens as token_calls
from lensmount_client._api.explain import Question
from lensmount_client._api.explanation import Explanation
from lensmount_client._api.segmentation import Segmentation
from lensmount_client._errors import LensmountError
from lensmount_client._files.image import image_bytes
from lensmount_client._files.labelled_folder import labelled_folder
from lensmount_client._files.layout import Labelled
from lensmount_client._http.call import Call, Wait, send_with_retries
from lensmount_client._http.concurrency import bounded_map
from lensmount_client._http.operation import run_operation
from lensmount_client._http.owner import Owner
from lensmount_client._http.response import Receiver, Response
from lensmount_client._http.retry import RetryPolicy
from lensmount_client._http.settings import DEFAULT_MAX_RESPONSE_BYTES, Settings, Timeout
from lensmount_client._http.trace import trace_headers
from lensmount_client._reference import ALWAYS, checked_decision
from lensmount_client._resources.adapters import Adapters
from lensmount_client._resources.batch import Batch
from lensmount_client._resources.datasets import Datasets
from lensmount_client._resources.evaluation import OF_THE_IMAGE, collected, first_answer, question
from lensmount_client._resources.job_events import EventFeed
from lensmount_client._resources.jobs import Jobs
from lensmount_client._resources.many import (
    Outcome,
    Outcomes,
    adapter_list,
    checked_concurrency,
    failed,
    many_inputs,
    succeeded,
)
from lensmount_client._resources.pools import Pools
from lensmount_client._resources.rollouts import Rollouts
from lensmount_client._resources.teaching import Teaching, checked_task, taught
from lensmount_client._resources.tokens import Tokens
from lensmount_client._show.progress import reporting
from lensmount_client._types.access import AuditPage, AuditRecord, WhoAmI
from lensmount_client._types.datasets import Feedback
from lensmount_client._types.evaluation import Evaluation
from lensmount_client._types.inputs import ImageInput
from lensmount_client._types.job_options import JobOptions
from lensmount_client._types.jobs import JobEvent
from lensmount_client._types.predictions import Prediction, Predictions
from lensmount_client._types.progress import Report
from lensmount_client._types.results import Health, Integrity
from lensmount_client._types.taught import Taught, TeachReport

T = TypeVar("T")


class Client:
    """Talk to a lensmount server.

        with Client("http://127.0.0.1:8000") as client:
            print(client.predict("cell.png", adapter="malaria").top.label)

    `base_url` and `token` default to LENSMOUNT_URL (if unset, http://127.0.0.1:8000) and LENSMOUNT_TOKEN. A token
    over http:// to another machine raises InsecureTransport unless `insecure=True`. Redirects are never
    followed. A client may be shared between threads. All errors are LensmountErrors.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        token: str | None = None,
        timeout: Timeout | float = Timeout(),
        retries: RetryPolicy | int = 3,
        insecure: bool = False,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._settings = Settings.resolve(
            base_url, token, timeout=timeout, max_response_bytes=max_response_bytes, insecure=insecure
        )
        self._policy = retries if isinstance(retries, RetryPolicy) else RetryPolicy(retries)
        self._sleep = sleep
        self._owner = Owner()
        self._http = httpx.Client(transport=transport, **self._settings.httpx_options())
        self.adapters = Adapters(self._call)
        self.datasets = Datasets(self._call)
        self.jobs = Jobs(self._call, self._follow)
        self.batch = Batch(self._call, sleep, self.jobs)
        self.pools = Pools(self._call)
        self.rollouts = Rollouts(self._call)
        self.tokens = Tokens(self._call)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; `with` does it for you."""
        self._http.close()

    @overload
    def predict(
        self,
        image: ImageInput,
        adapter: str,
        *,
        top_k: int = 5,
        decision: str = ALWAYS,
        headers: Mapping[str, str] | None = None,
    ) -> Prediction: ...
    @overload
    def predict(
        self,
        image: ImageInput,
        adapter: list[str] | tuple[str, ...],
        *,
        top_k: int = 5,
        decision: str = ALWAYS,
        headers: Mapping[str, str] | None = None,
    ) -> Predictions: ...
    def predict(
        self,
        image: ImageInput,
        adapter: str | list[str] | tuple[str, ...],
        *,
        top_k: int = 5,
        decision: str = ALWAYS,
        headers: Mapping[str, str] | None = None,
    ) -> Prediction | Predictions:
        """The `top_k` best classes of one image. With a list of adapters: one prediction for each.

        `image` is a path, bytes, a binary file, a PIL image, a numpy uint8 array [H, W, 3] or a torch uint8 tensor
        [3, H, W]; `adapter` is `name`, `name@3`, `name@sha256:...` or `name:alias`. Several adapters run the layers of
        the backbone that they share only once. `prediction.trust` says whether the answer can be relied on.
        With decision="strict" there is no label where it cannot: `label` is None, and `abstained` says why.
        `headers` go with the request, such as {"X-Patient": "7"} for a rollout whose key is that header.
        """
        adapters, content = adapter_list(adapter), image_bytes(image)
        timeout_s = self._settings.prediction_timeout_s
        predictions = self._call(predict.predict(content, adapters, top_k, decision, timeout_s, headers))
        predictions[0].with_image(content)
        return predictions[0] if isinstance(adapter, str) else predictions

    def segment(self, image: ImageInput, adapter: str) -> Segmentation:
        """The masks of one image with a segmentation adapter: areas, counts, run lengths, and an overlay."""
        return self._call(masks.segment(image_bytes(image), adapter, self._settings.prediction_timeout_s))

    def mask_png(self, image: ImageInput, adapter: str) -> bytes:
        """A PNG of the image's size: value 0 is background, value i is the i-th label of the segmentation adapter."""
        return self._call(masks.mask_png(image_bytes(image), adapter, self._settings.prediction_timeout_s))

    def polygons(self, image: ImageInput, adapter: str) -> Mapping[str, Any]:
        """A GeoJSON FeatureCollection in pixels: one polygon per region of the segmentation adapter's masks."""
        return self._call(masks.polygons(image_bytes(image), adapter, self._settings.prediction_timeout_s))

    def explain(self, image: ImageInput, adapter: str, *, label: str | None = None, method: str = "cam") -> Explanation:
        """Which parts of one image speak for a label, by default the one with the best score.

        `method` is "cam" (one pass), "layercam" (a finer grid) or "occlusion" (every backbone; 50 passes).
        """
        question = Question(adapter, label, method, self._settings.prediction_timeout_s)
        return self._call(explain.explain(image_bytes(image), question))

    def explanation_png(
        self, image: ImageInput, adapter: str, *, label: str | None = None, method: str = "cam"
    ) -> bytes:
        """A PNG of the image with what `explain` finds over it, drawn by the server."""
        question = Question(adapter, label, method, self._settings.prediction_timeout_s)
        return self._call(explain.explanation_png(image_bytes(image), question))

    def feedback(
        self, image: ImageInput | None, adapter: str, label: str, *, who: str, request_id: str | None = None
    ) -> Feedback:
        """Tell the server the right label of an image for which `adapter` gave a wrong one.

        The server keeps the image in the pool ADAPTER-feedback. `request_id` is that of the answer. Soon after
        the answer to one image, `image` may be None: the server still has it, or raises ImageNotKept. Raises
        FeedbackOff unless the server's operator allows it.
        """
        content = b"" if image is None else image_bytes(image)
        return self._call(labelling.feedback(content, adapter, label, who, request_id))

    def predict_many(
        self,
        inputs: Iterable[ImageInput] | str | Path,
        adapter: str | Sequence[str],
        *,
        top_k: int = 5,
        decision: str = ALWAYS,
        concurrency: int = 8,
        ordered: bool = True,
        progress: bool | Report = False,
        headers: Mapping[str, str] | None = None,
    ) -> Outcomes:
        """Yield an Outcome for each image and adapter, in input order, or as they finish if not `ordered`.

        `inputs` is an iterable of images, a folder or a pattern such as "slides/**/*.png". An image that
        fails yields an Outcome with its error, and the run continues. At most `concurrency` requests are in
        progress, and `inputs` is consumed only a few images ahead. `progress` draws a bar, or is called with
        (images done, images in total or None). Leaving the loop early waits for the requests in progress. `headers`
        go with every request, as with `predict`.
        """
        adapters = adapter_list(adapter)
        checked_decision(decision)
        own = predict.checked_headers(headers or {})
        sources, total = many_inputs(inputs)
        timeout_s = self._settings.prediction_timeout_s

        def outcomes_of(source: ImageInput) -> list[Outcome]:
            try:
                call = predict.predict(image_bytes(source), adapters, top_k, decision, timeout_s, own)
                return succeeded(source, adapters, self._call(call))
            except LensmountError as error:
                return failed(source, adapters, error)

        results = bounded_map(outcomes_of, sources, concurrency=checked_concurrency(concurrency), ordered=ordered)
        return Outcomes(self._reported(results, progress, total))

    def teach(
        self,
        path: str | Path,
        name: str,
        *,
        progress: bool | TeachReport = False,
        timeout_s: float | None = None,
        class_depth: int | None = None,
        **options: Unpack[JobOptions],
    ) -> Taught:
        """From a folder of images to a live adapter, in one call: upload, train, wait. Returns when it is live.

        `path` is what `datasets.push` takes: one folder of images per class, for example. The dataset on the server and
        the adapter get `name`. `options` are those of a job, such as `epochs=30` or `augment="microscopy"`; omitted
        ones use the server's defaults. `progress` draws bars on stderr, or is called with each TeachProgress. The job
        continues after a WaitTimeout (`timeout_s`) and when the program ends. Raises DatasetRejected, JobFailed,
        JobCancelled, NotPublished if the adapter is worse than the current version, InvalidInput.
        """
        checked_task(path, name)
        teaching = Teaching(progress)
        dataset = self.datasets.push(path, name, teaching.upload, class_depth)
        job = self.jobs.submit(dataset, name, **options)
        teaching.submitted(job.info)
        return taught(dataset, job.wait(teaching.training, timeout_s))

    def evaluate(
        self,
        adapter: str,
        path: str | Path,
        *,
        split: str | None = None,
        class_depth: int | None = None,
        concurrency: int = 8,
        progress: bool | Report = False,
    ) -> Evaluation:
        """Compare the answers of one version with the labels of a folder: one folder of images per class, for example.

        The images go through `predict`, so the figures are those of the live adapter. `split` takes one part of a
        folder that states its parts. `progress` is as for `predict_many`. Images that cannot be read are listed in
        `failed`, and every other error ends it. Raises InvalidInput for a label that the adapter lacks.
        """
        folder = labelled_folder(path, split, class_depth)
        limit_s = self._settings.prediction_timeout_s
        tally, seen = run_operation(first_answer(folder, adapter, limit_s), self._call)

        def answer(image: Labelled) -> Prediction | LensmountError:
            try:
                return self._call(question(folder, image, tally, limit_s))[0]
            except OF_THE_IMAGE as error:
                return error

        several = checked_concurrency(concurrency)
        answers = bounded_map(answer, folder.images[seen:], concurrency=several, ordered=True)
        return collected(folder, tally, seen, answers, progress)

    def health(self) -> Health:
        """Check that the server is ready for requests. Raises ServerUnreachable or Unavailable, without a retry."""
        return self._call(server.health())

    def limits(self) -> Mapping[str, Any]:
        """The limits that the server enforces, by name."""
        return self._call(server.limits())

    def integrity(self) -> Integrity:
        """Let the server hash its live backbone and compare the result with the original bytes."""
        return self._call(server.integrity())

    def whoami(self) -> WhoAmI:
        """Who the server takes this client for, what it may do, and what it has used of its quotas."""
        return self._call(token_calls.whoami())

    def audit(
        self,
        since: datetime | None = None,
        *,
        actor: str | None = None,
        action: str | None = None,
        limit: int | None = None,
    ) -> list[AuditRecord]:
        """Who did what since then, oldest first; by default in the last day. Needs the scope admin.

        `actor` is the name of a token, `action` a route such as "PUT /adapters/{name}".
        """
        return run_operation(audit_calls.audit(since, actor, action, limit), self._call)

    def audit_page(self, since: datetime | None = None, *, after: str | None = None) -> AuditPage:
        """One page of the audit log: from a time, by default a day ago, or behind the `end` of another page.

        Raises AuditGone if the server no longer keeps the records behind that end.
        """
        return self._call(audit_calls.audit_page(since, after))

    @staticmethod
    def _reported(
        results: Generator[list[Outcome], None, None], progress: bool | Report, total: int | None
    ) -> Generator[Outcome, None, None]:
        with reporting(progress, total) as report, closing(results):
            for done, outcomes in enumerate(results, start=1):
                yield from outcomes
                report(done, total)

    def _call(self, call: Call[T]) -> T:
        attempts = send_with_retries(call, self._policy, self._settings.base_url)
        try:
            action = next(attempts)
            while True:
                if isinstance(action, Wait):
                    self._sleep(action.seconds)
                    action = next(attempts)
                    continue
                try:
                    response = self._send_once(call)
                except httpx.RequestError as error:
                    action = attempts.throw(error)
                else:
                    action = attempts.send(response)
        except StopIteration as stop:
            return cast(T, stop.value)

    def _follow(self, feed: EventFeed) -> Generator[JobEvent, None, None]:
        while (wait_s := feed.wait_s) is not None:
            if wait_s:
                self._sleep(wait_s)
            try:
                yield from self._listen(feed)
            except httpx.RequestError as error:
                feed.lost(error, self._policy, self._settings.base_url)

    def _listen(self, feed: EventFeed) -> Generator[JobEvent, None, None]:
        read_s = feed.read_s(self._settings.timeout.read_s)
        request = self._request("GET", feed.path, read_s, headers=feed.headers())
        response = self._http.send(request, stream=True)
        try:
            if not feed.opened(response.status_code, response.headers):
                receiver = Receiver(response.status_code, response.headers, None, self._settings.max_response_bytes)
                for chunk in response.iter_bytes():
                    receiver.feed(chunk)
                feed.refused(receiver.response(), self._policy)
                return
            for chunk in response.iter_bytes():
                yield from feed.take(chunk)
                if feed.wait_s is None:
                    return
            feed.lost(None, self._policy, self._settings.base_url)
        finally:
            response.close()

    def _request(self, method: str, path: str, read_s: float | None, **options: Any) -> httpx.Request:
        self._owner.require(self._http.is_closed)
        options["headers"] = trace_headers() | dict(options.get("headers", {}))
        return self._http.build_request(method, path, timeout=self._settings.httpx_timeout(read_s), **options)

    def _send_once(self, call: Call[Any]) -> Response:
        request = self._request(call.method, call.path, call.read_s, **call.httpx_options())
        response = self._http.send(request, stream=True)
        try:
            limit_bytes = call.limit_bytes or self._settings.max_response_bytes
            receiver = Receiver(response.status_code, response.headers, call.sink, limit_bytes)
            for chunk in response.iter_bytes():
                receiver.feed(chunk)
            return receiver.response()
        finally:
            response.close()
