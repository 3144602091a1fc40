"""What is played in the machine: functions that act there and return what they saw, for tests to judge here."""
