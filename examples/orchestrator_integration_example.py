"""One turn after another with AgentOrchestrator, offline: a WAV with a question in, a WAV with the answer out.

    python orchestrator_integration_example.py                         # it speaks its own questions
    python orchestrator_integration_example.py question.wav --save answer.wav
    python orchestrator_integration_example.py --say "When is the application deadline?"

It needs `pip install "antiphon[local]"` and neither a key nor a network. To use services of your own, pass any object
with `speech_to_text`, `chat` and `text_to_speech` instead of the three modules made in `offline_modules`; with a key
of Sarvam's, `sarvam = antiphon.SarvamAI()` is one. Status 0: every question was answered in speech.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from pathlib import Path

from antiphon import AntiphonError
from antiphon.audio_utils import mulaw_to_wav, wav_to_mulaw
from antiphon.facade.ports_as_modules import ResponderModule, SynthesizerModule, TranscriberModule
from antiphon.providers.registry import load
from orchestrator import AgentOrchestrator, MetricsCollector

QUESTIONS = ("What are the admission requirements?", "And for international students?", "When is the deadline?")


def offline_modules() -> tuple[TranscriberModule, ResponderModule, SynthesizerModule]:
    """Hears, answers from the demo knowledge base, and speaks, all on this machine."""
    return (
        TranscriberModule(load("stt", "pocketsphinx")),
        ResponderModule(load("llm", "extractive"), retriever=load("retrieval", "lexical")),
        SynthesizerModule(load("tts", "espeak")),
    )


async def converse(arguments: argparse.Namespace) -> int:
    stt, llm, tts = offline_modules()
    metrics = MetricsCollector()
    answered = 0
    async with AgentOrchestrator(
        stt,
        llm,
        tts,
        max_history=10,
        default_language=arguments.language,
        system_prompt="You answer callers of an admissions office.",
        metrics_collector=metrics,
        enable_circuit_breaker=True,
        call_id="example",
    ) as orchestrator:
        if arguments.wav:
            questions = [await asyncio.to_thread(Path(arguments.wav).read_bytes)]
        else:
            spoken = [await tts.text_to_speech(text, arguments.language) for text in arguments.say or QUESTIONS]
            # As a telephone line would bring it: mu-law of 8 kHz, then the 16 kHz that recognisers like.
            questions = [mulaw_to_wav(wav_to_mulaw(wav)) for wav in spoken]
        for question in questions:
            result = await orchestrator.process_turn(question)
            if result.get("error"):
                print("error:   ", result["error"])
                continue
            print("heard:   ", result["text"])
            print("answer:  ", result["response"])
            print("language:", result["language"])
            print("metrics: ", {name: round(value, 3) for name, value in result["metrics"].items()})
            if result.get("audio"):
                answered += 1
                print("audio:   ", len(result["audio"]), "bytes of WAV")
                if arguments.save:
                    await asyncio.to_thread(Path(arguments.save).write_bytes, result["audio"])
            print()
        print(json.dumps(orchestrator.get_status(), indent=2))
    print()
    print(metrics.generate_report())
    return 0 if answered == len(questions) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wav", nargs="?", help="a recording of one question; without it the example speaks its own")
    parser.add_argument("--say", action="append", metavar="TEXT", help="a question to speak and ask; may be repeated")
    parser.add_argument("--language", default="en-IN", help="the offline recogniser hears English only")
    parser.add_argument("--save", metavar="FILE", help="write the last answer's WAV here")
    parser.add_argument("--verbose", action="store_true", help="show every step of a turn")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.WARNING, format="%(levelname)s %(message)s"
    )
    try:
        return asyncio.run(converse(arguments))
    except OSError as error:
        print(f"{arguments.wav or arguments.save}: {error.strerror or error}", file=sys.stderr)
        return 2
    except AntiphonError as error:  # a language that is not offered, a part that is not installed
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
