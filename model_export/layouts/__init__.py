"""The folders that people come with: data sets, tutorials' layouts, and label files beside long recordings.

Each module reads some layouts; `read` finds out which one a folder is. All yield `Clip`, as `manifest.csv` does.
"""
