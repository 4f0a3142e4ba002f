"""A voice server as somebody has it, before the quick-start guide: media_stream calls its speech services by itself."""

import asyncio
import base64
import json
import logging

import numpy as np
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from antiphon.audio_utils import encode_mulaw_base64, mulaw_to_wav, wav_to_mulaw
from antiphon.media.codec import mulaw_decode

logger = logging.getLogger("twilio_server")
app = FastAPI()
call_language_map: dict[str, str] = {}
sarvam = None  # the provider object: a test puts its own here


def is_speech(mulaw: bytes) -> bool:
    samples = np.frombuffer(mulaw_decode(mulaw), "<i2").astype(float)
    return bool(np.sqrt((samples**2).mean()) > 500)


@app.websocket("/media-stream")
async def media_stream(websocket: WebSocket) -> None:
    await websocket.accept()
    stream_sid = ""
    call_sid = ""
    language = "en-IN"
    audio_buffer = bytearray()
    silence_buffer = bytearray()
    is_speaking = False
    min_speech_length = 1600
    silence_length = 4000

    async def process_speech_buffer() -> None:
        nonlocal is_speaking
        is_speaking = False
        if len(audio_buffer) < min_speech_length:
            audio_buffer.clear()
            silence_buffer.clear()
            return
        wav_audio = mulaw_to_wav(bytes(audio_buffer))
        audio_buffer.clear()
        silence_buffer.clear()
        if not wav_audio:
            return
        text, _ = await sarvam.speech_to_text(wav_audio, language)
        response = await sarvam.chat([{"role": "user", "content": text}])
        tts_audio = await sarvam.text_to_speech(response, language)
        mulaw_audio = wav_to_mulaw(tts_audio)
        for i in range(0, len(mulaw_audio), 160):
            if websocket.client_state.name != "CONNECTED":
                break
            payload = encode_mulaw_base64(mulaw_audio[i : i + 160])
            media = {"event": "media", "streamSid": stream_sid, "media": {"payload": payload}}
            await websocket.send_text(json.dumps(media))
            await asyncio.sleep(0.02)

    try:
        while True:
            data = json.loads(await asyncio.wait_for(websocket.receive_text(), 300.0))
            if data["event"] == "start":
                stream_sid = data["start"]["streamSid"]
                call_sid = data["start"].get("callSid", "")
                language = call_language_map.get(call_sid, language)
            elif data["event"] == "media":
                chunk = base64.b64decode(data["media"]["payload"])
                if is_speech(chunk):
                    is_speaking = True
                    audio_buffer.extend(silence_buffer)
                    silence_buffer.clear()
                    audio_buffer.extend(chunk)
                elif is_speaking:
                    silence_buffer.extend(chunk)
                    if len(silence_buffer) >= silence_length:
                        await process_speech_buffer()
            elif data["event"] == "stop":
                call_language_map.pop(call_sid, None)
                break
    except TimeoutError:
        logger.warning("No data received for 300 seconds, closing connection")
    except WebSocketDisconnect:
        logger.info("The caller is gone")
