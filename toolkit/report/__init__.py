"""What an artifact is, in pictures and tables: one HTML page, or a model card."""

from toolkit.report.card import model_card
from toolkit.report.images import check_pillow
from toolkit.report.make import make_report
from toolkit.report.page import page
from toolkit.report.pictures import check_folder, write_pictures
from toolkit.report.report import Report

__all__ = ["Report", "check_folder", "check_pillow", "make_report", "model_card", "page", "write_pictures"]
