"""LiveKit Agents plugins as providers: any vendor that LiveKit covers and Antiphon does not.

``[stt]``, ``[llm]`` and ``[tts]`` take ``provider = "livekit"`` with the plugin's class as a setting. A program that
has such an object already makes a provider of it with the functions here::

    from livekit.plugins import deepgram
    ear = adapt_stt(deepgram.STT(model="nova-3"))

The object stays its maker's: closing the provider does not close it. ``settings`` are those of the kind
(``LivekitTranscriberSettings``, ``LivekitResponderSettings``, ``LivekitSynthesizerSettings``).
"""

from __future__ import annotations

from antiphon.providers.livekit_plugin import NAME
from antiphon.providers.llm.livekit import LivekitResponder, LivekitResponderSettings
from antiphon.providers.settings import convert
from antiphon.providers.stt.livekit import LivekitTranscriber, LivekitTranscriberSettings
from antiphon.providers.tts.livekit import LivekitSynthesizer, LivekitSynthesizerSettings


def adapt_stt(stt: object, **settings: object) -> LivekitTranscriber:
    """A ``Transcriber`` over a ``livekit.agents.stt.STT``.

    Raises ``ConfigError`` for settings that cannot be; ``start`` does for an object of another kind.
    """
    return LivekitTranscriber(convert(settings, LivekitTranscriberSettings, f"[stt] {NAME}"), given=stt)


def adapt_llm(llm: object, **settings: object) -> LivekitResponder:
    """A ``Responder`` over a ``livekit.agents.llm.LLM``. Raises like ``adapt_stt``."""
    return LivekitResponder(convert(settings, LivekitResponderSettings, f"[llm] {NAME}"), given=llm)


def adapt_tts(tts: object, **settings: object) -> LivekitSynthesizer:
    """A ``Synthesizer`` over a ``livekit.agents.tts.TTS``. Raises like ``adapt_stt``."""
    return LivekitSynthesizer(convert(settings, LivekitSynthesizerSettings, f"[tts] {NAME}"), given=tts)
