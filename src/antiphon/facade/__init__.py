"""Antiphon inside somebody else's server: speech in, speech out, one turn at a time.

``AgentOrchestrator.process_turn`` takes what a caller said as a WAV and gives back what to play. These classes are a
façade over the parts that answer phone calls: their circuit breaker, their history, their language rule, their limits.
They are imported from ``antiphon``, or from ``orchestrator`` by code that was written against that name.
"""
