"""The ranger's pages; `frame` says how one is added."""
