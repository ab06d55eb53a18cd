"""What brings the parts to where they run: bundles, install scripts, phones, boards, and the launcher of `make run`."""
