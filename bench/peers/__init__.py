"""The peers: Pipecat and LiveKit Agents behind Twilio's protocol, each in an environment of its own."""
