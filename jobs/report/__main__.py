"""Lets `python -m jobs.report recipe.yaml` run the job."""

from jobs.report.job import main

main()
