"""The ranger post: takes alerts and heartbeats from devices, keeps them, and shows them."""
