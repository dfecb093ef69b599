"""What the tests stand on.

fake      a scripted llama-server that can lie, stall and die (behave: how; fake_wire: the bytes it sends)
llama     real llama-servers, started once a session
tiny_gguf a tiny model with a long context, written by us
router    our router as a process
legality  whether bytes are a legal Anthropic event stream
"""
