"""Who is measured, and how they are started: the floor for real, the peers as far as this environment can."""

import ast
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from bench.compare import PAUSES_MS, REALISTIC, Run
from bench.contenders import BY_NAME, CONTENDERS, TRANSCRIPT, compiled, running
from bench.peers import environment
from bench.peers.stub import Loud, Script, script, speech
from bench.server import Delays
from bench.voice import utterances

from antiphon.media.codec import mulaw_decode, mulaw_encode
from antiphon.providers.llm.fake import FakeResponder, FakeResponderSettings
from antiphon.providers.stt.fake import build
from antiphon.providers.tts.fake import speech as fake_speech
from bench import __main__ as command
from bench import contenders, smoke

PEERS = Path(contenders.__file__).parent / "peers"


def test_the_floor_in_c_sends_back_what_it_is_sent(tmp_path):
    bench = Run((0, 0), 1.0, 1.0, warm_s=0.0)
    found = bench.step(BY_NAME["floor-c"], 5, "load", 1)
    assert found.failed_calls == 0
    assert 0 < found.first_audio_p50 <= found.first_audio_p99
    assert found.cpu_ms_per_call_s > 0
    assert compiled() == compiled(), "it is compiled once"
    with running(BY_NAME["floor-picows"], tmp_path, 0) as server:
        assert server.url.startswith("ws://127.0.0.1:")


def test_the_floor_says_what_it_lacks(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "FOLDER", tmp_path)
    monkeypatch.setattr(contenders.shutil, "which", lambda _name: None)
    with pytest.raises(RuntimeError, match="apt-get install gcc"):
        compiled()


def test_a_server_that_does_not_start_shows_its_log(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "python_of", lambda _peer: Path(sys.executable))
    said = r"ended with status 1(?s:.*)No module named 'pipecat'"
    with pytest.raises(RuntimeError, match=said), running(BY_NAME["pipecat"], tmp_path, 0):
        raise AssertionError("it cannot run here")


def test_the_peers_are_imported_by_nobody_here():
    """They run in environments of their own: what they bring may not become a dependency."""
    for path in [*PEERS.parent.glob("*.py"), *PEERS.glob("*.py")]:
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
        if not path.name.endswith("_server.py"):
            assert not names & {"pipecat", "livekit"}, path
        assert not (path.parent == PEERS and path.name.endswith(("_server.py", "stub.py")) and "antiphon" in names)
    loaded = (
        "import sys, bench.__main__; print(sorted({m.split('.')[0] for m in sys.modules} & {'pipecat', 'livekit'}))"
    )
    said = subprocess.run([sys.executable, "-c", loaded], cwd=PEERS.parents[1], stdout=subprocess.PIPE, check=True)
    assert said.stdout.strip() == b"[]"


def test_the_peers_say_what_antiphon_says_at_the_same_times():
    """The stubs of the peers against the fakes that Antiphon is measured with."""
    text = "You need a school certificate and a language test."
    theirs, ours = b"".join(speech(text, 8000)), b"".join(sound.pcm for sound in fake_speech(text, 8000, 60.0))
    assert mulaw_encode(theirs) == mulaw_encode(ours) or abs(len(theirs) - len(ours)) == 0
    difference = max(abs(a - b) for a, b in zip(memoryview(theirs).cast("h"), memoryview(ours).cast("h"), strict=True))
    assert difference <= 1
    told = script(["--port=1", f"--reply={REALISTIC.reply}", "--stt-ms=300", "--partial-ms=150"])
    fake = FakeResponder(FakeResponderSettings(reply=REALISTIC.reply))
    assert told.tokens == [delta.text for delta in fake._set]
    assert [told.partial(ms) for ms in (149, 150, 450, 9999)] == [
        "",
        "what",
        "what are admission",
        "what are admission requirements",
    ]
    assert script(["--port=1", "--reply=x"]).partial(9999) == ""


@pytest.mark.parametrize("frame_ms", [10, 20, 32, 50])
@pytest.mark.parametrize("pauses_ms", [(), *((pause,) for pause in PAUSES_MS)])
def test_the_recognisers_of_all_contenders_tell_a_word_after_the_same_speech(frame_ms, pauses_ms):
    """However it is cut into frames, of the recordings that are measured; and a pause within them finds two words."""
    pcm = b"".join(mulaw_decode(b64decode(frame)) for frame in utterances(pauses_ms)[0].frames)
    told, heard = script(["--port=1", "--reply=x", f"--partial-ms={REALISTIC.partial_ms}"]), []
    ours = build({"partial_ms": REALISTIC.partial_ms, "text": TRANSCRIPT}).open(
        sample_rate=8000, language="en-IN", on_heard=heard.append
    )
    theirs, size = Loud(8000), 16 * frame_ms
    for start in range(0, len(pcm), size):
        ours.feed(pcm[start : start + size])
        partial = told.partial(theirs.feed(pcm[start : start + size]))
        assert partial == (heard[-1].text if heard else "")
        if 1_200 < (start + size) / 16 < 1_200 + sum(pauses_ms):
            assert partial == "what are"
    assert partial == TRANSCRIPT
    theirs.clear()
    assert theirs.feed(bytes(16_000)) == 0


def test_a_peer_is_told_everything_that_it_needs():
    sent = contenders._peer_command(BY_NAME["livekit-vad"], 5000, REALISTIC)
    assert sent[0].endswith("livekit/bin/python")
    assert script(sent[2:]) == Script(
        port=5000,
        variant="vad",
        stt_ms=300.0,
        partial_ms=410.0,
        llm_ms=350.0,
        llm_token_ms=15.0,
        tts_ms=150.0,
        transcript="what are admission requirements",
        reply=REALISTIC.reply,
    )


def test_environments_are_pinned_and_known_to_be_stale(monkeypatch, tmp_path):
    for peer, package in environment.PEERS.items():
        lines = [line for line in (PEERS / f"{peer}.txt").read_text().splitlines() if not line.startswith("#")]
        assert sum(line.startswith(f"{package}==") for line in lines) == 1
        assert all("==" in line or "python_version" in line for line in lines)
    monkeypatch.setattr(environment, "FOLDER", tmp_path)
    assert not environment.is_ready("pipecat")
    (tmp_path / "pipecat").mkdir()
    (tmp_path / "pipecat" / ".made").write_text(environment._wanted("pipecat"))
    assert environment.is_ready("pipecat")
    environment.prepare("pipecat")
    (tmp_path / "pipecat" / ".made").write_text("3.10.0 of other versions\n")
    assert not environment.is_ready("pipecat")


def test_an_environment_that_cannot_be_made_says_which(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "FOLDER", tmp_path)

    def refuse(*_args, **_kwargs):
        raise subprocess.CalledProcessError(1, ["pip"])

    monkeypatch.setattr(environment.subprocess, "run", refuse)
    with pytest.raises(RuntimeError, match="livekit was not made"):
        environment.prepare("livekit")


def test_contenders_are_named_once_and_climb():
    assert len(BY_NAME) == len(CONTENDERS)
    for each in CONTENDERS:
        assert list(each.calls) == sorted(set(each.calls))
        assert list(each.search) == sorted(set(each.search))
        assert each.is_echo or each.endpoint_ms > 0
    assert Delays().reply in " ".join(contenders._peer_command(BY_NAME["pipecat"], 1, Delays()))


def test_options():
    every = command._options([])
    assert (every.rounds, every.seconds) == (3, 20.0)
    assert every.only == tuple(BY_NAME)
    quick = command._options(["--quick", "--only", "antiphon,livekit", "--parts=load", "--calls=1,300"])
    assert (quick.rounds, quick.only, quick.parts, quick.calls) == (1, ("antiphon", "livekit"), ("load",), (1, 300))
    for wrong in (["--only=nobody"], ["--parts=all"], ["--calls=x"], ["--calls=0"]):
        with pytest.raises(SystemExit):
            command._options(wrong)


def test_the_smoke_form_names_the_peers_that_it_leaves_out(monkeypatch, capsys):
    monkeypatch.setattr(environment, "is_ready", lambda _peer: False)
    monkeypatch.setattr(smoke.stages, "run", lambda *_args, **_kwargs: [])
    monkeypatch.setattr(smoke.text, "run", lambda *_args, **_kwargs: {})
    monkeypatch.setattr(smoke, "SECONDS", 1.0)
    ran = []

    def one_step(self, contender, calls, part, number, **_):
        ran.append(contender.name)

    monkeypatch.setattr(Run, "step", one_step)
    assert smoke.run((0, 1)) == 0
    assert ran == ["floor-c", "floor-picows", "antiphon"]
    said = capsys.readouterr().out
    assert "NOT CHECKED: pipecat" in said
    assert "NOT CHECKED: livekit" in said
