"""The pure kernel: events are folded into state, commands come out. No I/O, no clock, no asyncio."""
