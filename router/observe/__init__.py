"""What is shown of the calls: metrics, and one log line each. Both are made from `wire.record.CallRecord`."""
