"""The whole report: runs its experiments, records them, and writes them as one page."""

from cifarzoo.report.experiments import EXPERIMENTS, Experiment, experiment_of
from cifarzoo.report.folder import Results, load_results
from cifarzoo.report.page import write_page
from cifarzoo.report.provenance import Machine, Source
from cifarzoo.report.record import Failure, ModeName, Record, Scores
from cifarzoo.report.run_all import run_report
from cifarzoo.report.runs import FinishedRun, RunEnd, RunScore, load_runs

__all__ = [
    "EXPERIMENTS",
    "Experiment",
    "Failure",
    "FinishedRun",
    "Machine",
    "ModeName",
    "Record",
    "Results",
    "RunEnd",
    "RunScore",
    "Scores",
    "Source",
    "experiment_of",
    "load_results",
    "load_runs",
    "run_report",
    "write_page",
]
