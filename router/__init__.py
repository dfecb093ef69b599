"""llama-router: one Messages API endpoint in front of many llama-servers."""
