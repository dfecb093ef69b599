"""Where clients arrive. *Link*: one request on its connection. *Rescue*: the one table from errors to statuses."""
