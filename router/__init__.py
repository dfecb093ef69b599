"""llama-router: one Messages API endpoint in front of many llama-servers."""

__version__ = "0.0.1"
