"""From what an instance says to what the client was promised.

*Fault*: an instance's error, read and turned into ours. *Repair*: making llama-server's native stream exact.
"""
