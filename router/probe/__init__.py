"""Looking at instances from outside the calls: is it up, how many slots, what can it do."""
