"""Weeks of recorder files: every file through the agent's own listening loop, on all cores or on a cluster.

In the order of the work: hear (one file) -> work (all files) -> kept (what was done) -> tables (what people open).
"""
