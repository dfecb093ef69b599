"""May it start now. *Ticket*: a call that waits. *Desk*: where tickets wait; it decides, others do what it decided."""
