"""The asynchronous client, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
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
from lensmount_client._http.concurrency import abounded_map
from lensmount_client._http.operation import arun_operation
from lensmount_client._http.owner import Owner
from lensmount_client._http.response import Receiver, Response
from lensmount_client._http.retry import RetryPolicy
from lensmount_client._http.settings import DEFAULT_MAX_RESPONSE_BYTES, Settings, Timeout
from lensmount_client._http.trace import trace_headers
from lensmount_client._reference import ALWAYS, checked_decision
from lensmount_client._resources.adapters import AsyncAdapters
from lensmount_client._resources.batch import AsyncBatch
from lensmount_client._resources.datasets import AsyncDatasets
from lensmount_client._resources.evaluation import OF_THE_IMAGE, acollected, first_answer, question
from lensmount_client._resources.job_events import EventFeed
from lensmount_client._resources.jobs import AsyncJobs
from lensmount_client._resources.many import (
    AsyncOutcomes,
    Outcome,
    adapter_list,
    checked_concurrency,
    failed,
    many_inputs,
    succeeded,
)
from lensmount_client._resources.pools import AsyncPools
from lensmount_client._resources.rollouts import AsyncRollouts
from lensmount_client._resources.teaching import Teaching, checked_task, taught
from lensmount_client._resources.tokens import AsyncTokens
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


class AsyncClient:
    """Like `Client`, with coroutines as methods.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            print((await client.predict("cell.png", adapter="malaria")).top.label)
            async for outcome in client.predict_many("slides/", adapter="malaria"):
                print(outcome)

    Image files are read in threads, so that the event loop is not blocked. Needs asyncio.
    """

    adapters: AsyncAdapters
    datasets: AsyncDatasets
    jobs: AsyncJobs

    def __init__(
        self,
        base_url: str | None = None,
        *,
        token: str | None = None,
        timeout: Timeout | float = Timeout(),
        retries: RetryPolicy | int = 3,
        insecure: bool = False,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._settings = Settings.resolve(
            base_url, token, timeout=timeout, max_response_bytes=max_response_bytes, insecure=insecure
        )
        self._policy = retries if isinstance(retries, RetryPolicy) else RetryPolicy(retries)
        self._sleep = sleep
        self._owner = Owner()
        self._http = httpx.AsyncClient(transport=transport, **self._settings.httpx_options())
        self.adapters = AsyncAdapters(self._call)
        self.datasets = AsyncDatasets(self._call)
        self.jobs = AsyncJobs(self._call, self._follow)
        self.batch = AsyncBatch(self._call, sleep, self.jobs)
        self.pools = AsyncPools(self._call)
        self.rollouts = AsyncRollouts(self._call)
        self.tokens = AsyncTokens(self._call)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; `async with` does it for you."""
        await self._http.aclose()

    @overload
    async def predict(
        self,
        image: ImageInput,
        adapter: str,
        *,
        top_k: int = 5,
        decision: str = ALWAYS,
        headers: Mapping[str, str] | None = None,
    ) -> Prediction: ...
    @overload
    async def predict(
        self,
        image: ImageInput,
        adapter: list[str] | tuple[str, ...],
        *,
        top_k: int = 5,
        decision: str = ALWAYS,
        headers: Mapping[str, str] | None = None,
    ) -> Predictions: ...
    async def predict(
        self,
        image: ImageInput,
        adapter: str | list[str] | tuple[str, ...],
        *,
        top_k: int = 5,
        decision: str = ALWAYS,
        headers: Mapping[str, str] | None = None,
    ) -> Prediction | Predictions:
        """See `Client.predict`."""
        adapters = adapter_list(adapter)
        content = await asyncio.to_thread(image_bytes, image)
        timeout_s = self._settings.prediction_timeout_s
        predictions = await self._call(predict.predict(content, adapters, top_k, decision, timeout_s, headers))
        predictions[0].with_image(content)
        return predictions[0] if isinstance(adapter, str) else predictions

    async def segment(self, image: ImageInput, adapter: str) -> Segmentation:
        """See `Client.segment`."""
        content = await asyncio.to_thread(image_bytes, image)
        return await self._call(masks.segment(content, adapter, self._settings.prediction_timeout_s))

    async def mask_png(self, image: ImageInput, adapter: str) -> bytes:
        """See `Client.mask_png`."""
        content = await asyncio.to_thread(image_bytes, image)
        return await self._call(masks.mask_png(content, adapter, self._settings.prediction_timeout_s))

    async def polygons(self, image: ImageInput, adapter: str) -> Mapping[str, Any]:
        """See `Client.polygons`."""
        content = await asyncio.to_thread(image_bytes, image)
        return await self._call(masks.polygons(content, adapter, self._settings.prediction_timeout_s))

    async def explain(
        self, image: ImageInput, adapter: str, *, label: str | None = None, method: str = "cam"
    ) -> Explanation:
        """See `Client.explain`."""
        content = await asyncio.to_thread(image_bytes, image)
        question = Question(adapter, label, method, self._settings.prediction_timeout_s)
        return await self._call(explain.explain(content, question))

    async def explanation_png(
        self, image: ImageInput, adapter: str, *, label: str | None = None, method: str = "cam"
    ) -> bytes:
        """See `Client.explanation_png`."""
        content = await asyncio.to_thread(image_bytes, image)
        question = Question(adapter, label, method, self._settings.prediction_timeout_s)
        return await self._call(explain.explanation_png(content, question))

    async def feedback(
        self, image: ImageInput | None, adapter: str, label: str, *, who: str, request_id: str | None = None
    ) -> Feedback:
        """See `Client.feedback`."""
        content = b"" if image is None else await asyncio.to_thread(image_bytes, image)
        return await self._call(labelling.feedback(content, adapter, label, who, request_id))

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
    ) -> AsyncOutcomes:
        """See `Client.predict_many`. Leaving the loop early cancels the requests in progress."""
        adapters = adapter_list(adapter)
        checked_decision(decision)
        own = predict.checked_headers(headers or {})
        sources, total = many_inputs(inputs)

        async def outcomes_of(source: ImageInput) -> list[Outcome]:
            try:
                content = await asyncio.to_thread(image_bytes, source)
                timeout_s = self._settings.prediction_timeout_s
                predictions = await self._call(predict.predict(content, adapters, top_k, decision, timeout_s, own))
                return succeeded(source, adapters, predictions)
            except LensmountError as error:
                return failed(source, adapters, error)

        results = abounded_map(outcomes_of, sources, concurrency=checked_concurrency(concurrency), ordered=ordered)
        return AsyncOutcomes(self._reported(results, progress, total))

    async def teach(
        self,
        path: str | Path,
        name: str,
        *,
        progress: bool | TeachReport = False,
        timeout_s: float | None = None,
        class_depth: int | None = None,
        **options: Unpack[JobOptions],
    ) -> Taught:
        """See `Client.teach`."""
        checked_task(path, name)
        teaching = Teaching(progress)
        dataset = await self.datasets.push(path, name, teaching.upload, class_depth)
        job = await self.jobs.submit(dataset, name, **options)
        teaching.submitted(job.info)
        return taught(dataset, await job.wait(teaching.training, timeout_s))

    async def evaluate(
        self,
        adapter: str,
        path: str | Path,
        *,
        split: str | None = None,
        class_depth: int | None = None,
        concurrency: int = 8,
        progress: bool | Report = False,
    ) -> Evaluation:
        """See `Client.evaluate`."""
        folder = await asyncio.to_thread(labelled_folder, path, split, class_depth)
        limit_s = self._settings.prediction_timeout_s
        tally, seen = await arun_operation(first_answer(folder, adapter, limit_s), self._call)

        async def answer(image: Labelled) -> Prediction | LensmountError:
            try:
                call = await asyncio.to_thread(question, folder, image, tally, limit_s)
                return (await self._call(call))[0]
            except OF_THE_IMAGE as error:
                return error

        several = checked_concurrency(concurrency)
        answers = abounded_map(answer, folder.images[seen:], concurrency=several, ordered=True)
        return await acollected(folder, tally, seen, answers, progress)

    async def health(self) -> Health:
        """See `Client.health`."""
        return await self._call(server.health())

    async def limits(self) -> Mapping[str, Any]:
        """See `Client.limits`."""
        return await self._call(server.limits())

    async def integrity(self) -> Integrity:
        """See `Client.integrity`."""
        return await self._call(server.integrity())

    async def whoami(self) -> WhoAmI:
        """See `Client.whoami`."""
        return await self._call(token_calls.whoami())

    async def audit(
        self,
        since: datetime | None = None,
        *,
        actor: str | None = None,
        action: str | None = None,
        limit: int | None = None,
    ) -> list[AuditRecord]:
        """See `Client.audit`."""
        return await arun_operation(audit_calls.audit(since, actor, action, limit), self._call)

    async def audit_page(self, since: datetime | None = None, *, after: str | None = None) -> AuditPage:
        """See `Client.audit_page`."""
        return await self._call(audit_calls.audit_page(since, after))

    @staticmethod
    async def _reported(
        results: AsyncGenerator[list[Outcome], None], progress: bool | Report, total: int | None
    ) -> AsyncGenerator[Outcome, None]:
        done = 0
        with reporting(progress, total) as report:
            async with aclosing(results):
                async for outcomes in results:
                    for outcome in outcomes:
                        yield outcome
                    done += 1
                    report(done, total)

    async def _call(self, call: Call[T]) -> T:
        attempts = send_with_retries(call, self._policy, self._settings.base_url)
        try:
            action = next(attempts)
            while True:
                if isinstance(action, Wait):
                    await self._sleep(action.seconds)
                    action = next(attempts)
                    continue
                try:
                    response = await self._send_once(call)
                except httpx.RequestError as error:
                    action = attempts.throw(error)
                else:
                    action = attempts.send(response)
        except StopIteration as stop:
            return cast(T, stop.value)

    async def _follow(self, feed: EventFeed) -> AsyncGenerator[JobEvent, None]:
        while (wait_s := feed.wait_s) is not None:
            if wait_s:
                await self._sleep(wait_s)
            try:
                async with aclosing(self._listen(feed)) as events:
                    async for event in events:
                        yield event
            except httpx.RequestError as error:
                feed.lost(error, self._policy, self._settings.base_url)

    async def _listen(self, feed: EventFeed) -> AsyncGenerator[JobEvent, None]:
        read_s = feed.read_s(self._settings.timeout.read_s)
        request = self._request("GET", feed.path, read_s, headers=feed.headers())
        response = await self._http.send(request, stream=True)
        try:
            if not feed.opened(response.status_code, response.headers):
                receiver = Receiver(response.status_code, response.headers, None, self._settings.max_response_bytes)
                async for chunk in response.aiter_bytes():
                    receiver.feed(chunk)
                feed.refused(receiver.response(), self._policy)
                return
            async for chunk in response.aiter_bytes():
                for event in feed.take(chunk):
                    yield event
                if feed.wait_s is None:
                    return
            feed.lost(None, self._policy, self._settings.base_url)
        finally:
            await response.aclose()

    def _request(self, method: str, path: str, read_s: float | None, **options: Any) -> httpx.Request:
        self._owner.require(self._http.is_closed, asyncio.get_running_loop())
        options["headers"] = trace_headers() | dict(options.get("headers", {}))
        return self._http.build_request(method, path, timeout=self._settings.httpx_timeout(read_s), **options)

    async def _send_once(self, call: Call[Any]) -> Response:
        request = self._request(call.method, call.path, call.read_s, **call.httpx_options())
        response = await self._http.send(request, stream=True)
        try:
            limit_bytes = call.limit_bytes or self._settings.max_response_bytes
            receiver = Receiver(response.status_code, response.headers, call.sink, limit_bytes)
            async for chunk in response.aiter_bytes():
                receiver.feed(chunk)
            return receiver.response()
        finally:
            await response.aclose()
