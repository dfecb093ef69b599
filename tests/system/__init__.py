"""Real clients on real llama-servers, through our router: SDKs, curl, Claude Code, and what `init` writes."""
