"""A real fleet on this machine: two llama-servers and the router before them.

run      what `llama-router demo` does: start the fleet, make one call, stay up
calls    the calls that it makes
fleet    the processes of the fleet and the registry file that names them
llama    one real llama-server, from the xllamacpp wheel (llama_child: the process itself)
process  a child process that cannot outlive its parent (leash: the child's side of that)
"""
