"""Where a call should go: costs per instance, and one decision made of them."""
