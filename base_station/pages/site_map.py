"""All pages of the station, each added by its own module."""

from fastapi import FastAPI

from base_station.pages.device import add_device_page
from base_station.pages.device_changes import add_device_adding
from base_station.pages.devices import add_devices
from base_station.pages.frame import Site, add_frame
from base_station.pages.incident import add_incident
from base_station.pages.live import add_live
from base_station.pages.log import add_log
from base_station.pages.login import add_login
from base_station.pages.logs import add_logs
from base_station.pages.map import add_map
from base_station.pages.reports import add_reports
from base_station.pages.review import add_review
from base_station.pages.settings import add_settings


def add_pages(app: FastAPI, site: Site) -> None:
    """Add every page to the API's application; once in a process, since NiceGUI knows one application."""
    add_login(app, site)
    add_live(site)
    add_incident(site)
    add_review(site)
    add_reports(site)
    add_settings(site)
    add_map(app, site)
    add_logs(site)
    add_devices(site)
    add_log(site)
    add_device_adding(site)
    add_device_page(site)
    add_frame(app)
