"""What the tests stand on.

fake      a scripted llama-server that can lie, stall and die; behave: the ways in which it can
llama     real llama-servers, started once a session
tiny_gguf a tiny model with a long context, written by us
router    our router as a process, and registry texts for it; impatient: one that gives up a hung GPU within seconds
figures   what a test tells people at the end of the run
start     the types of the fixtures that start these
legality  whether bytes are a legal Anthropic event stream
"""
